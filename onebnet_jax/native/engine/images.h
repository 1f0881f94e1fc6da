/* Reads images for the program: PPM, PGM and raw bytes, and PNG and JPEG where stb_image is there (libstb-dev). */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_include)
#if __has_include(<stb/stb_image.h>)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include <stb/stb_image.h>
#define HAS_STB 1
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

/* The pixels of an image, [height][width][channels], in memory from malloc; NULL, and why in `problem`, for others. */
static uint8_t *read_image(const char *path, int height, int width, int channels, const char **problem) {
  size_t bytes = 0, from = 2, count = (size_t)height * width * channels;
  uint8_t *data = read_file(path, &bytes), *pixels = NULL;
  const char *suffix = strrchr(path, '.');
  *problem = data ? NULL : "cannot be read";
  if (!data) return NULL;
  if (suffix && !strcmp(suffix, ".raw")) {
    if (bytes == count) return data;
    *problem = "has not as many bytes as the network takes pixel values";
  } else if (bytes > 2 && data[0] == 'P' && (data[1] == '5' || data[1] == '6')) {
    long w = header_number(data, bytes, &from), h = header_number(data, bytes, &from);
    long most = header_number(data, bytes, &from);
    if (w != width || h != height || (data[1] == '6' ? 3 : 1) != channels)
      *problem = "has another size than the network takes";
    else if (most != 255 || bytes < from + 1 || bytes - from - 1 < count) *problem = "is cut, or not of 8 bits";
    else if ((pixels = malloc(count))) memcpy(pixels, data + from + 1, count);
  } else {
#ifdef HAS_STB
    int w, h, c;
    stbi_uc *decoded = bytes < 1 << 30 ? stbi_load_from_memory(data, (int)bytes, &w, &h, &c, channels) : NULL;
    if (!decoded) *problem = "is no PNG, JPEG, PPM or PGM image, nor .raw";
    else if (w != width || h != height) *problem = "has another size than the network takes", free(decoded);
    else pixels = decoded;
#else
    *problem = "is no PPM or PGM image, nor .raw; built where libstb-dev is installed, this program reads PNG and JPEG";
#endif
  }
  free(data);
  return pixels;
}
