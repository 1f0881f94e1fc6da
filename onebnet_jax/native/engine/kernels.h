/* The kernels, written once. The file that includes this one defines the primitives of an instruction set:

   VL                            lanes of a vector; lanes are channels
   vf, f_load ... f_max, f_fma   vectors of float; f_fma(a, b, c) = a * b + c; f_min where there is no f_prelu
   vx, x_load, x_set, x_fma      TAPS values of a pixel, loaded at once, or one; x_fma(x, t, b, c) = value t * b + c
   f_above(y, threshold, signs)  sets bit c of *signs where channel c of a whole block is above its threshold
   vb, b_load, b_set, b_count    words of 32 signs; b_count(sum, w, x) adds for each lane how many signs differ,
   CHUNK                         at most so many times before
   vu, b_total, u_load, u_add,   ... b_total gives whole numbers, and u_value their floats. Where vb counts in whole
   u_value, b_first              numbers itself, CHUNK is ALL, and b_first(p) begins with those at p
   BINARY_PIXELS                 pixels that a binarized convolution takes at once, and a float one,
   FLOAT_PIXELS, FLOAT_VECTORS   and vectors of the block's channels: as many sums as registers hold

   The number of pixels P is an inlined constant wherever it is used; arrays are of the greatest P, as one whose length
   is a parameter would lie in memory, at half the speed and without a warning. */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
enum { NV = BLOCK / VL };

/* Runs CODE(P) for each of the blocks that n pixels are cut into, none larger than `most`, all about equal. */
#define IN_BLOCKS(n, most, CODE)                                 \
  for (int p0 = 0, size; p0 < (n); p0 += size) {                 \
    int left = (n) - p0, count = (left + (most) - 1) / (most);   \
    size = (left + count - 1) / count;                           \
    switch (size) {                                              \
      case 1: CODE(1); break;                                    \
      case 2: if (most >= 2) { CODE(2); } break;                 \
      case 3: if (most >= 3) { CODE(3); } break;                 \
      case 4: if (most >= 4) { CODE(4); } break;                 \
      case 5: if (most >= 5) { CODE(5); } break;                 \
      case 6: if (most >= 6) { CODE(6); } break;                 \
      case 7: if (most >= 7) { CODE(7); } break;                 \
      case 8: if (most >= 8) { CODE(8); } break;                 \
    }                                                            \
  }

/* Adds `taps` products, TAPS or 1, to each sum. */
INLINE void float_taps(int P, int taps, const FloatRow *a, const float *x, const float *w, vf sum[][FLOAT_VECTORS]) {
  vx b[FLOAT_PIXELS];
  if (TAPS > 1)
    UNROLL for (int p = 0; p < P; p++) b[p] = taps > 1 ? x_load(x + p * a->step) : x_set(x[p * a->step]);
  UNROLL for (int t = 0; t < taps; t++) {
    vf k[FLOAT_VECTORS];
    UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) k[v] = f_load(w + t * BLOCK + v * VL);
    UNROLL for (int p = 0; p < P; p++) {
      if (TAPS == 1) b[p] = x_set(x[p * a->step]);
      UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) sum[p][v] = x_fma(b[p], t, k[v], sum[p][v]);
    }
  }
}

#ifndef PRELU
INLINE vf f_prelu(vf y, vf beta) { return f_fma(beta, f_min(y, f_set(0)), f_max(y, f_set(0))); }
#endif

INLINE void float_block(int P, const FloatRow *a, int p0, int v0) {
  vf sum[FLOAT_PIXELS][FLOAT_VECTORS];
  const float *w = a->weights + v0 * VL;
  const float *first = a->bias ? a->bias : a->out + (size_t)p0 * BLOCK;
  const size_t next = a->bias ? 0 : BLOCK;
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) sum[p][v] = f_load(first + p * next + (v0 + v) * VL);
  for (int i = 0; i < a->count; i++) {
    const float *x = a->rows[i] + (size_t)p0 * a->step;
    int t = 0;
    for (; TAPS == 1 && t + 7 <= a->run; t += 7, w += 7 * BLOCK) /* of a first convolution's 21 values a third */
      UNROLL for (int i = 0; i < 7; i++) float_taps(P, 1, a, x + t + i, w + i * BLOCK, sum);
    for (; t + TAPS <= a->run; t += TAPS, w += TAPS * BLOCK) float_taps(P, TAPS, a, x + t, w, sum);
    for (; TAPS > 1 && t < a->run; t++, w += BLOCK) float_taps(P, 1, a, x + t, w, sum);
  }
  if (a->beta)
    UNROLL for (int p = 0; p < P; p++)
      UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) sum[p][v] = f_prelu(sum[p][v], f_load(a->beta + (v0 + v) * VL));
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int v = 0; v < FLOAT_VECTORS; v++)
      f_store(a->out + (size_t)(p0 + p) * BLOCK + (v0 + v) * VL, sum[p][v]);
}

