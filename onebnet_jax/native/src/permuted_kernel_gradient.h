// AVX-512's gradient of the kernel: lanes are input channels, tables hold the sums of GROUP pixels of dy for one output
// channel, and the signs of the map at these pixels pick. Part of kernels.cc.
//
// A unit is one tap and LANES input channels. An item accumulates [block of TO outputs][block of TI units][TO][TI]
// vectors over its pixels; kernel_finish adds the items' accumulators in their order.

constexpr int TO = 8, TI = 3;
constexpr int STEPS = 16;  // groups of pixels between loading and storing an accumulator

struct Units {
  int channels, count, blocks;
  explicit Units(const Shape &s)
      : channels((s.c + LANES - 1) / LANES), count(channels * s.kh * s.kw), blocks((count + TI - 1) / TI) {}
};

// The output channels of a split: whole blocks of TO.
struct Split {
  int first, blocks;
  Split(const KernelGradient *g, int i) {
    int all = (g->s.o + TO - 1) / TO, each = (all + g->splits - 1) / g->splits;
    first = i * each * TO;
    int left = all - i * each;
    blocks = left < 0 ? 0 : left < each ? left : each;
  }
};

// Behind the accumulators: sums of dy by class of row and column, [row class][column class][outputs of the split].
size_t accumulator(const KernelGradient *g) {
  return (size_t)Split(g, 0).blocks * Units(g->s).blocks * TO * TI;
}
size_t part_size(const KernelGradient *g) {
  size_t border = (size_t)g->classes.rows * g->classes.columns * Split(g, 0).blocks * TO * 4;
  return (accumulator(g) * sizeof(floats) + border + 63) / 64 * 64;
}
size_t chunk_size(const KernelGradient *g) {
  size_t choices = (size_t)Units(g->s).blocks * TI * STEPS, tables = (size_t)STEPS * TO;
  return choices * sizeof(ints) + tables * sizeof(floats) + (size_t)g->s.o * 4 + 64;
}

