// Gradient of the kernel: a table holds the sums of a group of pixels of dy, for a block of output channels, and the
// signs of the map at these pixels pick. Part of kernels.cc.
//
// An item accumulates [block][tap][input channel][output channel of the block] over its pixels; kernel_finish adds the
// items' accumulators in their order.

constexpr int SIXTEEN = 16;  // input channels whose signs are read together

// How the work of a gradient is cut.
struct Cut {
  int block, blocks;   // output channels of a block; blocks of a split
  int channels;        // input channels, with those that fill the last sixteen
  int group, tables;   // pixels of a table, tables at a time
  explicit Cut(const KernelGradient *g) {
    const Shape &s = g->s;
    block = s.o <= 16 ? 16 : 32;
    int all = (s.o + block - 1) / block;
    blocks = (all + g->splits - 1) / g->splits;
    channels = (s.c + SIXTEEN - 1) / SIXTEEN * SIXTEEN;
    group = s.kh * s.kw * s.c < 100 ? 5 : 6;  // a larger table takes longer to make than looking up saves
    tables = TABLES / (4 * block << group);
  }
  int outputs() const { return blocks * block; }
};

// Behind the accumulators: sums of dy by class of row and column, [row class][column class][outputs of the split].
size_t accumulator(const KernelGradient *g) {
  Cut cut(g);
  return (size_t)cut.outputs() * g->s.kh * g->s.kw * cut.channels;
}
size_t part_size(const KernelGradient *g) {
  return ((accumulator(g) + (size_t)g->classes.rows * g->classes.columns * Cut(g).outputs()) * 4 + 63) / 64 * 64;
}
size_t chunk_size(const KernelGradient *g) {
  Cut cut(g);
  size_t chosen = (size_t)g->s.kh * g->s.kw * cut.tables * cut.channels * sizeof(uint16_t);
  return TABLES + chosen + (size_t)cut.tables * cut.group * cut.block * 4 + 64;
}

// Where the rows lie that sixteen channels pick, `base` bytes further: bit i of a row's number is that of word i.
template <int G>
INLINE void choose(const uint32_t *const *words, int shift, uint16_t row_bytes, uint16_t base, uint16_t *to) {
  const offsets16 lane = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768}, none = {0};
  offsets16 row = none;
  UNROLL for (int i = G - 1; i >= 0; i--) {
    const uint16_t word = (uint16_t)(*words[i] >> shift);
    row = row + row - (offsets16)((lane & word) == lane);
  }
  *(offsets16_at *)to = row * row_bytes + base;
}

