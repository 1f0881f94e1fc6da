// AVX-512's gradient of the map: lanes are input channels, tables hold the sums of GROUP output channels of one pixel,
// and the signs of the kernel pick. Part of kernels.cc.
//
// A sum of GROUP values, each with a sign, is not computed but looked up, in a register. `table(d)` holds the sums for
// every choice of signs in which the last value has its +; the others are their negatives. A lane's `choice` says which:
// in its lowest GROUP - 1 bits the signs of the other values (1 for +), all turned if the last value's is -, and in its
// highest bit that turn. `choices(words, shift)` makes them of packed signs: lane i takes bit `shift` + i of each of
// GROUP words. `pick` looks up; the product with `turn_of(choice)` and the addition are one operation in `add_chosen`.

INLINE int32_t choice_of(uint32_t bits) {
  const uint32_t others = (1u << (GROUP - 1)) - 1;
  return bits >> (GROUP - 1) ? (int32_t)(bits & others) : (int32_t)(~bits & others) | INT32_MIN;
}
INLINE floats turn_of(ints choice) { return (floats)((choice & INT32_MIN) | (ints)((floats){0} + 1)); }
INLINE floats add_chosen(floats sum, floats table, ints choice, floats turn) {
  return pick(table, choice) * turn + sum;
}
INLINE int groups_of(int channels) { return (channels + GROUP - 1) / GROUP; }

// How many vectors of input channels are worked on at a time: registers hold their sums for several pixels.
INLINE int width_of(int channels) {
  int vectors = (channels + LANES - 1) / LANES;
  return vectors % 4 == 0 ? 4 : vectors % 2 == 0 ? 2 : 1;
}

size_t index_size(const MapGradient *g) {
  size_t vectors = (size_t)(g->s.c + LANES - 1) / LANES;
  return vectors * g->s.kh * g->s.kw * groups_of(g->s.o) * sizeof(ints);
}

// index: [block of input channels][tap][group of output channels][input channel of the block]
void prepare_index(const MapGradient *g, int tap) {
  const Shape &s = g->s;
  int groups = groups_of(s.o), width = width_of(s.c) * LANES, taps = s.kh * s.kw;
  for (int c = 0; c < s.c; c++) {
    const float *row = g->kernel + ((size_t)tap * s.c + c) * s.o;
    int32_t *to = (int32_t *)g->index + ((size_t)(c / width) * taps + tap) * groups * width + c % width;
    for (int o = 0; o < groups; o++, to += width) {
      uint32_t bits = 0;
      for (int i = 0; i < GROUP && o * GROUP + i < s.o; i++) bits |= (uint32_t)(row[o * GROUP + i] > 0) << i;
      *to = choice_of(bits);
    }
  }
}

// The output rows and columns that inputs from `first` to `last` have a share in; some may lie outside of the map.
struct Span {
  int low, high;
  Span(int first, int last, int before, int kernel, int stride)
      : low(floor_div(first + before - kernel + 1, stride)), high(floor_div(last + before, stride)) {}
  int size() const { return high - low + 1; }
};
INLINE Span columns_of(const Shape &s) { return {0, s.w - 1, s.left, s.kw, s.sc}; }

// Tables are kept in a ring: output row r in slot r modulo its size. It holds what `rows` input rows need.
INLINE int ring_of(const Shape &s, int rows) { return (rows + s.kh - 2) / s.sr + 2; }
INLINE size_t ring_size(const Shape &s, int rows) {
  size_t tables = (size_t)ring_of(s, rows) * columns_of(s).size() * groups_of(s.o);
  return tables * sizeof(floats) + ((size_t)s.o + GROUP) * 4;
}
// Row by row, so that tables are read while they are in the first cache. If the kernel is so large that going through
// it once for each row takes longer than that saves, as many rows as leave their tables in the second.
INLINE int rows_of(const MapGradient *g) {
  int rows = 1;
  if (index_size(g) > 128 * 1024)
    for (rows = g->s.h; rows > 1 && ring_size(g->s, rows) > 400 * 1024;) rows = (rows + 1) / 2;
  return rows;
}
INLINE int slot_of(int ring, int r) { return (r % ring + ring) % ring; }
INLINE int ring_rows(const MapGradient *g) { return ring_of(g->s, rows_of(g)); }
size_t tables_size(const MapGradient *g) { return ring_size(g->s, rows_of(g)); }
int map_items(const MapGradient *g) { return g->s.n; }

// Tables of one output row: [group][column]; zeros outside of the map. dy: memory for one pixel.
void row_tables(const MapGradient *g, int n, int r, const Span &columns, floats *tables, float *dy) {
  const Shape &s = g->s;
  int groups = groups_of(s.o), width = columns.size();
  for (int k = columns.low; k <= columns.high; k++) {
    floats *to = tables + (k - columns.low);
    if (r < 0 || r >= s.oh || k < 0 || k >= s.ow) {
      for (int o = 0; o < groups; o++) to[(size_t)o * width] = (floats){0};
      continue;
    }
    size_t at = (((size_t)n * s.oh + r) * s.ow + k) * s.o;
    for (int c = 0; c < s.o; c += LANES) {
      int there = s.o - c;
      floats d = load_some(g->grad + at + c, there);
      if (g->counts) {
        const float *p = g->coefficients + c;
        floats count = load_shorts(g->counts + at + c, there);
        floats mean = count * load_some(p + s.o, there) + load_some(p + 2 * s.o, there);
        d = d * load_some(p, there) - mean * g->mask[n];
        store_some(g->dy + at + c, d, there);
      }
      floats scale = load_some(g->kernel + c, there);
      store_some(dy + c, d * (scale < 0 ? -scale : scale), there);
    }
    for (int o = 0; o < groups; o++) to[(size_t)o * width] = table(dy + o * GROUP);
  }
}

