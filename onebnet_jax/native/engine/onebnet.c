/* The library's functions: they check a file, plan a net's memory, and choose its instruction set. */
#include "onebnet.h"

#include <string.h>

#include "internal.h"

#define TRY(code) do { int code_ = (code); if (code_) return code_; } while (0)

static int within(int64_t value, int64_t low, int64_t high) { return value >= low && value <= high; }

/* Whether `count` elements of `size` bytes lie at an offset of the file behind its header. */
static int holds(const Header *h, uint32_t offset, uint64_t count, uint64_t size) {
  return offset >= sizeof(Header) && offset % ALIGNMENT == 0 && offset <= h->bytes &&
         count <= (h->bytes - offset) / size;
}

static int check_stem(const Header *h) {
  const Stem *s = &h->stem;
  int32_t sides[] = {s->h, s->w, s->conv_h, s->conv_w, s->out_h, s->out_w};
  for (int i = 0; i < 6; i++)
    if (!within(sides[i], 1, MAX_SIDE)) return 0;
  int conv = within(s->c, 1, 4096) && within(s->out_c, 1, MAX_CHANNELS) && within(s->kh, 1, MAX_KERNEL) &&
             within(s->kw, 1, MAX_KERNEL) && within(s->sr, 1, MAX_STRIDE) && within(s->sc, 1, MAX_STRIDE) &&
             within(s->top, 0, s->kh - 1) && within(s->left, 0, s->kw - 1) && within(s->pool, 0, 1) &&
             (!s->beta || holds(h, s->beta, (uint64_t)blocks(s->out_c) * BLOCK, 4));
  /* Each window of the pool holds a pixel. */
  int pool = s->pool ? within(s->pool_top, 0, 2) && within(s->pool_left, 0, 2) &&
                           within((s->out_h - 1) * 2 - s->pool_top, -2, s->conv_h - 1) &&
                           within((s->out_w - 1) * 2 - s->pool_left, -2, s->conv_w - 1)
                     : s->out_h == s->conv_h && s->out_w == s->conv_w;
  if (!conv || !pool) return 0;
  uint64_t terms = (uint64_t)s->kh * s->kw * s->c, channels = (uint64_t)blocks(s->out_c) * BLOCK;
  return holds(h, s->weights, terms * channels, 4) && holds(h, s->bias, channels, 4);
}

static int check_classes(const Header *h, uint32_t offset, int count, int classes) {
  if (!holds(h, offset, (uint64_t)count, 1)) return 0;
  for (int i = 0; i < count; i++)
    if (((const uint8_t *)h)[offset + i] >= classes) return 0;
  return 1;
}

/* A unit on a map of size (m[0], m[1], m[2]), which it may change. */
static int check_unit(const Header *h, const Unit *u, int32_t *m) {
  int sizes = within(u->h, 1, MAX_SIDE) && within(u->w, 1, MAX_SIDE) && within(u->c, 1, MAX_CHANNELS) &&
              within(u->out_h, 1, MAX_SIDE) && within(u->out_w, 1, MAX_SIDE) && within(u->out_c, 1, MAX_CHANNELS) &&
              within(u->kh, 1, MAX_KERNEL) && within(u->kw, 1, MAX_KERNEL) && within(u->sr, 1, MAX_STRIDE) &&
              within(u->sc, 1, MAX_STRIDE) && within(u->top, 0, u->kh - 1) && within(u->left, 0, u->kw - 1) &&
              within(u->flags, 0, UNIT_FLAGS) && within(u->row_classes, 1, 255) && within(u->column_classes, 1, 255);
  if (!sizes) return 0;
  uint64_t in = (uint64_t)blocks(u->c), out = (uint64_t)blocks(u->out_c) * BLOCK, taps = (uint64_t)u->kh * u->kw;
  int arrays = check_classes(h, u->rows, u->out_h, u->row_classes) &&
               check_classes(h, u->columns, u->out_w, u->column_classes) &&
               holds(h, u->base, out * u->row_classes * u->column_classes, 4) &&
               holds(h, u->threshold, in * BLOCK, 4) && holds(h, u->border, in, 4) &&
               holds(h, u->weights, out * taps * in, 4) &&
               holds(h, u->multiplier, out, 4) && holds(h, u->bias, out, 4) && holds(h, u->beta, out, 4);
  if (u->flags & UNIT_SHIFT) arrays = arrays && holds(h, u->gamma, out, 4) && holds(h, u->zeta, out, 4);
  if (u->flags & UNIT_GATE)
    arrays = arrays && m[0] == u->h && m[1] == u->w && m[2] == u->c && within(u->hidden, 1, MAX_CHANNELS) &&
             holds(h, u->gate_in, (uint64_t)u->c * u->hidden, 4) && holds(h, u->gate_bias, (uint64_t)u->hidden, 4) &&
             holds(h, u->gate_out, (uint64_t)u->hidden * out, 4);
  if (u->flags & UNIT_PROJECT) {
    arrays = arrays && within(u->window_r, 1, MAX_STRIDE) && within(u->window_c, 1, MAX_STRIDE) &&
             within(u->step_r, 1, MAX_STRIDE) && within(u->step_c, 1, MAX_STRIDE) &&
             (int64_t)(u->out_h - 1) * u->step_r < m[0] && (int64_t)(u->out_w - 1) * u->step_c < m[1] &&
             ((!u->project && !u->project_bias) ||
              (holds(h, u->project, out * blocks(m[2]) * BLOCK, 4) && holds(h, u->project_bias, out, 4)));
  }
  if (u->flags & (UNIT_PROJECT | UNIT_STORE)) {
    if (u->flags & UNIT_ADD && !(u->flags & UNIT_PROJECT))
      arrays = arrays && m[0] == u->out_h && m[1] == u->out_w && m[2] == u->out_c;
    m[0] = u->out_h, m[1] = u->out_w, m[2] = u->out_c;
  } else if (u->flags & UNIT_ADD) {
    arrays = arrays && m[0] == u->out_h && m[1] == u->out_w && m[2] == u->out_c;
  }
  return arrays;
}

