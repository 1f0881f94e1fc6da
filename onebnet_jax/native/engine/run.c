/* The network's way: stem, units, head. Each part is cut into items, shared out between the threads of a net in fixed
   ranges, and ends with a barrier. No item's result depends on the cut, so the number of threads changes no bit. */
#if defined(__unix__) || defined(__APPLE__)
#define _POSIX_C_SOURCE 200809L
#include <sched.h>
#else
#define sched_yield() 0
#endif
#include <string.h>

#include "internal.h"

/* Bytes of a strip, see project; blocks of input channels whose weights for 32 channels, 16 KiB, stay in the first
   cache for all rows of a strip; floats to a line of the cache; turns of a barrier's wait before it yields. */
enum { STRIP = 100 << 10, WEIGHT_BLOCKS = 4, LINE = 16, SPINS = 2000 };

size_t onebnet_padded_h(const Unit *u) { return padded(u->out_h, u->sr, u->kh, u->top, u->h); }
size_t onebnet_padded_w(const Unit *u) { return padded(u->out_w, u->sc, u->kw, u->left, u->w); }

/* How many rows of a projection's average pool are kept at a time: as fit in STRIP bytes for each thread. */
size_t onebnet_strip_rows(const Unit *u, int map_c, int threads) {
  size_t row = (size_t)u->out_w * blocks(map_c) * BLOCK * sizeof(float), rows = (size_t)STRIP * threads / row;
  return rows < 1 ? 1 : rows > (size_t)u->out_h ? (size_t)u->out_h : rows;
}

/* Waits until all threads are here. A short wait spins; a long one, as with more threads than cores, yields. */
static void barrier(onebnet *net) {
  if (net->threads == 1) return;
  int turn = atomic_load(&net->turn);
  if (atomic_fetch_add(&net->arrived, 1) == net->threads - 1) {
    atomic_store(&net->arrived, 0);
    atomic_store(&net->turn, turn + 1);
  } else {
    for (int spins = 0; atomic_load(&net->turn) == turn; spins++)
      if (spins >= SPINS) sched_yield();
  }
}

/* Surrounds the map of signs that unit u reads with its border; `words` may have held another map. */
static void draw_border(const onebnet *net, const Unit *u, uint32_t *words) {
  int n = blocks(u->c), height = (int)onebnet_padded_h(u), width = (int)onebnet_padded_w(u);
  const uint32_t *border = at(net, u->border);
  for (int row = 0; row < height; row++)
    for (int column = 0; column < width; column++, words += n) {
      if (row >= u->top && row < u->top + u->h && column == u->left) {
        column += u->w - 1, words += (size_t)(u->w - 1) * n;
        continue;
      }
      for (int i = 0; i < n; i++) words[i] = border[i];
    }
}

/* The 1x1 convolution of `count` rows of a strip, for a block of output channels: `size` floats to a row of the strip,
   `out_size` to one of the map. Some of the weights are taken for all rows while the next are on their way. */
static void project_rows(const onebnet *net, const Unit *u, int in_blocks, int block, int count, const float *strip,
                         size_t size, float *out, size_t out_size) {
  const float *weights = (const float *)at(net, u->project) + (size_t)block * in_blocks * BLOCK * BLOCK;
  const float *bias = (const float *)at(net, u->project_bias) + block * BLOCK, *rows[WEIGHT_BLOCKS];
  for (int from = 0; from < in_blocks; from += WEIGHT_BLOCKS) {
    int some = in_blocks - from < WEIGHT_BLOCKS ? in_blocks - from : WEIGHT_BLOCKS;
    int last = from + some == in_blocks && (block + 1) * BLOCK >= u->out_c;
    const float *next = weights + (size_t)(from + some) * BLOCK * BLOCK;
    int floats = last ? 0 : WEIGHT_BLOCKS * BLOCK * BLOCK, share = (floats + count - 1) / count;
    for (int row = 0; row < count; row++) {
      for (int i = row * share; i < floats && i < (row + 1) * share; i += LINE) __builtin_prefetch(next + i, 0, 2);
      for (int i = 0; i < some; i++) rows[i] = strip + row * size + (size_t)(from + i) * u->out_w * BLOCK;
      net->kernels->float_row(&(FloatRow){rows, some, BLOCK, u->out_w, BLOCK, weights + (size_t)from * BLOCK * BLOCK,
                                          from ? NULL : bias, NULL, out + row * out_size});
    }
  }
}

