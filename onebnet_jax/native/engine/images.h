/* Reads images for the program: PPM, PGM and raw bytes; PNG where stb_image is there (libstb-dev), and JPEG where it is
   compiled with -DHAS_LIBJPEG, and linked with libjpeg. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "notes.h"
#include "resize.h"

#ifdef HAS_LIBJPEG
#include "jpeg.h"
#endif

#if defined(__has_include)
#if __has_include(<stb/stb_image.h>)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include <stb/stb_image.h>
#define HAS_STB 1

/* A PNG file as it is; pixels is NULL, with the problem, where it cannot be decoded. */
static Picture read_png(const uint8_t *data, size_t bytes, Notes *notes, const char **problem) {
  Picture result = {0};
  int w, h, c;
  *problem = "is cut, damaged or too large";
  if (bytes >= 1 << 30 || !png_notes(data, bytes, notes)) return result;
  if (!stbi_info_from_memory(data, (int)bytes, &w, &h, &c) || (*problem = refused(w, h))) return result;
  result.pixels = stbi_load_from_memory(data, (int)bytes, &w, &h, &c, notes->channels);
  result.height = h, result.width = w, result.channels = notes->channels ? notes->channels : c;
  if (!result.pixels) *problem = "is cut or damaged, or there is not enough memory";
  return result;
}
#endif
#endif

/* A whole file at a multiple of 64 bytes in memory; NULL where it cannot be read. */
static uint8_t *read_file(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  uint8_t *content = NULL;
  long size = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
  if (size >= 0 && !fseek(file, 0, SEEK_SET)) content = aligned_alloc(64, ((size_t)size / 64 + 1) * 64);
  if (content && fread(content, 1, (size_t)size, file) != (size_t)size) free(content), content = NULL;
  fclose(file);
  *bytes = (size_t)size;
  return content;
}

/* The next number of a PPM's header behind spaces and comments; -1 where there is none. */
static long header_number(const uint8_t *data, size_t bytes, size_t *from) {
  size_t i = *from;
  while (i < bytes && (isspace(data[i]) || data[i] == '#'))
    if (data[i++] == '#')
      while (i < bytes && data[i] != '\n') i++;
  long value = -1;
  for (; i < bytes && isdigit(data[i]) && value < 100000; i++) value = (value < 0 ? 0 : value * 10) + data[i] - '0';
  *from = i;
  return value;
}

/* A PPM or PGM file as it is; pixels is NULL, with the problem, for others. */
static Picture read_pnm(const uint8_t *data, size_t bytes, const char **problem) {
  size_t from = 2;
  long w = header_number(data, bytes, &from), h = header_number(data, bytes, &from);
  long most = header_number(data, bytes, &from);
  Picture result = {NULL, (int)h, (int)w, data[1] == '6' ? 3 : 1};
  size_t count = w > 0 && h > 0 ? (size_t)h * w * result.channels : 0;
  if (!(*problem = refused(w, h)) && (most != 255 || bytes < from + 1 || bytes - from - 1 < count))
    *problem = "is cut, or not of 8 bits";
  if (*problem) return result;
  if ((result.pixels = malloc(count))) memcpy(result.pixels, data + from + 1, count);
  else *problem = NO_MEMORY;
  return result;
}

/* Writes an image as RGB or grey, on white where it is transparent, turned upright, as Pillow does. */
static uint8_t *upright(const Picture *from, const Notes *notes, int channels) {
  int n = from->channels, w = from->width, h = from->height, o = notes->orientation, alpha = 255;
  int mirrored = o == 2 || o == 3 || o == 7 || o == 8, flipped = o == 3 || o == 4 || o == 6 || o == 7;
  uint8_t *result = malloc((size_t)h * w * channels);
  for (int y = 0; result && y < h; y++)
    for (int x = 0; x < w; x++) {
      const uint8_t *p = from->pixels + ((size_t)y * w + x) * n;
      size_t column = mirrored ? w - 1 - x : x, row = flipped ? h - 1 - y : y;
      uint8_t *to = result + (o < 5 ? row * w + column : column * h + row) * channels;
      int colours = n < 3 ? 1 : 3, rgb[3];
      if (n != colours) alpha = p[n - 1];
      if (notes->keyed) alpha = memcmp(p, notes->key, colours) ? 255 : 0;
      for (int i = 0; i < 3; i++) {
        int mixed = p[n < 3 ? 0 : i] * alpha + 255 * (255 - alpha) + 128;
        rgb[i] = (mixed + (mixed >> 8)) >> 8;
        if (channels == 3) to[i] = (uint8_t)rgb[i];
      }
      if (channels == 1) *to = (uint8_t)((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
    }
  return result;
}

/* The pixels of an image file's content, [height][width][channels], in memory from malloc, brought to size as `fit`
   says; NULL, and why in `problem`, for what is no such image. A problem beside pixels: they are not all there. */
static uint8_t *decode(const uint8_t *data, size_t bytes, int height, int width, int channels, const Fit *fit,
                       const char **problem) {
  Notes notes = {.orientation = 1};
  Picture stored = {0};
  *problem = "is no PNG, JPEG, PPM or PGM image, nor .raw";
  if (channels != 1 && channels != 3) *problem = "is not .raw, which a network takes that has not 1 or 3 channels";
  else if (bytes > 2 && data[0] == 'P' && (data[1] == '5' || data[1] == '6')) stored = read_pnm(data, bytes, problem);
  else if (bytes > 8 && !memcmp(data, "\x89PNG\r\n\x1a\n", 8)) {
#ifdef HAS_STB
    stored = read_png(data, bytes, &notes, problem);
#else
    *problem = "is PNG, which this program reads if libstb-dev was installed where it was built";
#endif
  } else if (bytes > 2 && !memcmp(data, "\xff\xd8\xff", 3)) {
#ifdef HAS_LIBJPEG
    stored = read_jpeg(data, bytes, height > width ? height : width, &notes, problem);
#else
    *problem = "is JPEG, which this program reads if libjpeg-dev was installed where it was built";
#endif
  }
  if (!stored.pixels) return NULL;
  Picture turned = {upright(&stored, &notes, channels), stored.height, stored.width, channels};
  if (notes.orientation >= 5) turned.height = stored.width, turned.width = stored.height;
  free(stored.pixels);
  uint8_t *result = turned.pixels ? resize(&turned, height, width, fit) : NULL;
  free(turned.pixels);
  *problem = !result ? NO_MEMORY : notes.damaged ? "is damaged: a part of it is missing" : NULL;
  return result;
}

/* The same of a file by its name; those that end in .raw are taken as they are. */
static uint8_t *read_image(const char *path, int height, int width, int channels, const Fit *fit,
                           const char **problem) {
  static char counts[100];
  size_t bytes = 0;
  uint8_t *data = read_file(path, &bytes), *pixels = NULL;
  *problem = NULL;
  const char *suffix = strrchr(path, '.');
  struct stat place;
  if (!data) *problem = !stat(path, &place) && S_ISDIR(place.st_mode) ? "is a folder: name its images" : "cannot be read";
  else if (!suffix || strcmp(suffix, ".raw")) pixels = decode(data, bytes, height, width, channels, fit, problem);
  else if (bytes == (size_t)height * width * channels) return data;
  else {
    snprintf(counts, sizeof counts, "has %zu bytes and not %d x %d x %d", bytes, height, width, channels);
    *problem = counts;
  }
  free(data);
  return pixels;
}
