/* The primitives for AVX2 with FMA: Haswell, Zen and later. */
#include "internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define SET onebnet_avx2
#define NAME "avx2"
/* Bits are counted in bytes, of which each takes 31 words of at most 8. */
enum { VL = 8, BINARY_PIXELS = 2, FLOAT_PIXELS = 6, FLOAT_VECTORS = 2, TAPS = 1, ALL = -1, CHUNK = 31 };
typedef __m256 vf;
typedef __m256i vu, vb;
#define F static inline __attribute__((always_inline))

F vf f_load(const float *p) { return _mm256_loadu_ps(p); }
F void f_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
F vf f_set(float x) { return _mm256_set1_ps(x); }
F vf f_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
F vf f_add(vf a, vf b) { return _mm256_add_ps(a, b); }
F vf f_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
F vf f_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
F vf f_max(vf a, vf b) { return _mm256_max_ps(a, b); }
F vf f_min(vf a, vf b) { return _mm256_min_ps(a, b); }
#include "one_tap.h"
F void f_above(const vf *y, const float *threshold, uint32_t *signs) {
  uint32_t mask = 0;
  for (int v = 0; v < BLOCK / VL; v++)
    mask |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(y[v], f_load(threshold + VL * v), _CMP_GT_OQ)) << (VL * v);
  *signs = mask;
}

F vb b_load(const uint32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
F vb b_set(uint32_t x) { return _mm256_set1_epi32((int)x); }
F vb b_first(const int32_t *base) { return (void)base, b_set(0); }
F vb b_count(vb sum, vb w, vb x) { /* a table of the bits of each half byte */
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                         2, 3, 2, 3, 3, 4);
  const __m256i half = _mm256_set1_epi8(15);
  __m256i differ = _mm256_xor_si256(w, x);
  __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(differ, half));
  __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(differ, 4), half));
  return _mm256_add_epi8(sum, _mm256_add_epi8(low, high));
}
F vu b_total(vb sum) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(sum, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}
F vu u_add(vu a, vu b) { return _mm256_add_epi32(a, b); }
F vu u_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
F vf u_value(vu a) { return _mm256_cvtepi32_ps(a); }

#include "kernels.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