/* map = 1x1 convolution of the map's average pool, or its blocks over and over, in place: a strip of rows is pooled,
   then replaced. From above where the rows shrink, else from below, so that what is written has been read. */
static void project(onebnet *net, int thread, const Unit *u, int map_h, int map_w, int map_c) {
  int in_blocks = blocks(map_c), out_blocks = blocks(u->out_c);
  int strip_rows = (int)onebnet_strip_rows(u, map_c, net->threads);
  size_t in_row = (size_t)map_w * in_blocks * BLOCK, out_row = (size_t)u->out_w * out_blocks * BLOCK;
  size_t strip_row = (size_t)u->out_w * in_blocks * BLOCK;
  float *strip = (float *)net->scratch;
  int strips = (u->out_h + strip_rows - 1) / strip_rows, down = out_row <= (size_t)u->step_r * in_row;
  for (int k = 0; k < strips; k++) {
    int first = (down ? k : strips - 1 - k) * strip_rows, left = u->out_h - first;
    int count = left < strip_rows ? left : strip_rows;
    Range mine = share(net, thread, count * in_blocks);
    for (int item = mine.first; item < mine.last; item++) {
      int row = item / in_blocks, block = item % in_blocks, y = (first + row) * u->step_r;
      net->kernels->mean_row(&(WindowRow){
          .in = net->map + y * in_row + (size_t)block * map_w * BLOCK, .row_step = in_row,
          .height = map_h - y < u->window_r ? map_h - y : u->window_r, .width = u->window_c, .map_width = map_w,
          .step = u->step_c, .n = u->out_w, .out = strip + row * strip_row + (size_t)block * u->out_w * BLOCK});
    }
    barrier(net);
    mine = share(net, thread, out_blocks * count);
    for (int item = mine.first, some; item < mine.last; item += some) {
      int block = item / count, row = item % count;
      some = count - row < mine.last - item ? count - row : mine.last - item; /* rows of this block */
      const float *from = strip + row * strip_row;
      float *out = net->map + (first + row) * out_row + (size_t)block * u->out_w * BLOCK;
      if (u->project) project_rows(net, u, in_blocks, block, some, from, strip_row, out, out_row);
      else
        for (int i = 0; i < some; i++)
          memcpy(out + i * out_row, from + i * strip_row + (size_t)(block % in_blocks) * u->out_w * BLOCK,
                 (size_t)u->out_w * BLOCK * sizeof(float));
    }
    barrier(net);
  }
}

/* The mean of each channel of a block of the map. */
static void mean_of_block(onebnet *net, int block, int h, int w, int c, float *out) {
  net->kernels->mean_row(&(WindowRow){
      .in = net->map + (size_t)block * w * BLOCK, .row_step = (size_t)w * blocks(c) * BLOCK, .height = h,
      .width = w, .map_width = w, .n = 1, .out = out + block * BLOCK});
}

static void gate(onebnet *net, int thread, const Unit *u) {
  Range mine = share(net, thread, blocks(u->c));
  for (int block = mine.first; block < mine.last; block++) mean_of_block(net, block, u->h, u->w, u->c, net->gate);
  barrier(net);
  if (thread == 0) onebnet_gate(net, u);
  barrier(net);
}

