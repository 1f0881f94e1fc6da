/* The primitives for AVX-512 with VPOPCNTDQ: Ice Lake, Zen 4 and later. */
#include "internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512vpopcntdq"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vpopcntdq,tune=icelake-server")
#endif

#define SET onebnet_avx512
#define NAME "avx512"
enum { VL = 16, BINARY_PIXELS = 8, FLOAT_PIXELS = 8, FLOAT_VECTORS = 2, TAPS = 1, ALL = -1, CHUNK = ALL };
typedef __m512 vf;
typedef __m512i vu, vb;
#define F static inline __attribute__((always_inline))

F vf f_load(const float *p) { return _mm512_loadu_ps(p); }
F void f_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
F vf f_set(float x) { return _mm512_set1_ps(x); }
F vf f_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
F vf f_add(vf a, vf b) { return _mm512_add_ps(a, b); }
F vf f_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
F vf f_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
F vf f_max(vf a, vf b) { return _mm512_max_ps(a, b); }
#include "one_tap.h"
F void f_above(const vf *y, const float *threshold, uint32_t *signs) { /* masks are stored without a register between */
  _store_mask16((__mmask16 *)signs, _mm512_cmp_ps_mask(y[0], f_load(threshold), _CMP_GT_OQ));
  _store_mask16((__mmask16 *)signs + 1, _mm512_cmp_ps_mask(y[1], f_load(threshold + VL), _CMP_GT_OQ));
}
#define PRELU
F vf f_prelu(vf y, vf beta) { /* + 0 makes -0 of a ReLU 0, as in the other sets */
  return _mm512_mask_fmadd_ps(y, _mm512_cmp_ps_mask(y, f_set(0), _CMP_LT_OQ), beta, f_set(0));
}

F vb b_load(const uint32_t *p) { return _mm512_loadu_si512(p); }
F vb b_set(uint32_t x) { return _mm512_set1_epi32((int)x); }
F vb b_first(const int32_t *base) { return _mm512_loadu_si512(base); }
F vb b_count(vb sum, vb w, vb x) { return _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(w, x))); }
F vu b_total(vb sum) { return sum; }
F vu u_add(vu a, vu b) { return _mm512_add_epi32(a, b); }
F vu u_load(const int32_t *p) { return _mm512_loadu_si512(p); }
F vf u_value(vu a) { return _mm512_cvtepi32_ps(a); }

#include "kernels.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