// G pixels to a table, whose rows are V vectors.
template <int G, int V> INLINE void gradient_of(const KernelGradient *g, int item, void *scratch) {
  const Shape &s = g->s;
  const Cut cut(g);
  constexpr int STEPS = TABLES / (4 * V * LANES << G), MOST = STEPS * G;  // tables and pixels at a time
  const int taps = s.kh * s.kw, outputs = cut.outputs(), row_bytes = 4 * V * LANES;
  const int first_output = item % g->splits * outputs;
  const int there = s.o - first_output < outputs ? s.o - first_output : outputs;
  const size_t image = (size_t)s.oh * s.ow, pixels = image * s.n;
  const size_t first = pixels * (item / g->splits) / g->chunks, last = pixels * (item / g->splits + 1) / g->chunks;
  float *sums = (float *)((char *)g->parts + part_size(g) * item);
  float *border = sums + accumulator(g);
  memset(sums, 0, part_size(g));
  float *tables = (float *)scratch, *values = tables + TABLES / 4;  // values: [pixel][block], of the last block
  uint16_t *chosen = (uint16_t *)(values + (size_t)STEPS * G * V * LANES);  // [tap][table][channel]
  const int classes = g->classes.rows * g->classes.columns;
  bool interior[MAX_CLASSES];
  for (int i = 0; i < classes; i++) interior[i] = all_inside(g, i / g->classes.columns, i % g->classes.columns);
  size_t n = first / image;  // the pixel
  int r = (int)(first % image) / s.ow, k = (int)(first % image) % s.ow;

  for (size_t q0 = first; q0 < last; q0 += MOST) {
    int here = (int)(last - q0 < MOST ? last - q0 : MOST), steps = (here + G - 1) / G;
    size_t words[MOST];
    for (int i = 0; i < steps * G; i++) {
      if (i >= here) {  // fills the last group: the values are 0
        words[i] = words[0];
        continue;
      }
      words[i] = ((n * s.padded_h + (size_t)r * s.sr) * s.padded_w + (size_t)k * s.sc) * s.words;
      int a = g->classes.row[r], b = g->classes.column[k];
      if (!interior[a * g->classes.columns + b]) {
        const float *row = g->dy + (q0 + i) * s.o + first_output;
        float *to = border + (size_t)(a * g->classes.columns + b) * outputs;
        for (int o = 0; o < there; o += LANES)
          store_some(to + o, load_some(to + o, there - o) + load_some(row + o, there - o), there - o);
      }
      if (++k == s.ow) k = 0, ++r;
      if (r == s.oh) r = 0, ++n;
    }
    for (int t = 0; t < taps; t++) {
      const uint32_t *bits = g->bits + ((size_t)(t / s.kw) * s.padded_w + t % s.kw) * s.words;
      for (int j = 0; j < steps; j++) {
        const uint32_t *of[G];
        UNROLL for (int i = 0; i < G; i++) of[i] = bits + words[j * G + i];
        uint16_t *to = chosen + ((size_t)t * STEPS + j) * cut.channels;
        for (int c = 0; c < cut.channels; c += SIXTEEN) {
          choose<G>(of, c % 32, row_bytes, (uint16_t)((j << G) * row_bytes), to + c);
          if (c % 32) UNROLL for (int i = 0; i < G; i++) of[i]++;
        }
      }
    }
    for (int o = 0; o < there; o += V * LANES) {
      const bool whole = there - o >= V * LANES;
      for (int j = 0; j < steps; j++) {
        const float *rows[G];
        UNROLL for (int i = 0; i < G; i++) {
          int at = j * G + i;
          const float *row = g->dy + (q0 + at) * s.o + first_output + o;
          if (at < here && whole) rows[i] = row;
          else {
            float *copy = values + at * V * LANES;
            memset(copy, 0, row_bytes);
            if (at < here) memcpy(copy, row, 4 * (size_t)(there - o < V * LANES ? there - o : V * LANES));
            rows[i] = copy;
          }
        }
        fill_table<G, V>(rows, V * LANES, tables + ((size_t)j << G) * V * LANES);
      }
      for (int t = 0; t < taps; t++) {
        float *to = sums + ((size_t)(o / (V * LANES)) * taps + t) * cut.channels * V * LANES;
        add_rows<together(V), V>(to, cut.channels, tables, chosen + (size_t)t * STEPS * cut.channels,
                                  cut.channels, steps);
      }
    }
  }
}

void kernel_gradient(const KernelGradient *g, int item, void *scratch) {
  const Cut cut(g);
  auto run = [&](auto vectors) {
    cut.group == 5 ? gradient_of<5, vectors>(g, item, scratch) : gradient_of<6, vectors>(g, item, scratch);
  };
  cut.block == 16 ? run(Constant<16 / LANES>()) : run(Constant<32 / LANES>());
}

// Item: one tap and LANES input channels of one split. Sums over the chunks.
void kernel_finish(const KernelGradient *g, int item) {
  const Shape &s = g->s;
  const Cut cut(g);
  const int units = (s.c + LANES - 1) / LANES, taps = s.kh * s.kw, outputs = cut.outputs();
  const int split = item % g->splits, unit = item / g->splits, tap = unit / units;
  const int c0 = unit % units * LANES, channels = s.c - c0 < LANES ? s.c - c0 : LANES;
  const int classes = g->classes.rows * g->classes.columns;
  bool outside[MAX_CLASSES];
  for (int i = 0; i < classes; i++) {
    int r = g->classes.first_row[i / g->classes.columns], k = g->classes.first_column[i % g->classes.columns];
    outside[i] = !s.pad_value && !inside(&s, r, k, tap / s.kw, tap % s.kw);
  }
  for (int o = 0; o < outputs && split * outputs + o < s.o; o += LANES) {
    int there = s.o - split * outputs - o;
    floats border = {0}, sum[LANES] = {};
    for (int chunk = 0; chunk < g->chunks; chunk++) {
      const float *part = (const float *)((const char *)g->parts + part_size(g) * (chunk * g->splits + split));
      const float *of_class = part + accumulator(g) + o;
      part += (((size_t)(o / cut.block) * taps + tap) * cut.channels + c0) * cut.block + o % cut.block;
      for (int c = 0; c < channels; c++) sum[c] += load(part + (size_t)c * cut.block);
      for (int i = 0; i < classes; i++)
        if (outside[i]) border += load(of_class + i * outputs);
    }
    // The border's bits are 0, which picked -1 where there is nothing.
    for (int c = 0; c < channels; c++)
      store_some(g->dw + ((size_t)tap * s.c + c0 + c) * s.o + split * outputs + o, sum[c] + border, there);
  }
}