/* A unit's binarized convolution, and all that follows it up to the signs that `next`, if any, reads. */
static void convolve(onebnet *net, int thread, const Unit *u, const Unit *next, uint32_t *in, uint32_t *out) {
  int n = blocks(u->out_c), words = blocks(u->c), width = (int)onebnet_padded_w(u);
  int window = u->kh * u->kw * words * BLOCK;
  if (next && thread == 0) draw_border(net, next, out);
  Binary binary = {
      .row_words = (size_t)width * words, .step = (size_t)u->sc * words, .kh = u->kh, .run = u->kw * words,
      .n = u->out_w, .columns = at(net, u->columns), .class_step = (size_t)n * BLOCK, .sign_step = (size_t)n,
      .odd = u->flags & UNIT_ODD, .store = u->flags & UNIT_STORE,
      .add = (u->flags & (UNIT_ADD | UNIT_LAST)) == UNIT_ADD,
      .add_last = (u->flags & (UNIT_ADD | UNIT_LAST)) == (UNIT_ADD | UNIT_LAST)};
  const float *multiplier = at(net, u->multiplier), *bias = at(net, u->bias);
  if (u->flags & UNIT_GATE) multiplier = onebnet_gated(net, u), bias = multiplier + (size_t)n * BLOCK;
  const uint8_t *classes = at(net, u->rows);
  const int32_t *base = at(net, u->base);
  Range mine = share(net, thread, n * u->out_h);
  for (int item = mine.first; item < mine.last; item++) {
    int block = item / u->out_h, r = item % u->out_h, from = block * BLOCK;
    if (r == 0 || item == mine.first) {
      binary.weights = (const uint32_t *)at(net, u->weights) + (size_t)block * window;
      binary.multiplier = multiplier + from;
      binary.bias = bias + from;
      binary.beta = (const float *)at(net, u->beta) + from;
      binary.gamma = u->flags & UNIT_SHIFT ? (const float *)at(net, u->gamma) + from : NULL;
      binary.zeta = u->flags & UNIT_SHIFT ? (const float *)at(net, u->zeta) + from : NULL;
      binary.threshold = next ? (const float *)at(net, next->threshold) + from : NULL;
    }
    net->kernels->binary_row(&binary, in + (size_t)r * u->sr * binary.row_words,
                             base + classes[r] * u->column_classes * binary.class_step + from,
                             net->map + ((size_t)r * n + block) * u->out_w * BLOCK,
                             next ? word_at(next, out, r, 0) + block : out);
  }
}

/* The mean of each channel of the last map, and the logits. */
static void run_head(onebnet *net, int thread, int h, int w, int c, float *logits) {
  const Header *header = net->header;
  int in_blocks = blocks(c), out_blocks = blocks(header->classes);
  const float *weights = at(net, header->head), *bias = at(net, header->head_bias);
  float *mean = (float *)net->scratch;
  const float *rows[1] = {mean};
  if (thread == 0)
    for (int block = 0; block < in_blocks; block++) mean_of_block(net, block, h, w, c, mean);
  barrier(net);
  Range mine = share(net, thread, out_blocks);
  for (int block = mine.first; block < mine.last; block++) {
    float out[BLOCK];
    int count = header->classes - block * BLOCK < BLOCK ? header->classes - block * BLOCK : BLOCK;
    const float *w32 = weights + (size_t)block * in_blocks * BLOCK * BLOCK;
    net->kernels->float_row(&(FloatRow){rows, 1, in_blocks * BLOCK, 1, 0, w32, bias + block * BLOCK, NULL, out});
    memcpy(logits + (size_t)block * BLOCK, out, (size_t)count * sizeof(float));
  }
}

void onebnet_go(onebnet *net, int thread, const uint8_t *pixels, const float *image, int units, float *logits) {
  const Stem *s = &net->header->stem;
  int h = s->out_h, w = s->out_w, c = s->out_c; /* of the map */
  if (thread == 0) draw_border(net, net->units, net->words[0]);
  onebnet_stem(net, thread, pixels, image);
  barrier(net);
  for (int i = 0; i < units; i++) {
    const Unit *u = net->units + i, *next = i + 1 < net->header->unit_count ? u + 1 : NULL;
    if (u->flags & UNIT_GATE) gate(net, thread, u);
    if (u->flags & UNIT_PROJECT) project(net, thread, u, h, w, c);
    convolve(net, thread, u, next, net->words[i & 1], net->words[~i & 1]);
    if (u->flags & (UNIT_PROJECT | UNIT_STORE)) h = u->out_h, w = u->out_w, c = u->out_c;
    barrier(net);
  }
  if (logits) run_head(net, thread, h, w, c, logits);
  if (logits) barrier(net);
}
