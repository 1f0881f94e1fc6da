/* Feeds the engine, and the program's reader of images, files that are not what they should be: whatever they hold,
   there is a code or a run of the network, and pixels or none, within the memory. Build it with
   -fsanitize=address,undefined, and either with clang's -fsanitize=fuzzer -DLIBFUZZER, which searches by what code a
   file reaches, or without, to change the files named on the command line at random:

     fuzz SECONDS FILE... */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_PIXELS (1 << 20) /* larger ones take long */
#include "format.h"
#include "frames.h"
#include "onebnet.h"

enum { MOST_MEMORY = 1 << 20, THREADS = 1 };

static uint32_t crc32(const uint8_t *data, size_t bytes) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < bytes; i++) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

static void *exactly(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 64, bytes)) abort();
  return memory;
}

/* ONEBNET_OK for an image that can be read, ONEBNET_IMAGE for others. */
static int feed_image(const uint8_t *data, size_t size, int mend_checksum) {
  uint8_t *file = exactly(size), *pixels = NULL;
  memcpy(file, data, size);
  for (size_t at = 8, n; mend_checksum && at + 12 <= size; at += n + 12) {
    if ((n = number(file + at, 4, 0)) > size - at - 12) break;
    uint32_t crc = crc32(file + at + 4, n + 4);
    for (int i = 0; i < 4; i++) file[at + 8 + n + i] = (uint8_t)(crc >> (24 - 8 * i));
  }
  for (int i = 0; i < 6; i++) {
    const char *problem = NULL;
    free(pixels);
    pixels = decode(file, size, 12, 11, i % 2 ? 1 : 3, &(Fit){i % 3, 256 / 224.0}, &problem);
    if (!pixels && !problem) abort();
  }
  FILE *stream = fmemopen(file, size, "rb");
  Frame frame = {0};
  while (!read_frame(stream, &frame) ? frame.bytes > 0 : frame.findable) {}
  fclose(stream), free(frame.data);
  free(file);
  int code = pixels ? ONEBNET_OK : ONEBNET_IMAGE;
  free(pixels);
  return code;
}

/* The code that a file gives; ONEBNET_OK means that the network was run. */
static int feed(const uint8_t *data, size_t size, int mend_checksum) {
  uint8_t *file = exactly(size);
  memcpy(file, data, size);
  onebnet_info info;
  size_t bytes;
  onebnet *net;
  int code = onebnet_describe(file, size, &info);
  if (!code) code = onebnet_memory(file, size, THREADS, &bytes);
  if (!code && bytes <= MOST_MEMORY) {
    if (mend_checksum) memcpy(file + 12, &(uint32_t){crc32(file + 16, size - 16)}, 4);
    char *memory = exactly(bytes);
    code = onebnet_init(memory, bytes, file, size, THREADS, NULL, &net);
    size_t count = (size_t)info.height * info.width * info.channels;
    if (!code) {
      uint8_t *pixels = exactly(count);
      float *logits = exactly(sizeof(float) * info.classes);
      memset(pixels, 200, count);
      code = onebnet_run(net, 0, pixels, count, logits);
      int h, w, c, unit = info.units / 2;
      if (!code && !onebnet_shape(file, size, unit, &h, &w, &c)) {
        int8_t *signs = exactly((size_t)h * w * c);
        float *map = exactly(sizeof(float) * h * w * c);
        if (onebnet_look(net, pixels, NULL, count, unit, signs, map))
          onebnet_look(net, pixels, NULL, count, unit, signs, NULL);
        free(map), free(signs);
      }
      free(logits), free(pixels);
    }
    free(memory);
  }
  free(file);
  return code;
}

static int is_image(const uint8_t *data, size_t size) {
  return size > 2 && (!memcmp(data, "\x89P", 2) || !memcmp(data, "\xff\xd8", 2) || !memcmp(data, "P6", 2));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (is_image(data, size)) feed_image(data, size, *data == 0x89);
  else feed(data, size, 1);
  return 0;
}

#ifndef LIBFUZZER
static uint64_t state = 88172645463325252u;
static uint32_t draw(uint32_t below) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 16) % below;
}

static void change_image(uint8_t *file, size_t *size) {
  if (!draw(12)) *size = draw((uint32_t)*size + 1);
  else if (draw(2)) file[draw((uint32_t)*size)] ^= 1u << draw(8);
  else file[draw(*size < 100 ? (uint32_t)*size : 100)] = (uint8_t)draw(256); /* where the headers are */
}

static void change(uint8_t *file, size_t *size, const Header *whole) {
  static const int32_t odd[] = {0,  1,   2,    3,    5,     7,  8,   15,        31, 32, 33,
                                63, 64, 255, 8191, 8192, 65536, -1, -64, 2147483647};
  uint32_t records = whole->units, record_bytes = (uint32_t)whole->unit_count * sizeof(Unit);
  switch (draw(12)) {
    case 0: *size = draw((uint32_t)*size + 1); break;
    case 1: file[draw((uint32_t)*size)] ^= 1u << draw(8); break;
    default: { /* a number of the header or of a unit */
      uint32_t at = draw(3) ? records + draw(record_bytes / 4) * 4 : 8 + draw((sizeof(Header) - 8) / 4) * 4;
      uint32_t value;
      memcpy(&value, file + at, 4);
      if (draw(2)) value = (uint32_t)odd[draw(sizeof odd / sizeof *odd)];
      else value += draw(2) ? draw(5) - 2 : (draw(5) - 2) * 64;
      memcpy(file + at, &value, 4);
    }
  }
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  time_t end = time(NULL) + atoi(argv[1]);
  long fed = 0, codes[ONEBNET_CODES] = {0};
  for (int i = 2; time(NULL) < end; i = i + 1 < argc ? i + 1 : 2) {
    FILE *f = fopen(argv[i], "rb");
    if (!f) return 2;
    uint8_t *file = malloc(1 << 22), *copy = malloc(1 << 22);
    size_t whole = fread(file, 1, 1 << 22, f);
    fclose(f);
    for (int k = 0; k < 100; k++, fed++) {
      size_t size = whole;
      memcpy(copy, file, whole);
      int image = is_image(file, whole);
      for (uint32_t changes = k ? 1 + draw(3) : 0; changes && size == whole; changes--)
        if (image) change_image(copy, &size);
        else change(copy, &size, (Header *)file);
      int code = image ? feed_image(copy, size, k % 4 && *file == 0x89) : feed(copy, size, k % 4);
      if (code < 0 || code >= ONEBNET_CODES || (!k && code))
        return printf("file %d gave code %d\n", i, code), 1;
      codes[code]++;
    }
    free(file), free(copy);
  }
  printf("%ld files", fed);
  for (int code = 0; code < ONEBNET_CODES; code++)
    if (codes[code]) printf("; %ld: %s", codes[code], onebnet_error(code));
  printf("\n");
  return 0;
}
#endif
