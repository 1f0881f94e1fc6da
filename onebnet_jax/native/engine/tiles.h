/* The first convolution of ResNets, 7x7 of 3 colours with stride 2, by Winograd's minimal filtering: tiles of two rows
   and two columns of results. See kernels.h for the primitives. Along one axis, with inputs d0 to d8 and taps k0 to k6,
   the two results are

     d0 k0 + d1 k1 + ... + d6 k6 = m0 + m1 + m2   where m0 = (D0 - D2) K0 + d6 k6
     d2 k0 + d3 k1 + ... + d8 k6 = m1 - m2 - m3         m1 = (D1 + D2) (K0 + K1 + K2) / 2
                                                        m2 = (D2 - D1) (K0 - K1 + K2) / 2
                                                        m3 = (D1 - D3) K2 - d8 k6

   Dn is the pair d2n and d2n+1, Kn likewise. The four sums m have ten products, the plain way fourteen. Along both axes
   there are 4 x 4 sums with 10 x 10 products for each colour, in place of 14 x 14. Results differ from those of other
   orders of addition by rounding, and no more than these from one another. */
enum { TILES = FLOAT_PIXELS }; /* at once */

/* Each row of an image is prepared once, for n tiles: D0 - D2, D1 - D3, D1 + D2, D2 - D1, d6 and d8, 30 floats and two
   that mean nothing. What a vector writes behind its array, the next array replaces. */
static void tile_columns(const float *row, int n, float *out) {
  for (; n > 0; n--, row += 12, out += TILE_FLOATS) {
    UNROLL for (int i = 0; i < 12; i += VL) f_store(out + i, f_sub(f_load(row + i), f_load(row + 12 + i)));
    UNROLL for (int i = 0; i < 6; i += VL) f_store(out + 12 + i, f_add(f_load(row + 6 + i), f_load(row + 12 + i)));
    UNROLL for (int i = 0; i < 6; i += VL) f_store(out + 18 + i, f_sub(f_load(row + 12 + i), f_load(row + 6 + i)));
    UNROLL for (int i = 0; i < 3; i++) out[24 + i] = row[18 + i], out[27 + i] = row[24 + i];
  }
}

/* The same along the other axis, from nine such rows: ten entries, each a row as it is or two combined in `own`. */
static void combine_rows(const float *const *rows, float (*own)[TILES * TILE_FLOATS], const float **entries) {
  static const int8_t OF[10][3] = {{0, 4, 1}, {1, 5, 1}, {6}, {2, 4}, {3, 5}, {4, 2, 1}, {5, 3, 1}, {2, 6, 1},
                                   {3, 7, 1}, {8}}; /* one row, or two and whether the second is subtracted */
  for (int i = 0; i < 10; i++) {
    const float *a = rows[OF[i][0]], *b = rows[OF[i][1]];
    float *out = OF[i][1] ? *own++ : NULL;
    entries[i] = out ? out : a;
    for (int k = 0; out && k < TILES * TILE_FLOATS; k += VL) {
      vf x = f_load(a + k), y = f_load(b + k);
      f_store(out + k, OF[i][2] ? f_sub(x, y) : f_add(x, y));
    }
  }
}

/* Adds `taps` products to the sum of each tile, and returns where the next weights begin. */
INLINE const float *tile_taps(int taps, const float *x, const float *w, vf sum[TILES][FLOAT_VECTORS]) {
  UNROLL for (int t = 0; t < taps; t += TAPS) {
    vx b[TILES];
    UNROLL for (int p = 0; p < TILES && TAPS > 1; p++) b[p] = x_load(x + TILE_FLOATS * p + t);
    UNROLL for (int i = 0; i < TAPS; i++) {
      if (t + i >= taps) break;
      vf k[FLOAT_VECTORS];
      UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) k[v] = f_load(w + (t + i) * BLOCK + v * VL);
      UNROLL for (int p = 0; p < TILES; p++) {
        if (TAPS == 1) b[p] = x_set(x[TILE_FLOATS * p + t]);
        UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) sum[p][v] = x_fma(b[p], i, k[v], sum[p][v]);
      }
    }
  }
  return w + taps * BLOCK;
}

/* One of the 16 sums of each tile: over pairs of columns, which begin at `pair`, and, unless it is 0, over the columns
   at `single`, of `count` entries. */
