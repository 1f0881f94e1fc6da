/* Sizes of a convolution with TensorFlow's SAME padding. C11 and C++. */
#ifndef ONEBNET_SHAPE_H
#define ONEBNET_SHAPE_H

typedef struct {
  int n, h, w, c;            /* the map: images, rows, columns, channels */
  int o, kh, kw, sr, sc;     /* output channels, kernel, strides of rows and columns */
  int pad_value;             /* what surrounds the map of signs: 0, or 1 */
  int oh, ow;                /* rows and columns of the output */
  int top, left;             /* border before the first row and column */
  int padded_h, padded_w;    /* rows and columns of the map with its border */
  int words;                 /* of 32 channels */
} Shape;

static inline int needed(int out, int stride, int kernel, int size) {
  int more = (out - 1) * stride + kernel - size;
  return more > 0 ? more : 0;
}

static inline Shape make_shape(int n, int h, int w, int c, int o, int kh, int kw, int sr, int sc, int pad_value) {
  Shape s = {n, h, w, c, o, kh, kw, sr, sc, pad_value, (h + sr - 1) / sr, (w + sc - 1) / sc, 0, 0, 0, 0, (c + 31) / 32};
  int rows = needed(s.oh, sr, kh, h), columns = needed(s.ow, sc, kw, w);
  s.top = rows / 2, s.left = columns / 2, s.padded_h = h + rows, s.padded_w = w + columns;
  return s;
}

/* Whether the input that tap (i, j) of output pixel (r, k) reads lies in the map, not in its border. */
static inline int inside(const Shape *s, int r, int k, int i, int j) {
  int row = r * s->sr + i - s->top, column = k * s->sc + j - s->left;
  return row >= 0 && row < s->h && column >= 0 && column < s->w;
}
#endif
