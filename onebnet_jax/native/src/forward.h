// Forward pass of one image, and what is prepared for it. Part of kernels.cc.

void prepare_weights(const Forward *f, int block) {
  const Shape &s = f->s;
  int taps = s.kh * s.kw, first = block * f->block, width = f->blocks * f->block;
  uint32_t *weights = f->weights + (size_t)block * taps * s.words * f->block;
  pack_weights(&s, f->kernel, first, f->block, weights);
  // Each input that there is counts 1, less 2 for a bit that differs. The border's inputs are not there with padding 0:
  // their bits are 0, so they differ where the weight's is 1, which takes 2 that are given back here.
  for (int a = 0; a < f->classes.rows; a++)
    for (int b = 0; b < f->classes.columns; b++) {
      int r = f->classes.first_row[a], k = f->classes.first_column[b];
      int32_t *base = f->base + ((size_t)a * f->classes.columns + b) * width + first;
      for (int o = 0; o < f->block; o++) base[o] = 0;
      for (int t = 0; t < taps; t++) {
        bool there = s.pad_value || inside(&s, r, k, t / s.kw, t % s.kw);
        for (int o = 0; o < f->block; o++) {
          if (there) base[o] += s.c;
          else
            for (int w = 0; w < s.words; w++)
              base[o] += 2 * __builtin_popcount(weights[((size_t)t * s.words + w) * f->block + o]);
        }
      }
    }
}

// One row of output pixels for one block of output channels.
template <int P, int V>
INLINE void forward_pixels(const Forward *f, const uint32_t *x, const uint32_t *weights, const int32_t *base,
                           const int *column_class, int16_t *to, int there, floats *sum, floats *squares) {
  const Shape &s = f->s;
  ints differ[BLOCK_PIXELS][BLOCK_VECTORS];
  count_block(P, V, x, (size_t)s.padded_w * s.words, s.kh, s.kw * s.words, (size_t)s.sc * s.words, weights, differ);
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int v = 0; v < V; v++) {
      const int32_t *b = base + (size_t)column_class[p] * f->blocks * f->block + v * LANES;
      ints count = load_ints(b) - 2 * differ[p][v];
      floats value = to_floats(count);
      sum[v] += value, squares[v] += value * value;
      if (there > v * LANES) store_shorts(to + (size_t)p * s.o + v * LANES, count, there - v * LANES);
    }
}

template <int V> void forward_rows(const Forward *f, int n, const uint32_t *bits, int block) {
  const Shape &s = f->s;
  int first = block * f->block, there = s.o - first;
  const uint32_t *weights = f->weights + (size_t)block * s.kh * s.kw * s.words * f->block;
  float *part = f->parts + (size_t)n * 2 * f->blocks * f->block + first;
  floats sum[V] = {}, squares[V] = {};
  for (int r = 0; r < s.oh; r++) {
    const int32_t *base = f->base + (size_t)f->classes.row[r] * f->classes.columns * f->blocks * f->block + first;
    int16_t *to = f->counts + ((size_t)n * s.oh + r) * s.ow * s.o + first;
    floats row_sum[V] = {}, row_squares[V] = {};  // added up by row: errors stay small on large maps
    for (int k = 0, pixels; k < s.ow; k += pixels) {
      const uint32_t *x = bits + ((size_t)r * s.sr * s.padded_w + (size_t)k * s.sc) * s.words;
      pixels = even_part(s.ow - k, BLOCK_PIXELS);
      dispatch<BLOCK_PIXELS>(pixels, [&](auto p) {
        forward_pixels<p, V>(f, x, weights, base, f->classes.column + k, to + (size_t)k * s.o, there, row_sum,
                             row_squares);
      });
    }
    for (int v = 0; v < V; v++) sum[v] += row_sum[v], squares[v] += row_squares[v];
  }
  for (int v = 0; v < V; v++) {
    store(part + v * LANES, sum[v]);
    store(part + (size_t)f->blocks * f->block + v * LANES, squares[v]);
  }
}

uint32_t *bits_of(const Forward *f, int n) { return f->bits + (size_t)n * f->s.padded_h * f->s.padded_w * f->s.words; }

void signs(const Forward *f, int n) {
  const Shape &s = f->s;
  pack_image(&s, f->x + (size_t)n * s.h * s.w * s.c, f->alpha, bits_of(f, n));
}

void forward(const Forward *f, int n) {
  signs(f, n);
  const uint32_t *bits = bits_of(f, n);
  for (int b = 0; b < f->blocks; b++) {
    if (f->block == BLOCK) forward_rows<BLOCK_VECTORS>(f, n, bits, b);
    else forward_rows<BLOCK_VECTORS / 2>(f, n, bits, b);
  }
}
