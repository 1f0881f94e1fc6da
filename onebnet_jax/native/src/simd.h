/* Vectors, and the few operations on them that differ between instruction sets. C11 and C++.

   One file of kernels is compiled once for each instruction set; the macro FLAVOR names it. Each simd_NAME.h says
     LANES    32-bit lanes of a vector
     COUNTS   how many words `count_step` may add before `count_sum` has to be taken
   and defines `positive`, `count_step` and `count_sum`; of what only one way to take gradients needs, simd_avx512.h has
   permutations (permuted_map_gradient.h says of what), the others `transpose`: of LANES vectors, vector i gets lane i of
   each. Everything else is written with operators, which compilers know for vectors. */
#ifndef ONEBNET_SIMD_H
#define ONEBNET_SIMD_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

#if defined(__AVX512BW__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#else
#include "simd_plain.h"
#endif

/* Aligned to 4 bytes only: GCC then reads and writes unaligned. */
typedef float floats_at __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints_at __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int16_t shorts_at __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

INLINE floats splat(float x) { return x - (floats){0}; }
INLINE floats load(const float *p) { return *(const floats_at *)p; }
INLINE void store(float *p, floats x) { *(floats_at *)p = x; }
INLINE ints load_ints(const int32_t *p) { return *(const ints_at *)p; }
INLINE floats to_floats(ints x) { return __builtin_convertvector(x, floats); }

/* The same where only `n` of the lanes are there: the others read as 0 and are not written. */
INLINE floats load_some(const float *p, int n) {
  if (n >= LANES) return load(p);
  floats x = {0};
  memcpy(&x, p, 4 * (size_t)n);
  return x;
}
INLINE void store_some(float *p, floats x, int n) {
  if (n >= LANES) store(p, x);
  else memcpy(p, &x, 4 * (size_t)n);
}
INLINE floats load_shorts(const int16_t *p, int n) {
  shorts_at x = {0};
  if (n >= LANES) x = *(const shorts_at *)p;
  else memcpy(&x, p, 2 * (size_t)n);
  return __builtin_convertvector(x, floats);
}
INLINE void store_shorts(int16_t *p, ints x, int n) {
  shorts_at y = __builtin_convertvector(x, shorts_at);
  if (n >= LANES) *(shorts_at *)p = y;
  else memcpy(p, &y, 2 * (size_t)n);
}
#endif