static void float_row(const FloatRow *row) {
  const FloatRow a = *row;
#define CODE(P) for (int v0 = 0; v0 < NV; v0 += FLOAT_VECTORS) float_block(P, &a, p0, v0)
  IN_BLOCKS(a.n, FLOAT_PIXELS, CODE)
#undef CODE
}

/* Adds, for each pixel and output channel, how many signs of words from..to of a row of a window differ. */
INLINE void count_words(int P, const Binary *a, const uint32_t *x, const uint32_t *w, int from, int to,
                        vb sum[][NV]) {
  for (int t = from; t < to; t++, w += BLOCK) {
    vb b[BINARY_PIXELS];
    UNROLL for (int p = 0; p < P; p++) b[p] = b_set(x[p * a->step + t]);
    UNROLL for (int v = 0; v < NV; v++) {
      vb k = b_load(w + v * VL);
      UNROLL for (int p = 0; p < P; p++) sum[p][v] = b_count(sum[p][v], k, b[p]);
    }
  }
}

/* The same for whole windows; usual: a constant, see binary_row. */
INLINE void count_block(int P, int usual, const Binary *a, const uint32_t *x, const int32_t *const *base,
                        vu total[][NV]) {
  const uint32_t *w = a->weights;
  vb sum[BINARY_PIXELS][NV];
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int v = 0; v < NV; v++) sum[p][v] = usual ? b_first(base[p] + v * VL) : b_set(0);
  if (CHUNK == ALL || a->kh * a->run <= CHUNK) {
    for (int row = 0; row < a->kh; row++, x += a->row_words, w += (size_t)a->run * BLOCK)
      count_words(P, a, x, w, 0, a->run, sum);
    UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < NV; v++) total[p][v] = b_total(sum[p][v]);
    return;
  }
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < NV; v++) total[p][v] = b_total(sum[p][v]);
  for (int row = 0, from = 0; row < a->kh;) {
    for (int room = CHUNK; room > 0 && row < a->kh;) {
      int to = a->run - from < room ? a->run : from + room;
      count_words(P, a, x, w, from, to, sum);
      w += (size_t)(to - from) * BLOCK, room -= to - from, from = to;
      if (from == a->run) from = 0, row++, x += a->row_words;
    }
    UNROLL for (int p = 0; p < P; p++)
      UNROLL for (int v = 0; v < NV; v++) total[p][v] = u_add(total[p][v], b_total(sum[p][v])), sum[p][v] = b_set(0);
  }
}

/* The base, multiplier, bias, shortcut, PReLU, and the next signs. */
INLINE void finish_block(int P, int usual, const Binary *a, const int32_t *const *base, float *map, uint32_t *signs,
                         vu total[][NV]) {
  UNROLL for (int p = 0; p < P; p++, map += BLOCK, signs += a->sign_step) {
    vf y[NV];
    UNROLL for (int v = 0; v < NV; v++) {
      if (!usual && a->odd) /* exact: the sums are below 2^23 */
        y[v] = f_fma(u_value(u_load(base[p] + v * VL)), f_set(0.5f), u_value(total[p][v]));
      else
        y[v] = u_value(usual ? total[p][v] : u_add(total[p][v], u_load(base[p] + v * VL)));
    }
    UNROLL for (int v = 0; v < NV; v++) y[v] = f_fma(y[v], f_load(a->multiplier + v * VL), f_load(a->bias + v * VL));
    if (usual || a->add) UNROLL for (int v = 0; v < NV; v++) y[v] = f_add(y[v], f_load(map + v * VL));
    if (!usual && a->gamma) UNROLL for (int v = 0; v < NV; v++) y[v] = f_sub(y[v], f_load(a->gamma + v * VL));
    UNROLL for (int v = 0; v < NV; v++) y[v] = f_prelu(y[v], f_load(a->beta + v * VL));
    if (!usual && a->zeta) UNROLL for (int v = 0; v < NV; v++) y[v] = f_add(y[v], f_load(a->zeta + v * VL));
    if (!usual && a->add_last) UNROLL for (int v = 0; v < NV; v++) y[v] = f_add(y[v], f_load(map + v * VL));
    if (usual || a->store) UNROLL for (int v = 0; v < NV; v++) f_store(map + v * VL, y[v]);
    if (usual || a->threshold) f_above(y, a->threshold, signs);
  }
}

