/* What a PNG or JPEG file says of its image beside the pixels that stb_image and libjpeg give. */
#ifndef NOTES_H
#define NOTES_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
  int orientation; /* 1 to 8, by EXIF: how to turn the image upright; 1 leaves it as it is */
  int channels;    /* to ask stb_image for; 0 for those it has */
  int damaged;     /* whether a part of the pixels is missing and made up */
  int keyed;       /* whether pixels of the colour `key` are transparent */
  uint8_t key[3];
} Notes;

static uint32_t number(const uint8_t *p, int bytes, int little) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; i++) value = value << 8 | p[little ? bytes - 1 - i : i];
  return value;
}

/* Of the first directory of EXIF data, which are a TIFF file without pixels; 0 where it says nothing. */
static int exif_orientation(const uint8_t *tiff, size_t bytes) {
  int little = bytes >= 8 && !memcmp(tiff, "II*", 4);
  if (bytes < 8 || (!little && memcmp(tiff, "MM\0*", 4))) return 0;
  size_t at = number(tiff + 4, 4, little);
  if (at > bytes - 2) return 0;
  uint32_t entries = number(tiff + at, 2, little);
  for (at += 2; entries-- && at + 12 <= bytes; at += 12) {
    const uint8_t *entry = tiff + at;
    if (number(entry, 2, little) != 0x112) continue;
    uint32_t type = number(entry + 2, 2, little), count = number(entry + 4, 4, little);
    if (count != 1 || (type != 3 && type != 4)) return 1;
    uint32_t value = number(entry + 8, type == 3 ? 2 : 4, little);
    return value >= 1 && value <= 8 ? (int)value : 1;
  }
  return 0;
}

/* 0 where a chunk is missing, cut or altered, which stb_image does not look for. */
static inline int png_notes(const uint8_t *data, size_t bytes, Notes *notes) {
  int depth = 0, colour = 0;
  for (size_t at = 8, length; at + 12 <= bytes; at += 12 + length) {
    const uint8_t *type = data + at + 4, *body = data + at + 8;
    length = number(data + at, 4, 0);
    if (length > bytes - at - 12) return 0;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < length + 4; i++) {
      crc ^= type[i];
      for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    if (~crc != number(body + length, 4, 0)) return 0;
    if (!memcmp(type, "IHDR", 4) && length == 13) {
      depth = body[8], colour = body[9];
      notes->channels = colour == 0 ? 1 : colour == 2 ? 3 : 0; /* without what tRNS says: that is done as Pillow does */
    } else if (!memcmp(type, "tRNS", 4) && length >= (colour ? 6 : 2) && !(colour == 0 && depth == 16)) {
      notes->keyed = colour == 0 || colour == 2;
      for (int i = 0; i < 3; i++) notes->key[i] = body[colour == 2 ? 2 * i + 1 : 1];
      if (colour == 0 && depth == 1) notes->key[0] = number(body, 2, 0) ? 255 : 0;
    } else if (!memcmp(type, "eXIf", 4)) {
      int orientation = exif_orientation(body, length);
      notes->orientation = orientation ? orientation : 1;
    } else if (!memcmp(type, "IEND", 4)) {
      return 1;
    }
  }
  return 0;
}
#endif
