/* Reads a camera's frames for the program: PPM, PGM or JPEG images one after another in a stream, each of which becomes
   the content of a file. Where one ends, it says itself. */
#ifndef FRAMES_H
#define FRAMES_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "images.h"

enum { MOST_HEADER = 1 << 12, MOST_JPEG = 1 << 26 }; /* bytes, so that a stream of something else comes to an end */

typedef struct { uint8_t *data; size_t bytes, room; } Frame; /* begins as {0}; `data` is to be freed */

/* Appends bytes of the stream; says what is wrong where there are fewer. */
static const char *take(FILE *stream, size_t count, Frame *frame) {
  if (count > frame->room - frame->bytes) {
    size_t wanted = frame->bytes + count, room = wanted > 2 * frame->room ? wanted : 2 * frame->room;
    uint8_t *data = realloc(frame->data, room);
    if (!data) return NO_MEMORY;
    frame->data = data, frame->room = room;
  }
  int one = count == 1 ? getc_unlocked(stream) : EOF; /* fread takes long for single bytes */
  if (one != EOF) frame->data[frame->bytes] = (uint8_t)one;
  size_t taken = count == 1 ? one != EOF : fread(frame->data + frame->bytes, 1, count, stream);
  frame->bytes += taken;
  return taken == count ? NULL : ferror(stream) ? "cannot be read" : "is cut";
}

static const char *take_pnm(FILE *stream, Frame *frame) {
  const char *problem;
  long w, h, most;
  size_t from;
  do { /* up to the byte behind the third number */
    if (frame->bytes > MOST_HEADER) return "has no size where a PPM image has it";
    if ((problem = take(stream, 1, frame))) return problem;
    from = 2;
    w = header_number(frame->data, frame->bytes, &from), h = header_number(frame->data, frame->bytes, &from);
    most = header_number(frame->data, frame->bytes, &from);
  } while (from == frame->bytes);
  if ((problem = refused(w, h))) return problem;
  if (most != 255) return "is not of 8 bits, as ffmpeg makes it by -pix_fmt rgb24";
  return take(stream, (size_t)w * h * (frame->data[1] == '6' ? 3 : 1), frame);
}

/* Segments say how long they are, so that a small picture within one does not count. In what follows the last of them
   no marker comes but those that restart, and the end. */
static const char *take_jpeg(FILE *stream, Frame *frame) {
  const char *problem;
  while (frame->bytes < MOST_JPEG) {
    if ((problem = take(stream, 1, frame))) return problem;
    int before = frame->data[frame->bytes - 2], marker = frame->data[frame->bytes - 1];
    if (before != 0xff || marker < 2 || marker == 0xff || (marker & 0xf8) == 0xd0) continue;
    if (marker == 0xd9) return NULL;
    if (marker == 0xd8) return "is cut: another begins in it";
    if ((problem = take(stream, 2, frame))) return problem;
    uint32_t length = number(frame->data + frame->bytes - 2, 2, 0);
    if (length < 2) return "is damaged";
    if (length > 2 && (problem = take(stream, length - 2, frame))) return problem;
  }
  return "has no end within 64 MiB";
}

/* Puts the stream's next frame in place of the one before, an empty one at the end; says what is wrong with one that is
   not whole. */
static const char *read_frame(FILE *stream, Frame *frame) {
  frame->bytes = 0;
  const char *problem = take(stream, 2, frame);
  if (problem) return frame->bytes || !feof(stream) ? problem : NULL;
  if (frame->data[0] == 'P' && (frame->data[1] == '5' || frame->data[1] == '6')) return take_pnm(stream, frame);
  if (!memcmp(frame->data, "\xff\xd8", 2)) return take_jpeg(stream, frame);
  return "is no PPM, PGM or JPEG image";
}
#endif
