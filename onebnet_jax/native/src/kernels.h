// What kernels.cc offers, compiled once for each instruction set: work on one image, band or chunk, without threads.
// The caller (train.cc) shares the work out, so results do not depend on who does what.
#pragma once
#include <cstddef>
#include <cstdint>
#include "shape.h"

// Output rows fall into classes, by which of the kernel's rows lie in the map there; so do columns. With padding 1
// there is one class of each: the border counts like the map.
struct Classes {
  int rows, columns;                     // how many
  const int *row, *column;               // [oh], [ow]: the class of each
  const int *first_row, *first_column;   // [rows], [columns]: an example of each
};

// Counts [n, oh, ow, o], packed bits [n, padded_h, padded_w, words] and sums of a binarized convolution.
struct Forward {
  Shape s;
  const float *x, *alpha, *kernel;  // [n, h, w, c], [c], [kh, kw, c, o]
  int block, blocks;                // output channels of a block of weights: 16 or 32
  uint32_t *weights;                // [blocks][tap][words][block]
  int32_t *base;                    // [row class][column class][blocks * block]
  Classes classes;
  uint32_t *bits;
  int16_t *counts;
  float *parts;  // [n][2][blocks * block]: sums of the counts and of their squares
};

// Convolution [n, oh, ow, o] of signs with a float kernel.
struct FloatForward {
  Shape s;
  const uint32_t *bits;
  const float *kernel;  // [kh, kw, c, o]
  Classes classes;
  float *y;
};

enum Slope { POLY, CLIP, MAP };

// Gradients of the map and of alpha.
struct MapGradient {
  Shape s;
  bool binary;                // else the kernel is float, for the functions float_*, which know no BN and no shortcut
  const float *grad;          // [n, oh, ow, o]: that of the convolution, or, where there are counts, of its BN
  const int16_t *counts;      // null: no BN. Else dy = grad * c[0] - mask * (counts * c[1] + c[2])
  const float *coefficients;  // c: [3][o]
  const float *mask;          // [n]
  float *dy;                  // [n, oh, ow, o], written where there are counts
  const float *kernel;        // [kh, kw, c, o], a scale times -1 or +1, or float
  const float *x, *alpha;
  Slope slope;
  float window, once, twice;  // the half width of the region where the slope is not 0; 1 and 2 divided by it
  const float *slopes;  // [n, h, w, c] for MAP
  bool shortcut;      // adds grad to dx: the shortcut is the map itself
  float *dx, *parts;  // [n, h, w, c]; [n][c], sums that alpha's gradient is made of
  void *index;        // what the signs of the kernel pick, or a float kernel in another order, `index_size` bytes
};

// Gradient of the kernel.
struct KernelGradient {
  Shape s;
  const uint32_t *bits;
  const float *dy;
  Classes classes;
  int chunks, splits;  // items: pixels of all images in `chunks` ranges, output channels in `splits`
  float *parts;        // an accumulator of `part_size` bytes for each item
  float *dw;           // [kh, kw, c, o]
};

// Batch normalization, shortcut and RPReLU: element-wise, with sums over pixels.
struct Tail {
  int n, pixels, c;
  const float *grad, *y, *shortcut, *mask;  // [n, pixels, c]; mask [n]
  const int16_t *counts;                    // instead of y, or null
  const float *parameters;                  // rows of [c], see tail.h
  bool rprelu;
  float *out, *parts;  // [n, pixels, c]; [n][rows][c]
};

struct Kernels {
  const char *name;
  int lanes;
  void (*weights)(const Forward *, int block);
  void (*signs)(const Forward *, int image);  // bits from x and alpha, the first part of forward
  void (*forward)(const Forward *, int image);
  int (*float_items)(const FloatForward *);
  size_t (*float_scratch)(const FloatForward *);  // bytes for one item
  void (*float_forward)(const FloatForward *, int item, void *scratch);
  size_t (*index_size)(const MapGradient *);
  void (*index)(const MapGradient *, int tap);
  int (*map_items)(const MapGradient *);         // into how many the images are cut
  size_t (*tables_size)(const MapGradient *);    // scratch for one item, bytes
  void (*map_gradient)(const MapGradient *, int item, void *scratch);
  size_t (*float_index_size)(const MapGradient *);
  void (*float_index)(const MapGradient *, int tap);
  size_t (*float_tables_size)(const MapGradient *);
  void (*float_map_gradient)(const MapGradient *, int image, void *scratch);
  size_t (*part_size)(const KernelGradient *);
  size_t (*chunk_size)(const KernelGradient *);  // scratch for one item, bytes
  void (*kernel_gradient)(const KernelGradient *, int item, void *scratch);
  void (*kernel_finish)(const KernelGradient *, int item);
  void (*statistics)(const Tail *, int image);
  void (*tail_forward)(const Tail *, int image);
  void (*tail_backward)(const Tail *, int image);
  void (*tail_gradient)(const Tail *, int image);
  // out[j] = the sum of mask[i] * parts[i][j] in the order of i; no mask counts as 1.
  void (*sum)(const float *parts, int count, int width, const float *mask, float *out);
};

extern "C" const Kernels kernels_avx512, kernels_avx512bw, kernels_avx2, kernels_plain;
