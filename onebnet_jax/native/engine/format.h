/* The file: a header, one record for each unit, and arrays. export/native.py writes it.

   All numbers are little-endian. Arrays begin at multiples of 64 bytes from the start of the file, which is where
   offsets count from. Channels come in blocks of 32; what fills up the last block is zero, but for thresholds, which
   are infinite. A word holds the signs of 32 channels, bit 0 those of the first: set for +1. */
#ifndef ONEBNET_FORMAT_H
#define ONEBNET_FORMAT_H
#include <stdint.h>

#define FORMAT_MAGIC "OneBNet\n"
enum { FORMAT_VERSION = 3, BLOCK = 32, ALIGNMENT = 64 };
/* What a file may hold: far above any network, far below where a product could overflow 64 bits. */
enum { MAX_SIDE = 8192, MAX_CHANNELS = 8192, MAX_KERNEL = 15, MAX_STRIDE = 15, MAX_CLASSES = 1 << 20 };
enum { MAX_UNITS = 4096 };

/* float [H][W][C] -> conv -> bias -> PReLU, perhaps -> 3x3 max pool with stride 2, perhaps -> [out_h][out_w][out_c] */
typedef struct {
  int32_t h, w, c;          /* of the image */
  int32_t conv_h, conv_w;   /* of the convolution's result */
  int32_t out_h, out_w, out_c;
  int32_t kh, kw, sr, sc;   /* kernel and strides */
  int32_t top, left;        /* rows and columns of zeros before the image */
  uint32_t beta;            /* float [out_c], or 0 for no PReLU; all 0 for a ReLU */
  int32_t pool;             /* 0 or 1 */
  int32_t pool_top, pool_left;
  uint32_t weights;         /* float [out_c / 32][kh][kw][c][32] */
  uint32_t bias;            /* float [out_c] */
} Stem;

/* What a unit does beside y = multiplier * (base + signs that differ) + bias. There is one float map at any time. A
   gate is sigmoid(relu(mean of the map * gate_in + gate_bias) * gate_out), before all else. */
enum {
  UNIT_PROJECT = 1, /* first, map = 1x1 convolution of its average pool, or the pool's blocks over and over */
  UNIT_ADD = 2,     /* y += map */
  UNIT_STORE = 4,   /* map = PReLU(y - gamma) + zeta; without it only the signs of that are kept */
  UNIT_SHIFT = 8,   /* there are gamma and zeta */
  UNIT_GATE = 16,   /* y *= gate */
  UNIT_LAST = 32,   /* the map is added behind zeta, not to y */
  UNIT_ODD = 64,    /* half a sum of signs may end in .5, so base is minus the whole sum */
  UNIT_FLAGS = 127
};

typedef struct {
  int32_t h, w, c, out_h, out_w, out_c;
  int32_t kh, kw, sr, sc, top, left;
  int32_t flags;
  int32_t window_r, window_c, step_r, step_c; /* of the average pool; what sticks out below or to the right is cut */
  int32_t row_classes, column_classes;
  uint32_t rows, columns;  /* uint8 [out_h], [out_w]: the class of a position, by the taps that lie inside the map */
  uint32_t base;           /* int32 [row_classes][column_classes][out_c]: minus half the sum of signs if none
                              differed */
  uint32_t threshold;      /* float [c]: a sign is + where x > threshold */
  uint32_t border;         /* words [c / 32]: what surrounds the map */
  uint32_t weights;        /* words [out_c / 32][kh][kw][c / 32][32 output channels] */
  uint32_t multiplier;     /* float [out_c]: of minus half the sum of signs */
  uint32_t bias, beta;     /* float [out_c] */
  uint32_t gamma, zeta;    /* float [out_c], or 0 */
  uint32_t project, project_bias; /* float [out_c / 32][c of the map][32], [out_c], or 0 for no convolution */
  int32_t hidden;          /* channels between the gate's matrices, 0 for no gate */
  uint32_t gate_in, gate_bias, gate_out; /* float [c][hidden], [hidden], [hidden][out_c], or 0 */
} Unit;

typedef struct {
  char magic[8];
  uint32_t version;
  uint32_t crc;             /* CRC-32, as zlib's, of all that follows */
  uint64_t bytes;           /* of the whole file */
  uint32_t card, card_bytes;
  uint32_t table;           /* float [C][256]: what the first convolution takes for each pixel value */
  uint32_t mean;            /* float [C]: what is subtracted from a float image; 0 for nothing */
  uint32_t units;           /* Unit [unit_count] */
  int32_t unit_count;
  uint32_t head, head_bias; /* float [classes / 32][C of the last map][32], [classes] */
  int32_t classes, unused;
  Stem stem;
} Header;

_Static_assert(sizeof(Unit) == 144 && sizeof(Stem) == 80 && sizeof(Header) == 144, "no gaps in the file's records");
#endif