static void binary_row(const Binary *binary, const uint32_t *words, const int32_t *base, float *map, uint32_t *signs) {
  const Binary a = *binary; /* a copy that no store can change */
  /* What most units do, without branches and beginning with the base; elsewhere the branches are a smaller share. */
  const int usual = CHUNK == ALL && a.add && a.store && a.threshold && !(a.odd || a.gamma || a.zeta || a.add_last);
#define CODE(P)                                                                            \
  {                                                                                        \
    vu total[BINARY_PIXELS][NV];                                                           \
    const int32_t *bases[BINARY_PIXELS];                                                   \
    UNROLL for (int p = 0; p < P; p++) bases[p] = base + a.columns[p0 + p] * a.class_step; \
    if (usual) {                                                                           \
      count_block(P, 1, &a, words, bases, total);                                          \
      finish_block(P, 1, &a, bases, map, signs, total);                                    \
    } else {                                                                               \
      count_block(P, 0, &a, words, bases, total);                                          \
      finish_block(P, 0, &a, bases, map, signs, total);                                    \
    }                                                                                      \
    words += P * a.step, map += P * BLOCK, signs += P * a.sign_step;                       \
  }
  IN_BLOCKS(a.n, BINARY_PIXELS, CODE)
#undef CODE
}

/* The largest of a column of three rows. */
INLINE void column_max(const PoolRow *a, int column, vf y[NV]) {
  size_t place = (size_t)clamp(column, a->map_width) * BLOCK;
  UNROLL for (int v = 0; v < NV; v++, place += VL)
    y[v] = f_max(f_max(f_load(a->rows[0] + place), f_load(a->rows[1] + place)), f_load(a->rows[2] + place));
}

static void max_row(const PoolRow *row) {
  const PoolRow a = *row;
  vf last[NV], y[NV]; /* a window's last column is the next one's first */
  column_max(&a, -a.left, last);
  for (int p = 0; p < a.n; p++) {
    column_max(&a, 2 * p - a.left + 1, y);
    UNROLL for (int v = 0; v < NV; v++) y[v] = f_max(last[v], y[v]);
    column_max(&a, 2 * p - a.left + 2, last);
    UNROLL for (int v = 0; v < NV; v++) f_store(a.out + (size_t)p * BLOCK + v * VL, f_max(y[v], last[v]));
  }
}

static void mean_row(const WindowRow *row) {
  const WindowRow a = *row;
  for (int p = 0; p < a.n; p++) {
    int from = p * a.step, to = from + a.width < a.map_width ? from + a.width : a.map_width;
    vf y[NV], share = f_set(1.0f / (float)(a.height * (to - from)));
    UNROLL for (int v = 0; v < NV; v++) y[v] = f_set(0);
    for (int r = 0; r < a.height; r++)
      for (int c = from; c < to; c++)
        UNROLL for (int v = 0; v < NV; v++) y[v] = f_add(y[v], f_load(a.in + r * a.row_step + c * BLOCK + v * VL));
    UNROLL for (int v = 0; v < NV; v++) f_store(a.out + (size_t)p * BLOCK + v * VL, f_mul(y[v], share));
  }
}

static void sign_row(const float *in, int n, const float *threshold, uint32_t *signs, size_t sign_step) {
  for (int p = 0; p < n; p++, in += BLOCK, signs += sign_step) {
    vf y[NV];
    for (int v = 0; v < NV; v++) y[v] = f_load(in + v * VL);
    f_above(y, threshold, signs);
  }
}

#include "tiles.h"

const Kernels SET = {NAME, float_row, tile_columns, tile_rows, binary_row, max_row, mean_row, sign_row};