struct Taps {  // those of the kernel that have a share in some input pixels
  int count;
  const floats *tables[MAX_TAPS];
  const ints *index[MAX_TAPS];
};

// P input pixels, `step` floats apart, and V vectors of channels. Not inlined: the registers just suffice.
template <int P, int V>
__attribute__((noinline)) void map_pixels(const MapGradient *g, const Taps *taps, int first, size_t width, int groups,
                                          size_t at, size_t step, int c, float *part, const float *identity) {
  floats sum[P][V];
  UNROLL for (int p = 0; p < P; p++) UNROLL for (int v = 0; v < V; v++) sum[p][v] = (floats){0};
  for (int t = 0; t < taps->count; t++) {
    const floats *tables = taps->tables[t] + first;
    const ints *index = taps->index[t];
    for (int o = 0; o < groups; o++, tables += width, index += V) {
      floats turn[V];
      UNROLL for (int v = 0; v < V; v++) turn[v] = turn_of(index[v]);
      UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) sum[p][v] = add_chosen(sum[p][v], tables[p], index[v], turn[v]);
    }
  }
  auto finish = [&](int v, int there) __attribute__((always_inline)) {
    floats alpha = load_some(g->alpha + c + v * LANES, there), total = load_some(part + v * LANES, there);
    UNROLL for (int p = 0; p < P; p++) {
      size_t i = p * step + v * LANES;
      floats d = sum[p][v] * slope_at(g, at + i, alpha, there);
      total += d;
      if (identity) d += load_some(identity + i, there);
      store_some(g->dx + at + i, d, there);
    }
    store_some(part + v * LANES, total, there);
  };
  UNROLL for (int v = 0; v < V; v++) {
    int there = g->s.c - c - v * LANES;
    if (there >= LANES) finish(v, LANES);
    else if (there > 0) finish(v, there);
  }
}

// Input rows y0 to y1 - 1, one block of channels.
template <int V> void map_rows(const MapGradient *g, int n, int block, int y0, int y1, const Span &columns,
                               const floats *tables, float *part) {
  const Shape &s = g->s;
  constexpr int P = V == 4 ? 6 : 8;
  const int ring = ring_rows(g);
  int groups = groups_of(s.o), width = columns.size(), taps = s.kh * s.kw, c = block * V * LANES;
  const ints *index = (const ints *)g->index + (size_t)block * taps * groups * V;
  for (int y = y0; y < y1; y++)
    for (int phase = 0; phase < s.sc && phase < s.w; phase++) {  // columns that read the same taps
      Taps here;
      here.count = 0;
      for (int i = 0; i < s.kh; i++)
        for (int j = 0; j < s.kw; j++) {
          int a = y + s.top - i, b = phase + s.left - j;
          int r = floor_div(a, s.sr), k = floor_div(b, s.sc);
          if (r * s.sr != a || k * s.sc != b) continue;
          here.tables[here.count] = tables + (size_t)slot_of(ring, r) * groups * width + (k - columns.low);
          here.index[here.count++] = index + (size_t)(i * s.kw + j) * groups * V;
        }
      int count = (s.w - phase + s.sc - 1) / s.sc;
      for (int m = 0, pixels; m < count; m += pixels) {
        pixels = even_part(count - m, P);
        size_t at = (((size_t)n * s.h + y) * s.w + phase + (size_t)m * s.sc) * s.c + c;
        dispatch<P>(pixels, [&](auto p) {
          map_pixels<p, V>(g, &here, m, width, groups, at, (size_t)s.sc * s.c, c, part + c,
                           g->shortcut ? g->grad + at : nullptr);
        });
      }
    }
}

void map_gradient(const MapGradient *g, int n, void *scratch) {
  const Shape &s = g->s;
  float *part = g->parts + (size_t)n * s.c;
  memset(part, 0, 4 * (size_t)s.c);
  const int width = width_of(s.c);
  const Span columns = columns_of(s);
  const int together = rows_of(g), ring = ring_rows(g);
  const size_t row = (size_t)groups_of(s.o) * columns.size();
  floats *tables = (floats *)scratch;
  float *dy = (float *)(tables + ring * row);
  memset(dy + s.o, 0, 4 * GROUP);
  int made = Span(0, 0, s.top, s.kh, s.sr).low;  // rows of tables so far
  for (int y0 = 0; y0 < s.h; y0 += together) {
    int y1 = y0 + together < s.h ? y0 + together : s.h;
    for (Span rows(y0, y1 - 1, s.top, s.kh, s.sr); made <= rows.high; made++)
      row_tables(g, n, made, columns, tables + slot_of(ring, made) * row, dy);
    for (int block = 0; block * width * LANES < s.c; block++) {
      if (width == 4) map_rows<4>(g, n, block, y0, y1, columns, tables, part);
      else if (width == 2) map_rows<2>(g, n, block, y0, y1, columns, tables, part);
      else map_rows<1>(g, n, block, y0, y1, columns, tables, part);
    }
  }
}
