/* Reads a camera's frames for the program: PPM, PGM or JPEG images one after another in a stream, each of which becomes
   the content of a file. Where one ends, it says itself. Behind a broken JPEG the next is found by the marker that
   begins it; nothing marks where a PPM or PGM begins. */
#ifndef FRAMES_H
#define FRAMES_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "images.h"

enum { MOST_HEADER = 1 << 12, MOST_JPEG = 1 << 26 }; /* bytes, so that a stream of something else comes to an end */

typedef struct { /* begins as {0} */
  uint8_t *data;             /* to be freed */
  size_t bytes, ahead, room; /* of the frame, of what was read behind it, and of memory */
  int findable;              /* whether the frame behind this one can be found if this one is broken */
  int lost;                  /* whether this one is broken */
} Frame;

/* Appends bytes of the stream; says what is wrong where there are fewer. */
static const char *take(FILE *stream, size_t count, Frame *frame) {
  size_t there = count < frame->ahead ? count : frame->ahead;
  frame->bytes += there, frame->ahead -= there, count -= there;
  if (!count) return NULL;
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

/* Leaves the last bytes to the next frame. */
static void give_back(size_t count, Frame *frame) { frame->bytes -= count, frame->ahead += count; }

/* Makes room for the next frame. */
static void forget(Frame *frame) {
  if (frame->bytes) memmove(frame->data, frame->data + frame->bytes, frame->ahead);
  frame->bytes = 0;
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

static int begins(const uint8_t *data) { return !memcmp(data, "\xff\xd8\xff", 3); }

/* Segments say how long they are, so that a small picture within one does not count. In what follows the last of them
   no marker comes but those that restart, and the end. A frame that is cut within a segment takes the next for its
   rest, which shows in a table, but not in the segments that may hold pictures (0xe0 to 0xfe). */
static const char *take_jpeg(FILE *stream, Frame *frame) {
  static const char another[] = "is cut: another begins in it";
  const char *problem;
  while (frame->bytes < MOST_JPEG) {
    if ((problem = take(stream, 1, frame))) return problem;
    int before = frame->data[frame->bytes - 2], marker = frame->data[frame->bytes - 1];
    if (before != 0xff || marker < 2 || marker == 0xff || (marker & 0xf8) == 0xd0) continue;
    if (marker == 0xd9) return NULL;
    if (marker == 0xd8) return give_back(2, frame), another;
    size_t from = frame->bytes;
    if ((problem = take(stream, 2, frame))) return problem;
    uint32_t length = number(frame->data + from, 2, 0);
    if (length < 2) return "is damaged";
    problem = take(stream, length - 2, frame);
    for (; marker < 0xe0 && from + 2 < frame->bytes; from++)
      if (begins(frame->data + from)) return give_back(frame->bytes - from, frame), another;
    if (problem) return problem;
  }
  return "has no end within 64 MiB";
}

/* Goes on to where a JPEG begins, or to the stream's end. */
static const char *find_jpeg(FILE *stream, Frame *frame) {
  while (frame->bytes < MOST_JPEG) {
    const char *problem = take(stream, 1, frame);
    if (problem) return ferror(stream) || !feof(stream) ? problem : NULL;
    if (frame->bytes > 2 && begins(frame->data + frame->bytes - 3)) return give_back(3, frame), NULL;
  }
  return "is not found within 64 MiB";
}

static const char *take_frame(FILE *stream, Frame *frame) {
  forget(frame);
  const char *problem = take(stream, 2, frame);
  if (problem) return frame->bytes || !feof(stream) ? problem : NULL;
  int pnm = frame->data[0] == 'P' && (frame->data[1] == '5' || frame->data[1] == '6');
  int jpeg = !memcmp(frame->data, "\xff\xd8", 2);
#ifdef HAS_LIBJPEG /* or one is as good as the other */
  if (pnm || jpeg) frame->findable = jpeg;
#endif
  return pnm ? take_pnm(stream, frame) : jpeg ? take_jpeg(stream, frame) : "is no PPM, PGM or JPEG image";
}

/* Puts the stream's next frame in place of the one before, an empty one at the end; says what is wrong with one that is
   not whole. Behind such a one there is a next only if it is findable. */
static const char *read_frame(FILE *stream, Frame *frame) {
  forget(frame);
  const char *problem = frame->lost ? find_jpeg(stream, frame) : NULL;
  if (problem) return frame->findable = 0, problem;
  problem = take_frame(stream, frame);
  frame->lost = problem != NULL;
  return problem;
}
#endif
