// Forward pass of float weights: a table holds the sums of a few input channels' weights, for a block of output channels,
// and the signs of the map pick. Part of kernels.cc.
//
// Item: a range of output pixels of all images, and a block of output channels.

constexpr int RANGE = 1024;  // pixels: so many share a table, and their sums stay in the second cache
constexpr int AT_ONCE = 16;  // tables used together at most
constexpr int CHANNELS = 6;  // of a table at most

INLINE int float_block(const Shape &s) { return s.o <= 16 ? 16 : 32; }

int float_items(const FloatForward *f) {
  const Shape &s = f->s;
  size_t pixels = (size_t)s.n * s.oh * s.ow;
  return (int)((pixels + RANGE - 1) / RANGE) * ((s.o + float_block(s) - 1) / float_block(s));
}

size_t float_scratch(const FloatForward *f) {
  size_t row = 4 * (size_t)float_block(f->s);
  return TABLES + (RANGE + MAX_CLASSES + CHANNELS) * row + RANGE * (sizeof(size_t) + sizeof(uint32_t) + AT_ONCE * sizeof(uint16_t));
}

// What is added where the border's bits, which are 0, picked -1 and nothing is there: the weights of these taps.
template <int V> INLINE void border_sums(const FloatForward *f, int first_output, int there, float *sums) {
  const Shape &s = f->s;
  for (int a = 0; a < f->classes.rows; a++)
    for (int b = 0; b < f->classes.columns; b++, sums += V * LANES) {
      floats sum[V] = {};
      for (int t = 0; t < s.kh * s.kw; t++) {
        if (s.pad_value || inside(&s, f->classes.first_row[a], f->classes.first_column[b], t / s.kw, t % s.kw)) continue;
        for (int c = 0; c < s.c; c++)
          for (int v = 0; v < V && v * LANES < there; v++)
            sum[v] += load_some(f->kernel + ((size_t)t * s.c + c) * s.o + first_output + v * LANES, there - v * LANES);
      }
      for (int v = 0; v < V; v++) store(sums + v * LANES, sum[v]);
    }
}

template <int V> INLINE void float_range(const FloatForward *f, int range, int block, char *scratch) {
  constexpr int WIDTH = V * LANES, MOST = WIDTH == 16 ? CHANNELS : 5;  // channels of a table
  const Shape &s = f->s;
  const int first_output = block * WIDTH, there = s.o - first_output < WIDTH ? s.o - first_output : WIDTH;
  const size_t image = (size_t)s.oh * s.ow, first = (size_t)range * RANGE;
  const int count = (int)(s.n * image - first < RANGE ? s.n * image - first : RANGE), rounded = (count + 3) / 4 * 4;
  float *tables = (float *)scratch, *sums = tables + TABLES / 4, *borders = sums + RANGE * WIDTH;
  float *copies = borders + MAX_CLASSES * WIDTH;  // [CHANNELS][WIDTH]
  size_t *at = (size_t *)(copies + CHANNELS * WIDTH);
  uint32_t *words = (uint32_t *)(at + RANGE);
  uint16_t *offsets = (uint16_t *)(words + RANGE);

  border_sums<V>(f, first_output, there, borders);
  size_t n = first / image;
  int r = (int)(first % image) / s.ow, k = (int)(first % image) % s.ow;
  for (int p = 0; p < count; p++) {
    at[p] = ((n * s.padded_h + (size_t)r * s.sr) * s.padded_w + (size_t)k * s.sc) * s.words;
    memcpy(sums + p * WIDTH, borders + (f->classes.row[r] * f->classes.columns + f->classes.column[k]) * WIDTH, 4 * WIDTH);
    if (++k == s.ow) k = 0, ++r;
    if (r == s.oh) r = 0, ++n;
  }
  for (int p = count; p < rounded; p++) words[p] = 0, memset(sums + p * WIDTH, 0, 4 * WIDTH);

  int chosen = 0, used = 0;  // tables, and their bytes
  auto look_up = [&]() __attribute__((always_inline)) {
    add_rows<together(V), V>(sums, rounded, tables, offsets, RANGE, chosen);
    chosen = used = 0;
  };
  for (int t = 0; t < s.kh * s.kw; t++)
    for (int w = 0; w < s.words; w++) {
      const uint32_t *bits = f->bits + ((size_t)(t / s.kw) * s.padded_w + t % s.kw) * s.words + w;
      for (int p = 0; p < count; p++) words[p] = bits[at[p]];
      const int channels = s.c - 32 * w < 32 ? s.c - 32 * w : 32;
      for (int c = 0, group; c < channels; c += group) {
        group = even_part(channels - c, MOST);
        const int size = group < 2 ? 2 : group, bytes = 4 * WIDTH << size;  // the smallest table there is has two rows
        if (used + bytes > TABLES || chosen == AT_ONCE) look_up();
        const float *rows[MOST];
        for (int i = 0; i < size; i++) {
          const float *row = f->kernel + ((size_t)t * s.c + 32 * w + c + i) * s.o + first_output;
          rows[i] = row;
          if (i < group && there == WIDTH) continue;
          rows[i] = copies + i * WIDTH;
          memset(copies + i * WIDTH, 0, 4 * WIDTH);
          if (i < group) memcpy(copies + i * WIDTH, row, 4 * (size_t)there);
        }
        float *table = tables + used / 4;
        dispatch<MOST - 1>(size - 1, [&](auto less) { fill_table<less + 1, V>(rows, WIDTH, table); });
        uint16_t *to = offsets + chosen * RANGE;
        const uint32_t mask = (1u << size) - 1;
        for (int p = 0; p < rounded; p++) to[p] = (uint16_t)((words[p] >> c & mask) * (4 * WIDTH) + used);
        chosen++, used += bytes;
      }
    }
  look_up();
  for (int p = 0; p < count; p++)
    for (int v = 0; v < V && v * LANES < there; v++)
      store_some(f->y + (first + p) * s.o + first_output + v * LANES, load(sums + p * WIDTH + v * LANES),
                 there - v * LANES);
}

void float_forward(const FloatForward *f, int item, void *scratch) {
  const int block = float_block(f->s), blocks = (f->s.o + block - 1) / block;
  if (block == 16) float_range<16 / LANES>(f, item / blocks, item % blocks, (char *)scratch);
  else float_range<32 / LANES>(f, item / blocks, item % blocks, (char *)scratch);
}