/* A code; header: the file's. Looks at every number that a later step relies on, but not at the checksum. */
static int check(const void *file, size_t bytes, const Header **header) {
  const Header *h = *header = file;
  if (!file || bytes < sizeof h->magic || memcmp(file, FORMAT_MAGIC, sizeof h->magic)) return ONEBNET_NO_MODEL;
  if ((uintptr_t)file % ALIGNMENT) return ONEBNET_UNALIGNED;
  if (bytes < sizeof *h) return ONEBNET_CUT;
  if (h->version != FORMAT_VERSION) return ONEBNET_FOREIGN;
  if (h->bytes != bytes) return ONEBNET_CUT;
  int whole = within(h->unit_count, 1, MAX_UNITS) && within(h->classes, 1, MAX_CLASSES) &&
              holds(h, h->card, h->card_bytes, 1) && holds(h, h->units, (uint64_t)h->unit_count, sizeof(Unit)) &&
              check_stem(h) && holds(h, h->table, (uint64_t)h->stem.c * 256, 4) &&
              (!h->mean || holds(h, h->mean, (uint64_t)h->stem.c, 4));
  if (!whole) return ONEBNET_BROKEN;
  const Unit *u = (const Unit *)((const char *)file + h->units);
  int32_t map[3] = {h->stem.out_h, h->stem.out_w, h->stem.out_c}, before[3] = {map[0], map[1], map[2]};
  for (int i = 0; i < h->unit_count; i++, u++) {
    if (u->h != before[0] || u->w != before[1] || u->c != before[2] || !check_unit(h, u, map)) return ONEBNET_BROKEN;
    before[0] = u->out_h, before[1] = u->out_w, before[2] = u->out_c;
  }
  uint64_t classes = (uint64_t)blocks(h->classes) * BLOCK;
  int head = holds(h, h->head, classes * blocks(map[2]) * BLOCK, 4) && holds(h, h->head_bias, classes, 4);
  return head ? ONEBNET_OK : ONEBNET_BROKEN;
}

