/* The first convolution with all that follows it up to the map and its signs: bias, PReLU, perhaps a max pool. */
#include <string.h>

#include "internal.h"

/* How often each tap is in the combined kernel of each entry of tiles.h, in halves; where each sum's entries begin. */
enum { KERNEL = 7, SUMS = 4, ENTRIES = 10 };
static const int8_t ENTRY[ENTRIES][KERNEL] = {
    {2}, {0, 2}, {0, 0, 0, 0, 0, 0, 2}, {1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1}, {1, 0, -1, 0, 1}, {0, 1, 0, -1, 0, 1},
    {0, 0, 0, 0, 2}, {0, 0, 0, 0, 0, 2}, {0, 0, 0, 0, 0, 0, -2}};
static const int FIRST[SUMS + 1] = {0, 3, 5, 7, 10};

/* Whether the convolution is that of tiles.h, as ResNets begin with. */
static int in_tiles(const Stem *s) {
  return s->pool && s->c == 3 && s->kh == KERNEL && s->kw == KERNEL && s->sr == 2 && s->sc == 2;
}
static int tiles(const Stem *s) { return (s->conv_w + 1) / 2; } /* of a row */

/* Rows of the image, and of the convolution's result before a pool, that are kept. */
static int kept_rows(const Stem *s) { return s->kh + (in_tiles(s) ? s->sr : 0); }
static int ring_rows(const Stem *s) { return in_tiles(s) ? 4 : 3; }

/* Floats of a row of the image in zeros, and of one of the convolution's result. */
static size_t plain_row(const Stem *s) { return padded(s->conv_w, s->sc, s->kw, s->left, s->w) * s->c; }
static size_t image_row(const Stem *s) {
  return in_tiles(s) ? ((size_t)tiles(s) + MOST_TILES) * TILE_FLOATS : plain_row(s);
}
static size_t result_row(const Stem *s) { return (size_t)s->conv_w * blocks(s->out_c) * BLOCK; }

uint64_t onebnet_stem_scratch(const Stem *s) {
  uint64_t floats = (uint64_t)kept_rows(s) * image_row(s) + (s->pool ? (uint64_t)ring_rows(s) * result_row(s) : 0);
  return (floats + (in_tiles(s) ? plain_row(s) + 2 * TILE_FLOATS : 0)) * sizeof(float);
}

size_t onebnet_stem_weights(const Stem *s) {
  return in_tiles(s) ? (size_t)ENTRIES * ENTRIES * s->c * blocks(s->out_c) * BLOCK : 0;
}

/* The combined kernels of a pair of entries: [3][32]. */
static float *combine(float *out, const float *weights, int row, int column) {
  enum { SIZE = 3 * BLOCK };
  double sum[SIZE] = {0};
  for (int y = 0; y < KERNEL; y++)
    for (int x = 0; x < KERNEL; x++) {
      int factor = ENTRY[row][y] * ENTRY[column][x];
      for (int i = 0; factor && i < SIZE; i++) sum[i] += factor * (double)weights[(y * KERNEL + x) * SIZE + i];
    }
  for (int i = 0; i < SIZE; i++) out[i] = (float)(sum[i] / 4);
  return out + SIZE;
}

void onebnet_combine_weights(const onebnet *net, float *out) {
  const Stem *s = &net->header->stem;
  const float *weights = at(net, s->weights);
  if (!in_tiles(s)) return;
  for (int block = 0; block < blocks(s->out_c); block++, weights += KERNEL * KERNEL * 3 * BLOCK)
    for (int i = 0; i < SUMS; i++)
      for (int j = 0; j < SUMS; j++) {
        int pair = FIRST[j], single = pair + 2;
        for (int row = FIRST[i]; row < FIRST[i + 1]; row++)
          out = combine(out, weights, row, pair), out = combine(out, weights, row, pair + 1);
        for (int row = FIRST[i]; row < FIRST[i + 1] && single < FIRST[j + 1]; row++)
          out = combine(out, weights, row, single);
      }
}

/* What the convolution takes for n values of pixels of c channels. */
static inline void look_up(float *restrict out, const uint8_t *restrict pixels, size_t n, size_t c,
                           const float *table) {
  for (size_t i = 0; i < n; i += c)
    for (size_t k = 0; k < c; k++) out[i + k] = table[k * 256 + pixels[i + k]];
}

/* Row y of the image, in zeros, as the convolution takes it. */
static void read_row(const onebnet *net, float *out, int y, const uint8_t *pixels, const float *image) {
  const Stem *s = &net->header->stem;
  size_t n = (size_t)s->w * s->c, c = (size_t)s->c;
  memset(out, 0, plain_row(s) * sizeof(float));
  if (y < 0 || y >= s->h) return;
  out += s->left * c;
  if (pixels) {
    const float *table = at(net, net->header->table);
    pixels += y * n;
    if (c == 3) look_up(out, pixels, n, 3, table); /* a constant, for speed */
    else look_up(out, pixels, n, c, table);
  } else if (net->header->mean) {
    const float *mean = at(net, net->header->mean);
    image += y * n;
    for (size_t i = 0; i < n; i += c)
      for (size_t k = 0; k < c; k++) out[i + k] = image[i + k] - mean[k];
  } else {
    memcpy(out, image + y * n, n * sizeof(float));
  }
}

