/* The primitives in plain C, for any CPU. Where the compiler is told of no fused multiply-add, a product is rounded
   before it is added: results then differ from those of the other sets by rounding. */
#include "internal.h"

#define SET onebnet_plain
#define NAME "plain"
enum { VL = 8, BINARY_PIXELS = 1, FLOAT_PIXELS = 2, FLOAT_VECTORS = 2, TAPS = 1, ALL = -1, CHUNK = ALL };
typedef struct { float of[VL]; } vf;
typedef struct { uint32_t of[VL]; } vu;
typedef vu vb;
#define EACH for (int i = 0; i < VL; i++)
#define F static inline

F vf f_load(const float *p) { vf r; EACH r.of[i] = p[i]; return r; }
F void f_store(float *p, vf a) { EACH p[i] = a.of[i]; }
F vf f_set(float x) { vf r; EACH r.of[i] = x; return r; }
#ifdef __FP_FAST_FMAF
F vf f_fma(vf a, vf b, vf c) { EACH c.of[i] = __builtin_fmaf(a.of[i], b.of[i], c.of[i]); return c; }
#else
F vf f_fma(vf a, vf b, vf c) { EACH c.of[i] = a.of[i] * b.of[i] + c.of[i]; return c; }
#endif
F vf f_add(vf a, vf b) { EACH a.of[i] += b.of[i]; return a; }
F vf f_sub(vf a, vf b) { EACH a.of[i] -= b.of[i]; return a; }
F vf f_mul(vf a, vf b) { EACH a.of[i] *= b.of[i]; return a; }
F vf f_max(vf a, vf b) { EACH a.of[i] = a.of[i] > b.of[i] ? a.of[i] : b.of[i]; return a; }
F vf f_min(vf a, vf b) { EACH a.of[i] = a.of[i] < b.of[i] ? a.of[i] : b.of[i]; return a; }
#include "one_tap.h"
F void f_above(const vf *y, const float *threshold, uint32_t *signs) {
  uint32_t mask = 0;
  for (int c = 0; c < BLOCK; c++) mask |= (uint32_t)(y[c / VL].of[c % VL] > threshold[c]) << c;
  *signs = mask;
}

F vb b_load(const uint32_t *p) { vb r; EACH r.of[i] = p[i]; return r; }
F vb b_set(uint32_t x) { vb r; EACH r.of[i] = x; return r; }
F vb b_first(const int32_t *base) { vb r; EACH r.of[i] = (uint32_t)base[i]; return r; }
F uint32_t ones(uint32_t x) { /* pairs, nibbles, bytes, all */
  x -= x >> 1 & 0x55555555u;
  x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
  return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}
F vb b_count(vb sum, vb w, vb x) { EACH sum.of[i] += ones(w.of[i] ^ x.of[i]); return sum; }
F vu b_total(vb sum) { return sum; }
F vu u_add(vu a, vu b) { EACH a.of[i] += b.of[i]; return a; }
F vu u_load(const int32_t *p) { return b_first(p); }
F vf u_value(vu a) { vf r; EACH r.of[i] = (float)(int32_t)a.of[i]; return r; }

#include "kernels.h"
