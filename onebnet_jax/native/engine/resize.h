/* Brings an image to a network's size as training does (onebnet_jax/data/photos.py), with the bits of Pillow's bilinear
   filter: a triangle as wide as the pixels of the smaller size, in fixed point, along one axis and then the other. C11
   and C++11. */
#ifndef RESIZE_H
#define RESIZE_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint8_t *pixels; int height, width, channels; } Picture; /* [height][width][channels] */
typedef enum { CROP, PAD, STRETCH } FitMode;
typedef struct { FitMode mode; double zoom; } Fit;

#ifndef MOST_PIXELS
#define MOST_PIXELS 178956970 /* Pillow's limit */
#endif
static const char NO_MEMORY[] = "needs more memory than there is";

/* Why an image of this size is refused, as in training; NULL where it is not. */
static inline const char *refused(long width, long height) {
  if (width < 1 || height < 1) return "is cut, damaged or too large";
  if (width > 200 * height || height > 200 * width) return "is more than 200 times as long as wide";
  return (double)width * height > MOST_PIXELS ? "has more than 178 million pixels" : NULL;
}

enum { WEIGHT_BITS = 22 };

/* What follows `words` in a text; NULL where they are not in it. */
static const char *behind(const char *text, const char *end, const char *words) {
  size_t n = strlen(words);
  for (; text && (size_t)(end - text) >= n; text++)
    if (!memcmp(text, words, n)) return text + n;
  return NULL;
}

/* How to bring images to size, by a card's "input". */
static Fit read_fit(const char *card, size_t bytes) {
  Fit fit = {CROP, 1};
  const char *input = behind(card, card + bytes, "\"input\": {");
  const char *end = input ? (const char *)memchr(input, '}', (size_t)(card + bytes - input)) : NULL;
  if (!end) return fit;
  const char *resize = behind(input, end, "\"resize\": \""), *zoom = behind(input, end, "\"zoom\": ");
  if (resize) fit.mode = *resize == 'c' ? CROP : *resize == 'p' ? PAD : STRETCH;
  char digits[32] = "";
  if (zoom) memcpy(digits, zoom, (size_t)(end - zoom) < 31 ? (size_t)(end - zoom) : 31);
  if (zoom) fit.zoom = strtod(digits, NULL);
  return fit;
}

/* The positions `first` to `first + count - 1` of an axis that is brought from `in` to `out` pixels: of `source`,
   [outer][in][inner], the new [outer][count][inner] in memory from malloc; NULL where there is not enough. */
static uint8_t *resample(const uint8_t *source, size_t outer, int in, size_t inner, int out, int first, int count) {
  double scale = (double)in / out, reach = scale > 1 ? scale : 1, per_pixel = 1 / reach;
  size_t most = 2 * (size_t)ceil(reach) + 1;
  double *shares = (double *)malloc(most * sizeof *shares);
  int32_t *weights = (int32_t *)malloc(most * count * sizeof *weights);
  int(*spans)[2] = (int(*)[2])malloc(count * sizeof *spans);
  uint8_t *result = (uint8_t *)malloc(outer * count * inner);
  if (!shares || !weights || !spans || !result) free(result), result = NULL;
  for (int i = 0; result && i < count; i++) {
    double centre = (first + i + 0.5) * scale, sum = 0;
    int from = (int)(centre - reach + 0.5), to = (int)(centre + reach + 0.5);
    if (from < 0) from = 0;
    if (to > in) to = in;
    for (int k = from; k < to; k++) {
      double distance = fabs((k - centre + 0.5) * per_pixel);
      sum += shares[k - from] = distance < 1 ? 1 - distance : 0;
    }
    for (int k = 0; k < to - from; k++)
      weights[i * most + k] = (int32_t)(0.5 + (sum != 0 ? shares[k] / sum : shares[k]) * (1 << WEIGHT_BITS));
    spans[i][0] = from, spans[i][1] = to - from;
  }
  for (size_t o = 0; result && o < outer; o++)
    for (int i = 0; i < count; i++) {
      const uint8_t *from = source + (o * in + spans[i][0]) * inner;
      uint8_t *to = result + (o * count + i) * inner;
      for (size_t j = 0; j < inner; j++) {
        int32_t sum = 1 << (WEIGHT_BITS - 1);
        for (int k = 0; k < spans[i][1]; k++) sum += from[k * inner + j] * weights[i * most + k];
        sum >>= WEIGHT_BITS;
        to[j] = (uint8_t)(sum > 255 ? 255 : sum); /* rounded weights may sum to more than 1 */
      }
    }
  free(shares), free(weights), free(spans);
  return result;
}

/* An image as a network takes it, [height][width][channels], in memory from malloc; NULL where there is not enough. */
static uint8_t *resize(const Picture *from, int height, int width, const Fit *fit) {
  double w = width, h = height; /* to bring the whole image to */
  int columns = width, rows = height, left = 0, top = 0; /* of it, to take */
  if (fit->mode == CROP) {
    double scale = fmax(fit->zoom * height / from->height, fit->zoom * width / from->width);
    w = fmax(rint(from->width * scale), width), h = fmax(rint(from->height * scale), height);
    if (w > 1e9 || h > 1e9) return NULL;
    left = ((int)w - width) / 2, top = ((int)h - height) / 2;
  } else if (fit->mode == PAD) {
    double ratio = (double)from->width / from->height, wanted = (double)width / height;
    if (ratio > wanted) h = rows = (int)rint((double)from->height / from->width * width);
    if (ratio < wanted) w = columns = (int)rint(ratio * height);
  }
  size_t channels = from->channels, row = columns * channels;
  uint8_t *result = (uint8_t *)calloc((size_t)height * width, channels);
  if (!result || !columns || !rows) return result; /* too narrow to be seen beside the black */
  /* Each pass rounds, so that their order matters. Pillow 13 begins with the columns where they lose by far more. */
  int columns_first = from->height > (int)h && from->height - (int)h > 2 * (from->width - (int)w);
  uint8_t *half = columns_first
                      ? resample(from->pixels, 1, from->height, from->width * channels, (int)h, top, rows)
                      : resample(from->pixels, from->height, from->width, channels, (int)w, left, columns);
  uint8_t *whole = !half           ? NULL
                   : columns_first ? resample(half, rows, from->width, channels, (int)w, left, columns)
                                   : resample(half, 1, from->height, row, (int)h, top, rows);
  size_t x = (size_t)rint((width - columns) * 0.5), y = (size_t)rint((height - rows) * 0.5);
  for (int i = 0; whole && i < rows; i++) memcpy(result + ((y + i) * width + x) * channels, whole + i * row, row);
  if (!whole) free(result), result = NULL;
  free(half), free(whole);
  return result;
}
#endif
