/* The kernels, written once. The file that includes this one defines the primitives of an instruction set:

   VL                            lanes of a vector; lanes are channels
   vf, f_load ... f_min, f_fma   vectors of float; f_fma(a, b, c) = a * b + c
   vx, x_load, x_set, x_fma      TAPS values of a pixel, loaded at once, or one; x_fma(x, t, b, c) = value t * b + c
   f_above(y, threshold)         bit c set where channel c of a whole block is above its threshold
   vb, b_load, b_set, b_count    words of 32 signs; b_count(sum, w, x) adds for each lane how many signs differ,
   CHUNK                         at most so many times before, or ALL
   vu, b_total, u_add, u_value   ... b_total gives whole numbers
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
      case 9: if (most >= 9) { CODE(9); } break;                 \
      case 10: if (most >= 10) { CODE(10); } break;              \
      case 11: if (most >= 11) { CODE(11); } break;              \
      case 12: if (most >= 12) { CODE(12); } break;              \
      case 13: if (most >= 13) { CODE(13); } break;              \
      case 14: if (most >= 14) { CODE(14); } break;              \
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

INLINE vf prelu(vf y, const float *beta) { return f_fma(f_load(beta), f_min(y, f_set(0)), f_max(y, f_set(0))); }

INLINE void float_block(int P, const FloatRow *a, int p0, int v0) {
  vf sum[FLOAT_PIXELS][FLOAT_VECTORS];
  const float *w = a->weights + v0 * VL;
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) sum[p][v] = f_load(a->bias + (v0 + v) * VL);
  for (int i = 0; i < a->count; i++) {
    const float *x = a->rows[i] + (size_t)p0 * a->step;
    int t = 0;
    for (; t + TAPS <= a->run; t += TAPS, w += TAPS * BLOCK) float_taps(P, TAPS, a, x + t, w, sum);
    for (; TAPS > 1 && t < a->run; t++, w += BLOCK) float_taps(P, 1, a, x + t, w, sum);
  }
  if (a->beta)
    UNROLL for (int p = 0; p < P; p++)
      UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) sum[p][v] = prelu(sum[p][v], a->beta + (v0 + v) * VL);
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int v = 0; v < FLOAT_VECTORS; v++)
      f_store(a->out + (size_t)(p0 + p) * BLOCK + (v0 + v) * VL, sum[p][v]);
}

static void float_row(const FloatRow *row) {
  const FloatRow a = *row; /* a copy that no store can change */
#define CODE(P) for (int v0 = 0; v0 < NV; v0 += FLOAT_VECTORS) float_block(P, &a, p0, v0)
  IN_BLOCKS(a.n, FLOAT_PIXELS, CODE)
#undef CODE
}

/* Adds, for each pixel and output channel, how many signs of words from..to of a row of a window differ. */
INLINE void count_words(int P, const BinaryRow *a, const uint32_t *x, const uint32_t *w, int from, int to,
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

/* The same for whole windows. */
INLINE void count_block(int P, const BinaryRow *a, const uint32_t *x, vu total[][NV]) {
  const uint32_t *w = a->weights;
  vb sum[BINARY_PIXELS][NV];
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < NV; v++) sum[p][v] = b_set(0);
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

/* Multiplier, bias, shortcut, PReLU, and the next signs. usual: a constant, whether the unit is known to have all of
   these and no gamma and zeta. Constants of a block stay in registers where a block has few vectors. */
INLINE void finish_block(int P, const BinaryRow *a, int p0, vu total[][NV], int usual) {
  vf multiplier[NV], bias[NV], beta[NV];
  UNROLL for (int p = 0; p < P; p++) {
    vf y[NV];
    float *map = a->map + (size_t)(p0 + p) * BLOCK;
    const int32_t *base = a->base + a->columns[p0 + p] * a->class_step;
    if (p == 0 || NV > 2)
      UNROLL for (int v = 0; v < NV; v++) {
        multiplier[v] = f_load(a->multiplier + v * VL), bias[v] = f_load(a->bias + v * VL);
        beta[v] = f_load(a->beta + v * VL);
      }
    UNROLL for (int v = 0; v < NV; v++) y[v] = f_fma(u_value(base + v * VL, total[p][v]), multiplier[v], bias[v]);
    if (usual || a->add) UNROLL for (int v = 0; v < NV; v++) y[v] = f_add(y[v], f_load(map + v * VL));
    if (!usual && a->gamma) UNROLL for (int v = 0; v < NV; v++) y[v] = f_sub(y[v], f_load(a->gamma + v * VL));
    UNROLL for (int v = 0; v < NV; v++) y[v] = f_fma(beta[v], f_min(y[v], f_set(0)), f_max(y[v], f_set(0)));
    if (!usual && a->zeta) UNROLL for (int v = 0; v < NV; v++) y[v] = f_add(y[v], f_load(a->zeta + v * VL));
    if (!usual && a->add_last) UNROLL for (int v = 0; v < NV; v++) y[v] = f_add(y[v], f_load(map + v * VL));
    if (usual || a->store) UNROLL for (int v = 0; v < NV; v++) f_store(map + v * VL, y[v]);
    if (usual || a->threshold) a->signs[(size_t)(p0 + p) * a->sign_step] = f_above(y, a->threshold);
  }
}

static void binary_row(const BinaryRow *row) {
  const BinaryRow a = *row;
  const int usual = a.add && a.store && a.threshold && !a.gamma && !a.zeta && !a.add_last;
#define CODE(P)                                                        \
  {                                                                    \
    vu total[BINARY_PIXELS][NV];                                       \
    count_block(P, &a, a.words + (size_t)p0 * a.step, total);          \
    if (usual) finish_block(P, &a, p0, total, 1);                      \
    else finish_block(P, &a, p0, total, 0);                            \
  }
  IN_BLOCKS(a.n, BINARY_PIXELS, CODE)
#undef CODE
}

/* The columns of a window that lie inside the map. */
INLINE void inside(const WindowRow *a, int p, int *from, int *to) {
  int start = p * a->step - a->left, end = start + a->width;
  *from = start < 0 ? 0 : start;
  *to = end > a->map_width ? a->map_width : end;
}

static void max_row(const WindowRow *row) {
  const WindowRow a = *row;
  for (int p = 0, from, to; p < a.n; p++) {
    inside(&a, p, &from, &to);
    vf y[NV];
    UNROLL for (int v = 0; v < NV; v++) y[v] = f_load(a.rows[0] + (size_t)from * BLOCK + v * VL);
    for (int r = 0; r < a.height; r++)
      for (int c = from; c < to; c++)
        UNROLL for (int v = 0; v < NV; v++) y[v] = f_max(y[v], f_load(a.rows[r] + (size_t)c * BLOCK + v * VL));
    UNROLL for (int v = 0; v < NV; v++) f_store(a.out + (size_t)p * BLOCK + v * VL, y[v]);
  }
}

static void mean_row(const WindowRow *row) {
  const WindowRow a = *row;
  for (int p = 0, from, to; p < a.n; p++) {
    inside(&a, p, &from, &to);
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
    *signs = f_above(y, threshold);
  }
}

const Kernels SET = {NAME, float_row, binary_row, max_row, mean_row, sign_row};