void kernel_gradient(const KernelGradient *g, int item, void *scratch) {
  const Shape &s = g->s;
  const Units units(s);
  const Split split(g, item % g->splits);
  const int taps = s.kh * s.kw, outputs = Split(g, 0).blocks * TO;
  const size_t image = (size_t)s.oh * s.ow, pixels = image * s.n;
  const size_t first = pixels * (item / g->splits) / g->chunks, last = pixels * (item / g->splits + 1) / g->chunks;
  floats *sums = (floats *)((char *)g->parts + part_size(g) * item);
  float *border = (float *)(sums + accumulator(g));
  memset(sums, 0, part_size(g));
  ints *chosen = (ints *)scratch;  // [block of units][step][TI]
  floats *tables = (floats *)(chosen + (size_t)units.blocks * TI * STEPS);
  float *zeros = (float *)(tables + STEPS * TO);
  memset(chosen, 0, (size_t)units.blocks * TI * STEPS * sizeof(ints));
  memset(zeros, 0, 4 * (size_t)s.o + 64);
  const int classes = g->classes.rows * g->classes.columns;
  const int border_outputs = s.o - split.first < outputs ? s.o - split.first : outputs;
  bool interior[MAX_CLASSES];
  for (int i = 0; i < classes; i++) interior[i] = all_inside(g, i / g->classes.columns, i % g->classes.columns);
  size_t n = first / image;  // the pixel
  int r = (int)(first % image) / s.ow, k = (int)(first % image) % s.ow;

  for (size_t q0 = first; q0 < last; q0 += STEPS * GROUP) {
    int here = (int)(last - q0 < STEPS * GROUP ? last - q0 : STEPS * GROUP), steps = (here + GROUP - 1) / GROUP;
    size_t words[STEPS * GROUP];
    const float *rows[STEPS * GROUP];
    for (int i = 0; i < steps * GROUP; i++) {
      if (i >= here) {  // fills the last group: the values are 0
        words[i] = words[0], rows[i] = zeros;
        continue;
      }
      words[i] = ((n * s.padded_h + (size_t)r * s.sr) * s.padded_w + (size_t)k * s.sc) * s.words;
      rows[i] = g->dy + (q0 + i) * s.o + split.first;
      int a = g->classes.row[r], b = g->classes.column[k];
      if (!interior[a * g->classes.columns + b]) {
        float *to = border + (size_t)(a * g->classes.columns + b) * outputs;
        for (int o = 0; o < border_outputs; o += LANES)
          store_some(to + o, load_some(to + o, border_outputs - o) + load_some(rows[i] + o, border_outputs - o),
                     border_outputs - o);
      }
      if (++k == s.ow) k = 0, ++r;
      if (r == s.oh) r = 0, ++n;
    }
    for (int t = 0, u = 0; t < taps; t++) {
      const uint32_t *bits = g->bits + ((size_t)(t / s.kw) * s.padded_w + t % s.kw) * s.words;
      for (int c = 0; c < units.channels; c++, u++) {
        ints *to = chosen + (size_t)(u / TI) * STEPS * TI + u % TI;
        int word = c * LANES / 32, shift = c * LANES % 32;
        for (int j = 0; j < steps; j++) {
          const uint32_t *of[GROUP];
          UNROLL for (int i = 0; i < GROUP; i++) of[i] = bits + words[j * GROUP + i] + word;
          to[j * TI] = choices(of, shift);
        }
      }
    }
    for (int ob = 0; ob < split.blocks; ob++) {
      int there = s.o - split.first - ob * TO;
      auto fill = [&](int j, int o) __attribute__((always_inline)) {
        float d[GROUP];
        UNROLL for (int i = 0; i < GROUP; i++) d[i] = rows[j * GROUP + i][ob * TO + o];
        tables[j * TO + o] = table(d);
      };
      for (int j = 0; j < steps; j++) {
        if (there >= TO) UNROLL for (int o = 0; o < TO; o++) fill(j, o);
        else for (int o = 0; o < there; o++) fill(j, o);
      }
      for (int ub = 0; ub < units.blocks; ub++) {
        floats *to = sums + ((size_t)ob * units.blocks + ub) * TO * TI, sum[TO][TI];
        const ints *c = chosen + (size_t)ub * STEPS * TI;
        const floats *t = tables;
        UNROLL for (int o = 0; o < TO; o++) UNROLL for (int u = 0; u < TI; u++) sum[o][u] = to[o * TI + u];
        for (int j = 0; j < steps; j++, c += TI, t += TO) {
          floats turn[TI];
          UNROLL for (int u = 0; u < TI; u++) turn[u] = turn_of(c[u]);
          UNROLL for (int o = 0; o < TO; o++)
            UNROLL for (int u = 0; u < TI; u++) sum[o][u] = add_chosen(sum[o][u], t[o], c[u], turn[u]);
        }
        UNROLL for (int o = 0; o < TO; o++) UNROLL for (int u = 0; u < TI; u++) to[o * TI + u] = sum[o][u];
      }
    }
  }
}

// Item: one unit of one split. Sums over the chunks, transposed.
void kernel_finish(const KernelGradient *g, int item) {
  const Shape &s = g->s;
  const Units units(s);
  const int split_at = item % g->splits, unit = item / g->splits, tap = unit / units.channels;
  const int c0 = unit % units.channels * LANES, there = s.c - c0 < LANES ? s.c - c0 : LANES;
  const Split split(g, split_at);
  const int outputs = Split(g, 0).blocks * TO;
  const int classes = g->classes.rows * g->classes.columns;
  bool outside[MAX_CLASSES];
  for (int i = 0; i < classes; i++) {
    int r = g->classes.first_row[i / g->classes.columns], k = g->classes.first_column[i % g->classes.columns];
    outside[i] = !s.pad_value && !inside(&s, r, k, tap / s.kw, tap % s.kw);
  }
  for (int o = 0; o < split.blocks * TO && split.first + o < s.o; o++) {
    floats sum = {0};
    float border = 0;
    for (int chunk = 0; chunk < g->chunks; chunk++) {
      const floats *part = (const floats *)((const char *)g->parts + part_size(g) * (chunk * g->splits + split_at));
      const float *of_class = (const float *)(part + accumulator(g)) + o;
      sum += part[((size_t)(o / TO) * units.blocks + unit / TI) * TO * TI + o % TO * TI + unit % TI];
      for (int i = 0; i < classes; i++)
        if (outside[i]) border += of_class[i * outputs];
    }
    float *to = g->dw + ((size_t)tap * s.c + c0) * s.o + split.first + o;
    // The border's bits are 0, which picked -1 where there is nothing.
    for (int i = 0; i < there; i++) to[(size_t)i * s.o] = sum[i] + border;
  }
}
