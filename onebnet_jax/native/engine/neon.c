/* The primitives for NEON, which every 64-bit ARM CPU has. */
#include "internal.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define SET onebnet_neon
#define NAME "neon"
/* Bits are counted in bytes, of which each takes 31 words of at most 8. */
enum { VL = 4, BINARY_PIXELS = 2, FLOAT_PIXELS = 8, FLOAT_VECTORS = 2, TAPS = 4, ALL = -1, CHUNK = 31 };
typedef float32x4_t vf;
typedef int32x4_t vu;
typedef uint8x16_t vb;
#define F static inline __attribute__((always_inline))

F vf f_load(const float *p) { return vld1q_f32(p); }
F void f_store(float *p, vf a) { vst1q_f32(p, a); }
F vf f_set(float x) { return vdupq_n_f32(x); }
F vf f_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
F vf f_add(vf a, vf b) { return vaddq_f32(a, b); }
F vf f_sub(vf a, vf b) { return vsubq_f32(a, b); }
F vf f_mul(vf a, vf b) { return vmulq_f32(a, b); }
F vf f_max(vf a, vf b) { return vmaxq_f32(a, b); }
F vf f_min(vf a, vf b) { return vminq_f32(a, b); }
typedef float32x4_t vx; /* four pixel values */
F vx x_set(float x) { return vdupq_n_f32(x); }
F vx x_load(const float *p) { return vld1q_f32(p); }
F vf x_fma(vx x, int t, vf b, vf c) { /* t is a constant wherever this is inlined */
  switch (t) {
    case 0: return vfmaq_laneq_f32(c, b, x, 0);
    case 1: return vfmaq_laneq_f32(c, b, x, 1);
    case 2: return vfmaq_laneq_f32(c, b, x, 2);
    default: return vfmaq_laneq_f32(c, b, x, 3);
  }
}
F void f_above(const vf *y, const float *threshold, uint32_t *signs) {
  static const uint32_t bits[4] = {1, 2, 4, 8};
  uint32x4_t place = vld1q_u32(bits), mask = vdupq_n_u32(0);
  for (int v = BLOCK / VL - 1; v >= 0; v--)
    mask = vorrq_u32(vshlq_n_u32(mask, 4), vandq_u32(vcgtq_f32(y[v], f_load(threshold + VL * v)), place));
  *signs = vaddvq_u32(mask);
}

F vb b_load(const uint32_t *p) { return vreinterpretq_u8_u32(vld1q_u32(p)); }
F vb b_set(uint32_t x) { return vreinterpretq_u8_u32(vdupq_n_u32(x)); }
F vb b_first(const int32_t *base) { return (void)base, b_set(0); }
F vb b_count(vb sum, vb w, vb x) { return vaddq_u8(sum, vcntq_u8(veorq_u8(w, x))); }
F vu b_total(vb sum) { return vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(sum))); }
F vu u_add(vu a, vu b) { return vaddq_s32(a, b); }
F vu u_load(const int32_t *p) { return vld1q_s32(p); }
F vf u_value(vu a) { return vcvtq_f32_s32(a); }

#include "kernels.h"
#endif
