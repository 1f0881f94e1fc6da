/* Binarized convolution on packed bits. C11 and C++.

   A map of signs is [row][column][word], its border included: word w holds channels 32 w to 32 w + 31, a bit is 1 for
   +1, and bits beyond the last channel are 0. Weights are [block of BLOCK output channels][tap][word][BLOCK], so that
   the lanes of a vector are output channels and a word of the map is the same for all of them. The convolution is then
   base - 2 * (bits that differ), where base is the number of inputs that there are: taps * channels. */
#ifndef ONEBNET_BITS_H
#define ONEBNET_BITS_H
#include "shape.h"
#include "simd.h"

/* Signs of one pixel, x[c] - alpha[c] > 0 (never of NaN), into its words. */
INLINE void pack_pixel(const float *x, const float *alpha, int channels, uint32_t *words) {
  uint32_t word = 0;
  for (int c = 0; c < channels; c += LANES) {
    int n = channels - c;
    word |= positive(load_some(x + c, n) - load_some(alpha + c, n)) << (c % 32);
    if ((c + LANES) % 32 == 0 || n <= LANES) words[c / 32] = word, word = 0;
  }
}

/* The words of one image [h][w][c], its border included. */
INLINE void pack_image(const Shape *s, const float *x, const float *alpha, uint32_t *bits) {
  for (int r = 0; r < s->padded_h; r++)
    for (int k = 0; k < s->padded_w; k++, bits += s->words) {
      int row = r - s->top, column = k - s->left;
      if (row >= 0 && row < s->h && column >= 0 && column < s->w)
        pack_pixel(x + ((size_t)row * s->w + column) * s->c, alpha, s->c, bits);
      else
        for (int w = 0; w < s->words; w++) {
          int left = s->c - 32 * w;
          bits[w] = !s->pad_value ? 0 : left >= 32 ? ~0u : (1u << left) - 1;
        }
    }
}

/* The signs of `block` output channels, from `first` on, of a kernel [tap][c][o]; channels that are not there are 0. */
INLINE void pack_weights(const Shape *s, const float *kernel, int first, int block, uint32_t *weights) {
  int there = s->o - first < block ? s->o - first : block;
  memset(weights, 0, sizeof(uint32_t) * (size_t)(s->kh * s->kw * s->words) * (size_t)block);
  for (int t = 0; t < s->kh * s->kw; t++)
    for (int c = 0; c < s->c; c++) {
      const float *row = kernel + ((size_t)t * s->c + c) * s->o + first;
      uint32_t *to = weights + ((size_t)t * s->words + c / 32) * block;
      for (int i = 0; i < there; i++) to[i] |= (uint32_t)(row[i] > 0) << (c % 32);
    }
}

/* How many bits differ, for `pixels` neighbours in a row and `vectors` vectors of output channels (constants, at most
   BLOCK_PIXELS and BLOCK / LANES). `run` words of each of `kh` rows are read, `row` apart; pixels are `step` apart. */
#define BLOCK 32
#define BLOCK_VECTORS (BLOCK / LANES)
#define BLOCK_PIXELS (LANES == 16 ? 8 : 2)
INLINE void count_block(int pixels, int vectors, const uint32_t *x, size_t row, int kh, int run, size_t step,
                        const uint32_t *weights, ints differ[BLOCK_PIXELS][BLOCK_VECTORS]) {
  counts sum[BLOCK_PIXELS][BLOCK_VECTORS];
  UNROLL for (int p = 0; p < pixels; p++)
    UNROLL for (int v = 0; v < vectors; v++) sum[p][v] = (counts){0}, differ[p][v] = (ints){0};
  int left = COUNTS;
  for (int i = 0; i < kh; i++, x += row)
    for (int t = 0; t < run; t++, weights += vectors * LANES) {
      ints w[BLOCK_VECTORS];
      UNROLL for (int v = 0; v < vectors; v++) w[v] = load_ints((const int32_t *)weights + v * LANES);
      UNROLL for (int p = 0; p < pixels; p++)
        UNROLL for (int v = 0; v < vectors; v++) sum[p][v] = count_step(sum[p][v], w[v], x[p * step + t]);
      if (COUNTS != INT32_MAX && --left == 0) {
        UNROLL for (int p = 0; p < pixels; p++)
          UNROLL for (int v = 0; v < vectors; v++) differ[p][v] += count_sum(sum[p][v]), sum[p][v] = (counts){0};
        left = COUNTS;
      }
    }
  UNROLL for (int p = 0; p < pixels; p++)
    UNROLL for (int v = 0; v < vectors; v++) differ[p][v] += count_sum(sum[p][v]);
}
#endif