INLINE const float *tile_sum(int count, int pair, int single, const float *const *entries, const float *w,
                             vf out[TILES][FLOAT_VECTORS]) {
  vf sum[TILES][FLOAT_VECTORS];
  UNROLL for (int p = 0; p < TILES; p++) UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) sum[p][v] = f_set(0);
  UNROLL for (int i = 0; i < count; i++) w = tile_taps(6, entries[i] + pair, w, sum);
  UNROLL for (int i = 0; i < count && single; i++) w = tile_taps(3, entries[i] + single, w, sum);
  UNROLL for (int p = 0; p < TILES; p++) UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) out[p][v] = sum[p][v];
  return w;
}

/* Functions of their own without a branch: a sum has so few products that a wrongly guessed branch takes as long. */
#define SUM(name, count, pair, single)                                                                       \
  __attribute__((noinline)) static const float *name(const float *const *entries, const float *w,            \
                                                     vf out[TILES][FLOAT_VECTORS]) {                         \
    return tile_sum(count, pair, single, entries, w, out);                                                   \
  }
#define FOUR_SUMS(name, count)                                                                                \
  SUM(name##0, count, 0, 24) SUM(name##1, count, 12, 0) SUM(name##2, count, 18, 0) SUM(name##3, count, 6, 27) \
  INLINE const float *name(const float *const *entries, const float *w, vf m[4][TILES][FLOAT_VECTORS]) {      \
    w = name##0(entries, w, m[0]), w = name##1(entries, w, m[1]), w = name##2(entries, w, m[2]);              \
    return name##3(entries, w, m[3]);                                                                         \
  }
FOUR_SUMS(of_two, 2)
FOUR_SUMS(of_three, 3)

/* Results of the tiles from p0 on, for the channels from c on, which are in this block. */
INLINE void finish_tiles(const TileRows *a, int p0, int block, int c, vf m[4][4][TILES][FLOAT_VECTORS]) {
  for (int p = 0; p < TILES; p++)
    UNROLL for (int v = 0; v < FLOAT_VECTORS; v++) {
      int column = 2 * (p0 + p), channel = c + v * VL;
      size_t place = ((size_t)block * a->columns + column) * BLOCK + channel;
      vf y[2][4]; /* of two rows */
      UNROLL for (int j = 0; j < 4; j++) {
        y[0][j] = f_add(f_add(m[0][j][p][v], m[1][j][p][v]), m[2][j][p][v]);
        y[1][j] = f_sub(f_sub(m[1][j][p][v], m[2][j][p][v]), m[3][j][p][v]);
      }
      UNROLL for (int i = 0; i < 2; i++) {
        y[i][1] = f_add(y[i][1], f_load(a->bias + block * BLOCK + channel)); /* both results take it */
        vf z[2] = {f_add(f_add(y[i][0], y[i][1]), y[i][2]), f_sub(f_sub(y[i][1], y[i][2]), y[i][3])};
        UNROLL for (int j = 0; j < 2; j++) {
          if (a->beta) z[j] = f_prelu(z[j], f_load(a->beta + block * BLOCK + channel));
          if (column + j < a->columns) f_store(a->out[i] + place + j * BLOCK, z[j]);
        }
      }
    }
}

static void tile_rows(const TileRows *rows) {
  const TileRows a = *rows;
  for (int p0 = 0; 2 * p0 < a.columns; p0 += TILES) {
    const float *from[9], *e[10];
    float own[8][TILES * TILE_FLOATS] __attribute__((aligned(64)));
    for (int i = 0; i < 9; i++) from[i] = a.rows[i] + p0 * TILE_FLOATS;
    combine_rows(from, own, e);
    for (int block = 0; block < a.blocks; block++)
      for (int c = 0; c < BLOCK; c += FLOAT_VECTORS * VL) {
        vf m[4][4][TILES][FLOAT_VECTORS];
        const float *w = a.weights + (size_t)block * 300 * BLOCK + c;
        w = of_three(e, w, m[0]), w = of_two(e + 3, w, m[1]), w = of_two(e + 5, w, m[2]), of_three(e + 7, w, m[3]);
        finish_tiles(&a, p0, block, c, m);
      }
  }
}