/* CRC-32 as zlib's, eight bytes at a time. */
static uint32_t crc32(const uint8_t *data, size_t bytes) {
  uint32_t table[8][256], crc = 0xffffffffu;
  for (uint32_t i = 0; i < 256; i++) {
    table[0][i] = i;
    for (int bit = 0; bit < 8; bit++) table[0][i] = table[0][i] >> 1 ^ (table[0][i] & 1 ? 0xedb88320u : 0);
  }
  for (int k = 1; k < 8; k++)
    for (int i = 0; i < 256; i++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
  for (; bytes >= 8; data += 8, bytes -= 8) {
    uint32_t low, high;
    memcpy(&low, data, 4), memcpy(&high, data + 4, 4);
    low ^= crc;
    crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
          table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
  }
  for (; bytes; bytes--) crc = crc >> 8 ^ table[0][(crc ^ *data++) & 255];
  return ~crc;
}

static size_t place(uint64_t *end, uint64_t bytes) {
  uint64_t start = *end;
  *end += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  return (size_t)start;
}

static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

static Layout lay_out(const Header *h, int threads) {
  const Unit *u = (const Unit *)((const char *)h + h->units);
  const Stem *s = &h->stem;
  int c = s->out_c;
  uint64_t map = (uint64_t)s->out_h * s->out_w * blocks(c), words = 0, part = onebnet_stem_scratch(s), whole = 0;
  uint64_t gate = 0;
  for (int i = 0; i < h->unit_count; i++, u++) {
    words = most(words, (uint64_t)onebnet_padded_h(u) * onebnet_padded_w(u) * blocks(u->c));
    if (u->flags & UNIT_GATE) gate = most(gate, onebnet_gate_floats(u));
    if (u->flags & UNIT_PROJECT)
      whole = most(whole, (uint64_t)onebnet_strip_rows(u, c, threads) * u->out_w * blocks(c));
    if (u->flags & (UNIT_PROJECT | UNIT_STORE)) {
      c = u->out_c;
      map = most(map, (uint64_t)u->out_h * u->out_w * blocks(c));
    }
  }
  whole = most(whole, (uint64_t)blocks(c)); /* the means of the head */
  Layout l;
  l.bytes = 0;
  place(&l.bytes, sizeof(onebnet));
  l.map = place(&l.bytes, map * BLOCK * sizeof(float));
  l.words[0] = place(&l.bytes, words * sizeof(uint32_t));
  l.words[1] = place(&l.bytes, words * sizeof(uint32_t));
  l.gate = place(&l.bytes, gate * sizeof(float));
  l.stem = place(&l.bytes, onebnet_stem_weights(s) * sizeof(float));
  part = (part + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  l.scratch_of_thread = (size_t)part;
  l.scratch = place(&l.bytes, most(part * threads, whole * BLOCK * sizeof(float)));
  l.bytes += ALIGNMENT; /* to align it */
  return l;
}

static const Kernels *choose(const char *set) {
  const Kernels *all[4];
  int n = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq")) all[n++] = &onebnet_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all[n++] = &onebnet_avx2;
#elif defined(__aarch64__)
  all[n++] = &onebnet_neon;
#elif defined(__wasm_simd128__)
  all[n++] = &onebnet_wasm;
#endif
  all[n++] = &onebnet_plain;
  for (int i = 0; i < n; i++)
    if (!set || !strcmp(set, all[i]->name)) return all[i];
  return NULL;
}

int onebnet_describe(const void *file, size_t file_bytes, onebnet_info *info) {
  const Header *h;
  TRY(check(file, file_bytes, &h));
  const Stem *s = &h->stem;
  *info = (onebnet_info){s->h, s->w, s->c, h->classes, h->unit_count, (const char *)file + h->card, h->card_bytes};
  return ONEBNET_OK;
}

int onebnet_shape(const void *file, size_t file_bytes, int unit, int *height, int *width, int *channels) {
  const Header *h;
  TRY(check(file, file_bytes, &h));
  if (!within(unit, 0, h->unit_count)) return ONEBNET_UNIT;
  const Unit *u = (const Unit *)((const char *)file + h->units) + unit;
  if (unit < h->unit_count) *height = u->h, *width = u->w, *channels = u->c;
  else u--, *height = u->out_h, *width = u->out_w, *channels = u->out_c;
  return ONEBNET_OK;
}

int onebnet_memory(const void *file, size_t file_bytes, int threads, size_t *bytes) {
  const Header *h;
  TRY(check(file, file_bytes, &h));
  if (!within(threads, 1, ONEBNET_MAX_THREADS)) return ONEBNET_THREADS;
  uint64_t all = lay_out(h, threads).bytes;
  if (all > SIZE_MAX) return ONEBNET_MEMORY;
  *bytes = (size_t)all;
  return ONEBNET_OK;
}

int onebnet_init(void *memory, size_t bytes, const void *file, size_t file_bytes, int threads, const char *set,
                 onebnet **net) {
  size_t needed;
  TRY(onebnet_memory(file, file_bytes, threads, &needed));
  const Header *h = file;
  size_t from = offsetof(Header, crc) + sizeof h->crc;
  if (crc32((const uint8_t *)file + from, file_bytes - from) != h->crc) return ONEBNET_ALTERED;
  if (!memory || bytes < needed) return ONEBNET_MEMORY;
  const Kernels *kernels = choose(set);
  if (!kernels) return ONEBNET_SET;
  char *base = (char *)memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT) % ALIGNMENT;
  Layout l = lay_out(h, threads);
  onebnet *n = *net = (onebnet *)base;
  *n = (onebnet){.file = file, .header = h, .units = (const Unit *)((const char *)file + h->units), .kernels = kernels,
                 .threads = threads, .map = (float *)(base + l.map),
                 .words = {(uint32_t *)(base + l.words[0]), (uint32_t *)(base + l.words[1])},
                 .gate = (float *)(base + l.gate), .stem_weights = (float *)(base + l.stem),
                 .scratch = base + l.scratch, .scratch_of_thread = l.scratch_of_thread};
  onebnet_combine_weights(n, n->stem_weights);
  return ONEBNET_OK;
}

static int run(onebnet *net, int thread, const uint8_t *pixels, const float *image, size_t count, float *logits) {
  const Stem *s = &net->header->stem;
  if (!within(thread, 0, net->threads - 1)) return ONEBNET_THREADS;
  if ((!pixels && !image) || count != (size_t)s->h * s->w * s->c) return ONEBNET_IMAGE;
  onebnet_go(net, thread, pixels, image, net->header->unit_count, logits);
  return ONEBNET_OK;
}

int onebnet_run(onebnet *net, int thread, const uint8_t *pixels, size_t count, float *logits) {
  return run(net, thread, pixels, NULL, count, logits);
}

int onebnet_run_float(onebnet *net, int thread, const float *image, size_t count, float *logits) {
  return run(net, thread, NULL, image, count, logits);
}
