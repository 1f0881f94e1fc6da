/* OneBNet on a CPU: runs a network from the one file that `onebnet convert --native` writes.

   Nothing is allocated and no two nets share anything that changes. The caller brings the file (read or mapped into
   memory, 64-byte aligned, unchanged while a net uses it) and the memory to work in:

     size_t bytes;
     onebnet *net;
     onebnet_memory(file, file_bytes, 1, &bytes);
     onebnet_init(malloc(bytes), bytes, file, file_bytes, 1, NULL, &net);
     onebnet_run(net, 0, pixels, height * width * channels, logits);

   Every function but the last three returns one of the codes below; ONEBNET_OK is 0. */
#ifndef ONEBNET_H
#define ONEBNET_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  ONEBNET_OK,
  ONEBNET_NO_MODEL,  /* not a file of this kind */
  ONEBNET_FOREIGN,   /* of another version of the format */
  ONEBNET_CUT,       /* shorter or longer than it says */
  ONEBNET_ALTERED,   /* its checksum is another */
  ONEBNET_BROKEN,    /* it contradicts itself, or a size in it is out of bounds */
  ONEBNET_UNALIGNED, /* not at a multiple of 64 bytes in memory */
  ONEBNET_MEMORY,    /* less memory than onebnet_memory asks for */
  ONEBNET_THREADS,   /* fewer than 1 or more than ONEBNET_MAX_THREADS, or a number that the net has no thread of */
  ONEBNET_SET,       /* an instruction set that this CPU or this build lacks */
  ONEBNET_IMAGE,     /* an image of another size than the network takes */
  ONEBNET_UNIT,      /* a unit that the network does not have */
  ONEBNET_CODES
};

enum { ONEBNET_MAX_THREADS = 64 };

typedef struct onebnet onebnet;

/* What a file says of its network. */
typedef struct {
  int height, width, channels; /* of an image */
  int classes;                 /* how many logits */
  int units;                   /* binarized convolutions */
  const char *card;            /* JSON, UTF-8, not ended by a zero: names of the classes, origin, Top-1 and more */
  size_t card_bytes;
} onebnet_info;

/* Looks into a file; checks it as onebnet_init does, but for the checksum. */
int onebnet_describe(const void *file, size_t file_bytes, onebnet_info *info);

/* The shape of what a unit takes (unit < units), or of the last map (unit == units). */
int onebnet_shape(const void *file, size_t file_bytes, int unit, int *height, int *width, int *channels);

/* How many bytes a net needs to work in, for so many threads within one image. */
int onebnet_memory(const void *file, size_t file_bytes, int threads, size_t *bytes);

/* Makes a net in `memory`. set: the name of an instruction set to hold to, NULL for the best that the CPU has. */
int onebnet_init(void *memory, size_t bytes, const void *file, size_t file_bytes, int threads, const char *set,
                 onebnet **net);

/* Pixels, [height][width][channels] of 0..255, to logits, [classes]; count: how many pixel values there are.
   A net for several threads is run by as many at once, each with its own number from 0 on and the same image; all
   return when the logits are there. The number of threads changes no bit of them. */
int onebnet_run(onebnet *net, int thread, const uint8_t *pixels, size_t count, float *logits);

/* The same for float images: normalized ones, or pixels of 0..255 where the card says "raw_input". */
int onebnet_run_float(onebnet *net, int thread, const float *image, size_t count, float *logits);

/* Runs a net for one thread up to a unit, and gives what this unit takes, [height][width][channels]: `map`, and
   `signs`, of -1 and +1, which say where it is above the unit's thresholds. Either may be NULL. For unit == units, the
   last map. The image as for onebnet_run or, where `pixels` is NULL, for onebnet_run_float. ONEBNET_UNIT where signs or
   floats are asked for that the network does not keep. */
int onebnet_look(onebnet *net, const uint8_t *pixels, const float *image, size_t count, int unit, int8_t *signs,
                 float *map);

/* The instruction set that a net uses. */
const char *onebnet_set(const onebnet *net);

/* A sentence for a code. */
const char *onebnet_error(int code);

const char *onebnet_version(void);

#ifdef __cplusplus
}
#endif
#endif
