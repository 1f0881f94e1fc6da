/* The primitives for WebAssembly with SIMD128, as all browsers have it since 2023. It knows no fused multiply-add, so
   that it gives the bits of `plain`, not those of the other sets. */
#include "internal.h"

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#define SET onebnet_wasm
#define NAME "wasm"
/* Bits are counted in bytes, of which each takes 31 words of at most 8. */
enum { VL = 4, BINARY_PIXELS = 2, FLOAT_PIXELS = 4, FLOAT_VECTORS = 2, TAPS = 1, ALL = -1, CHUNK = 31 };
typedef v128_t vf, vu, vb;
#define F static inline __attribute__((always_inline))

F vf f_load(const float *p) { return wasm_v128_load(p); }
F void f_store(float *p, vf a) { wasm_v128_store(p, a); }
F vf f_set(float x) { return wasm_f32x4_splat(x); }
F vf f_add(vf a, vf b) { return wasm_f32x4_add(a, b); }
F vf f_sub(vf a, vf b) { return wasm_f32x4_sub(a, b); }
F vf f_mul(vf a, vf b) { return wasm_f32x4_mul(a, b); }
F vf f_fma(vf a, vf b, vf c) { return f_add(f_mul(a, b), c); }
F vf f_max(vf a, vf b) { return wasm_f32x4_pmax(b, a); } /* a > b ? a : b, one instruction of x86; max takes several */
F vf f_min(vf a, vf b) { return wasm_f32x4_pmin(b, a); }
#include "one_tap.h"
F void f_above(const vf *y, const float *threshold, uint32_t *signs) {
  uint32_t mask = 0;
  for (int v = 0; v < BLOCK / VL; v++)
    mask |= (uint32_t)wasm_i32x4_bitmask(wasm_f32x4_gt(y[v], f_load(threshold + VL * v))) << (VL * v);
  *signs = mask;
}

F vb b_load(const uint32_t *p) { return wasm_v128_load(p); }
F vb b_set(uint32_t x) { return wasm_i32x4_splat((int)x); }
F vb b_first(const int32_t *base) { return (void)base, b_set(0); }
F vb b_count(vb sum, vb w, vb x) { return wasm_i8x16_add(sum, wasm_i8x16_popcnt(wasm_v128_xor(w, x))); }
F vu b_total(vb sum) { return wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(sum)); }
F vu u_add(vu a, vu b) { return wasm_i32x4_add(a, b); }
F vu u_load(const int32_t *p) { return wasm_v128_load(p); }
F vf u_value(vu a) { return wasm_f32x4_convert_i32x4(a); }

#include "kernels.h"
#endif
