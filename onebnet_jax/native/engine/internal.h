/* What the parts of the library share: rows of work for the kernels, and a net. */
#ifndef ONEBNET_INTERNAL_H
#define ONEBNET_INTERNAL_H
#include <stdatomic.h>

#include "format.h"
#include "onebnet.h"

/* Float maps are [row][block of 32 channels][column][32]; maps of signs are [row][column][block] words in a border. */

/* out[p] = PReLU of: bias + the sum over `count` rows i and t < run of rows[i][p * step + t] * weights[i][t], each [32];
   p < n. Without a bias (NULL) the sum goes on from what out[p] has. Terms are added in this order, each by one fused
   multiply-add, whatever the instruction set. */
typedef struct {
  const float *const *rows;
  int count, run, n;
  size_t step;
  const float *weights, *bias, *beta; /* beta: NULL for no PReLU */
  float *out;
} FloatRow;

/* A binarized convolution for 32 output channels, and all that follows it up to the next signs. What changes from row
   to row are arguments, as a record that has just been written is slow to read as a whole: the words of the window of
   the first pixel, the base of the row's class and these channels, the map [n][32], and where the next signs go. */
typedef struct {
  size_t row_words, step;   /* from one row of a window to the next, from one window to the next */
  int kh, run, n;           /* rows of a window, words of each; pixels */
  const uint32_t *weights;
  int odd;                  /* see UNIT_ODD */
  const uint8_t *columns;   /* the classes of the pixels, */
  size_t class_step;        /* from one to the next in the base */
  const float *multiplier, *bias, *beta;
  const float *gamma, *zeta; /* NULL for none */
  int add, add_last, store; /* the map to y, or behind zeta */
  const float *threshold;   /* of the next signs, NULL for none */
  size_t sign_step;         /* from one pixel's to the next */
} Binary;

/* Two rows of a 7x7 convolution of 3 colours with stride 2, with bias and PReLU, see tiles.h. The rows are nine that
   tile_columns made; of each, MOST_TILES tiles behind the last one are read as well. */
typedef struct {
  const float *rows[9];
  int columns, blocks;      /* of the results, [block][column][32] */
  const float *weights;     /* those of onebnet_combine_weights */
  const float *bias, *beta; /* beta: NULL for no PReLU */
  float *out[2];
} TileRows;
enum { MOST_TILES = 8, TILE_FLOATS = 32 }; /* tiles that a set computes at once, and floats of one in a row */

/* out[p] = the largest of three rows, [map_width][32] each, in the columns from 2 * p - left on; outside of the map its
   nearest row or column counts again. */
typedef struct {
  const float *rows[3];
  int map_width, left, n;
  float *out;
} PoolRow;

/* out[p] = the mean of the pixels of a map within a window: of `height` rows, `row_step` apart, and of the columns from
   p * step on, as many as `width` and the map's own width allow. */
typedef struct {
  const float *in;
  size_t row_step;
  int height, width, map_width, step, n;
  float *out;
} WindowRow;

/* The kernels, one such table for each instruction set. */
typedef struct {
  const char *name;
  void (*float_row)(const FloatRow *);
  void (*tile_columns)(const float *row, int n, float *out); /* prepares a row of the image for n tiles */
  void (*tile_rows)(const TileRows *);
  void (*binary_row)(const Binary *, const uint32_t *words, const int32_t *base, float *map, uint32_t *signs);
  void (*max_row)(const PoolRow *);
  void (*mean_row)(const WindowRow *);
  void (*sign_row)(const float *in, int n, const float *threshold, uint32_t *signs, size_t sign_step);
} Kernels;

extern const Kernels onebnet_avx512, onebnet_avx2, onebnet_neon, onebnet_wasm, onebnet_plain;

/* Where everything lies in a net's memory, in bytes from its start. */
typedef struct {
  size_t map, words[2], gate, stem, scratch, scratch_of_thread;
  uint64_t bytes; /* of all, which may be more than a size_t of 32 bits holds */
} Layout;

struct onebnet {
  const char *file;
  const Header *header;
  const Unit *units;
  const Kernels *kernels;
  int threads;
  float *map;           /* the one float map, as large as the largest */
  uint32_t *words[2];   /* signs that a unit reads and those that it writes, in turn */
  float *gate;          /* see onebnet_gate_floats */
  float *stem_weights;  /* see onebnet_combine_weights */
  char *scratch;
  size_t scratch_of_thread;
  atomic_int arrived, turn; /* of the barrier */
};

/* Sizes of what a part of the network needs, see run.c. */
size_t onebnet_padded_h(const Unit *u);
size_t onebnet_padded_w(const Unit *u);
uint64_t onebnet_stem_scratch(const Stem *s); /* in bytes */
size_t onebnet_stem_weights(const Stem *s); /* in floats */
size_t onebnet_strip_rows(const Unit *u, int map_c, int threads);

/* Of a unit with a gate, one after the other: the means of the map, the hidden channels, and the unit's multipliers
   and biases times the gate, which onebnet_gate computes from the means. */
size_t onebnet_gate_floats(const Unit *u);
float *onebnet_gated(const onebnet *net, const Unit *u);
void onebnet_gate(const onebnet *net, const Unit *u);

/* The kernels of tiles.h in the order in which they are taken, from the file's; where onebnet_stem_weights is not 0. */
void onebnet_combine_weights(const onebnet *net, float *out);

/* The first convolution up to the map and the signs that the first unit takes. */
void onebnet_stem(const onebnet *net, int thread, const uint8_t *pixels, const float *image);

/* Runs a net up to a unit, or to the logits if these are not NULL; image: uint8 pixels or float. */
void onebnet_go(onebnet *net, int thread, const uint8_t *pixels, const float *image, int units, float *logits);

static inline int clamp(int i, int n) { return i < 0 ? 0 : i < n ? i : n - 1; }
static inline int blocks(int channels) { return (channels + BLOCK - 1) / BLOCK; }

/* How long a row or column is with what surrounds it: all windows and the whole map. */
static inline size_t padded(int out, int stride, int extent, int before, int length) {
  size_t windows = (size_t)(out - 1) * stride + extent, map = (size_t)before + length;
  return windows > map ? windows : map;
}

static inline const void *at(const onebnet *net, uint32_t offset) { return net->file + offset; }

/* The items of n that a thread does: from `first` of the result to before `last`. */
typedef struct { int first, last; } Range;
static inline Range share(const onebnet *net, int thread, int n) {
  return (Range){(int)((int64_t)n * thread / net->threads), (int)((int64_t)n * (thread + 1) / net->threads)};
}

/* Where a pixel of the map of signs that unit u reads begins. */
static inline uint32_t *word_at(const Unit *u, uint32_t *words, int row, int column) {
  return words + ((size_t)(row + u->top) * onebnet_padded_w(u) + column + u->left) * blocks(u->c);
}
#endif