/* Rows of the convolution: two of tiles, or the first one alone. */
static void convolve_rows(const onebnet *net, const float *const *rows, float *const out[2]) {
  const Stem *s = &net->header->stem;
  int run = s->kw * s->c;
  const float *weights = at(net, s->weights), *bias = at(net, s->bias), *beta = s->beta ? at(net, s->beta) : NULL;
  if (in_tiles(s)) {
    TileRows a = {.columns = s->conv_w, .blocks = blocks(s->out_c), .weights = net->stem_weights, .bias = bias,
                 .beta = beta, .out = {out[0], out[1]}};
    for (int i = 0; i < kept_rows(s); i++) a.rows[i] = rows[i];
    net->kernels->tile_rows(&a);
    return;
  }
  for (int block = 0; block < blocks(s->out_c); block++)
    net->kernels->float_row(&(FloatRow){
        .rows = rows, .count = s->kh, .run = run, .n = s->conv_w, .step = (size_t)s->sc * s->c,
        .weights = weights + (size_t)block * s->kh * run * BLOCK, .bias = bias + block * BLOCK,
        .beta = beta ? beta + block * BLOCK : NULL, .out = out[0] + (size_t)block * s->conv_w * BLOCK});
}

/* A row of the max pool, into the map, from the last rows of the convolution's result. */
static void pool_row(const onebnet *net, const float *ring, int row) {
  const Stem *s = &net->header->stem;
  int n = blocks(s->out_c), first = 2 * row - s->pool_top;
  for (int block = 0; block < n; block++) {
    PoolRow a = {.map_width = s->conv_w, .left = s->pool_left, .n = s->out_w,
                 .out = net->map + ((size_t)row * n + block) * s->out_w * BLOCK};
    for (int i = 0; i < 3; i++)
      a.rows[i] = ring + clamp(first + i, s->conv_h) % ring_rows(s) * result_row(s) + (size_t)block * s->conv_w * BLOCK;
    net->kernels->max_row(&a);
  }
}

static void sign_rows(const onebnet *net, int row) {
  const Stem *s = &net->header->stem;
  const Unit *u = net->units;
  const float *threshold = at(net, u->threshold);
  int n = blocks(s->out_c);
  for (int block = 0; block < n; block++)
    net->kernels->sign_row(net->map + ((size_t)row * n + block) * s->out_w * BLOCK, s->out_w, threshold + block * BLOCK,
                           word_at(u, net->words[0], row, 0) + block, (size_t)n);
}

void onebnet_stem(const onebnet *net, int thread, const uint8_t *pixels, const float *image) {
  const Stem *s = &net->header->stem;
  Range mine = share(net, thread, s->out_h);
  if (mine.first == mine.last) return;
  int kept = kept_rows(s), at_once = in_tiles(s) ? 2 : 1;
  float *input = (float *)(net->scratch + thread * net->scratch_of_thread);
  float *ring = input + kept * image_row(s), *one = ring + ring_rows(s) * result_row(s);
  if (in_tiles(s)) { /* tiles behind the last one are computed too; in zeros none is slow */
    size_t behind = MOST_TILES * TILE_FLOATS;
    for (int i = 1; i <= kept; i++) memset(input + i * image_row(s) - behind, 0, behind * sizeof(float));
    memset(one + plain_row(s), 0, 2 * TILE_FLOATS * sizeof(float));
  }
  int first = mine.first, last = mine.last; /* rows of the convolution */
  if (s->pool) first = 2 * first - s->pool_top, last = 2 * last - s->pool_top + 1;
  if (first < 0) first = 0;
  if (last > s->conv_h) last = s->conv_h;
  first -= first % at_once;
  int pooled = mine.first, next = first * s->sr - s->top;
  for (int row = first; row < last; row += at_once) {
    const float *rows[MAX_KERNEL];
    int y = row * s->sr - s->top, done = row + at_once;
    if (next < y) next = y;
    for (; next < y + kept; next++) {
      float *out = input + (next + s->top) % kept * image_row(s);
      read_row(net, in_tiles(s) ? one : out, next, pixels, image);
      if (in_tiles(s)) net->kernels->tile_columns(one, tiles(s), out);
    }
    for (int i = 0; i < kept; i++) rows[i] = input + (y + i + s->top) % kept * image_row(s);
    float *out[2] = {net->map + row * result_row(s)};
    if (s->pool)
      for (int i = 0; i < at_once; i++) out[i] = ring + (row + i) % ring_rows(s) * result_row(s);
    convolve_rows(net, rows, out);
    if (!s->pool) sign_rows(net, row);
    for (; s->pool && pooled < mine.last && (2 * pooled - s->pool_top + 3 <= done || done >= s->conv_h); pooled++)
      pool_row(net, ring, pooled), sign_rows(net, pooled);
  }
}
