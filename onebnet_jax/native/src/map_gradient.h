// Gradient of the map: a table holds the sums of a group of output channels of dy, for pixels side by side, and the
// signs of the kernel pick. Part of kernels.cc.

// Columns of the input that read the same taps form a phase: the m-th of phase p is column m * stride + p. Tap j of one
// of them reads the output's column m + shift. Some pixels of a row, of several small images side by side or a part of
// a large one, are worked on together: they are a strip.
struct Strip {
  int columns_of_kernel, phases, phase[MAX_TAPS], shift[MAX_TAPS];  // of each column of the kernel; none: -1
  int low, high;                                 // the least and the greatest shift, 0 among them
  int parts, columns;                            // of a row of an image; columns of a phase in a part
  int images, pitch;                             // side by side; pitch: from one to the next
  int lanes, width;                              // pixels of a strip, rounded up to vectors; floats of a table's row
  int group, groups, tables;                     // output channels of a table; tables, and those at a time
  int channels;                                  // input channels, rounded up to what add_rows takes at a time
  int rows;                                      // input rows that are summed up at a time
  explicit Strip(const Shape &s) : columns_of_kernel(s.kw) {
    phases = s.sc < s.w ? s.sc : s.w;
    low = high = 0;
    for (int j = 0; j < s.kw; j++) {
      int p = (j - s.left) % s.sc;
      phase[j] = p = p < 0 ? p + s.sc : p;
      shift[j] = floor_div(p + s.left - j, s.sc);
      if (p >= phases) phase[j] = -1;
      else low = shift[j] < low ? shift[j] : low, high = shift[j] > high ? shift[j] : high;
    }
    int all = (s.w + s.sc - 1) / s.sc;
    parts = (all + 31) / 32, columns = (all + parts - 1) / parts;
    int size = columns + high - low, behind = columns + high - s.ow;  // columns of zeros behind an image, and before it
    int shared = behind < -low ? behind : -low;
    pitch = size - (shared > 0 ? shared : 0);
    images = parts > 1 ? 1 : (32 - columns) / pitch + 1;
    images = images < s.n ? images : s.n;
    const int used = (images - 1) * pitch + columns;
    lanes = (used + LANES - 1) / LANES * LANES;
    width = (used + high - low + LANES - 1) / LANES * LANES;
    auto cost = [&](int size) { return (size_t)((s.o + size - 1) / size) * ((2 << size) + s.kh * s.kw * s.c); };
    group = 4;  // what takes least; making a row takes about as long as looking up two
    for (int more = 5; more <= 7 && width * 4 << more <= TABLES; more++)
      if (cost(more) < cost(group)) group = more;
    groups = (s.o + group - 1) / group;
    tables = TABLES / (width * 4 << group);
    channels = (s.c + 7) / 8 * 8;
    rows = s.kh > s.sr ? s.kh : s.sr;
  }
  int taps(int p) const { return count(p, p); }          // columns of the kernel in a phase
  int before(int p) const { return count(0, p - 1); }  // and in those before it
  int count(int first, int last) const {
    int sum = 0;
    for (int j = 0; j < columns_of_kernel; j++) sum += phase[j] >= first && phase[j] <= last;
    return sum;
  }
  size_t sums() const { return (size_t)rows * phases * channels * lanes; }
};

size_t index_size(const MapGradient *g) {
  Strip strip(g->s);
  return (size_t)g->s.kh * g->s.kw * strip.groups * strip.channels * sizeof(uint16_t);
}

// index: [row of the kernel][phase][group][column of the kernel][input channel], offsets for add_rows
void prepare_index(const MapGradient *g, int tap) {
  const Shape &s = g->s;
  const Strip strip(s);
  const int i = tap / s.kw, j = tap % s.kw, phase = strip.phase[j];
  if (phase < 0) return;
  int rank = 0;
  for (int other = 0; other < j; other++) rank += strip.phase[other] == phase;
  uint16_t *to = (uint16_t *)g->index +
                 ((size_t)(i * s.kw + strip.before(phase)) * strip.groups + rank) * strip.channels;
  for (int k = 0; k < strip.groups; k++, to += strip.taps(phase) * strip.channels)
    for (int c = 0; c < s.c; c++) {
      const float *row = g->kernel + ((size_t)tap * s.c + c) * s.o;
      int number = k % strip.tables << strip.group;
      for (int b = 0; b < strip.group && k * strip.group + b < s.o; b++) number |= (row[k * strip.group + b] > 0) << b;
      to[c] = (uint16_t)(4 * (number * strip.width + strip.shift[j] - strip.low));
    }
}

int map_items(const MapGradient *g) {
  const int images = Strip(g->s).images;
  return (g->s.n + images - 1) / images;
}

size_t tables_size(const MapGradient *g) {
  Strip strip(g->s);
  return TABLES + 4 * ((size_t)strip.groups * strip.group * strip.width + strip.sums());
}

// Where the pixels of a strip are in row 0 of a map, or -1; of the input, those of phase 0.
struct Pixels {
  static constexpr int MOST = 32 + MAX_TAPS + LANES;
  ptrdiff_t at[MOST];
  int image[MOST], column[MOST];
};

#define OUTLINE __attribute__((noinline))  // compiled once, not for each width of a strip

// f(LANES) or, of the last of `channels`, f(as many as there are) for each vector of channels c.
template <class F> INLINE void vectors(int channels, F f) {
  int c = 0;
  for (; c + LANES <= channels; c += LANES) f(c, Constant<LANES>());
  if (c < channels) f(c, channels - c);
}

// dy of one output row, times the kernel's scale: [output channel][pixel of the strip].
OUTLINE void row_values(const MapGradient *g, const Strip &strip, const Pixels &pixels, int r, float *values) {
  const Shape &s = g->s;
  auto run = [&](auto counts) __attribute__((always_inline)) {
    vectors(s.o, [&](int c, auto there) __attribute__((always_inline)) {
      const float *p = g->coefficients + c;
      floats scale = load_some(g->kernel + c, there), a, b, e;
      scale = scale < 0 ? -scale : scale;
      if (counts) a = load_some(p, there), b = load_some(p + s.o, there), e = load_some(p + 2 * s.o, there);
      for (int q = 0; q < strip.width; q += LANES) {
        floats block[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
          block[i] = (floats){0};
          if (pixels.at[q + i] < 0) continue;
          size_t at = (size_t)(pixels.at[q + i] + (ptrdiff_t)r * s.ow) * s.o + c;
          floats d = load_some(g->grad + at, there);
          if (counts) {
            d = d * a - (load_shorts(g->counts + at, there) * b + e) * g->mask[pixels.image[q + i]];
            store_some(g->dy + at, d, there);
          }
          block[i] = d * scale;
        }
        transpose(block);
        for (int i = 0; i < there; i++) store(values + (size_t)(c + i) * strip.width + q, block[i]);
      }
    });
  };
  g->counts ? run(yes) : run(no);
}

// The sums of one phase of input row y into dx, and zeros in their place.
OUTLINE void finish_row(const MapGradient *g, const Strip &strip, const Pixels &pixels, int y, int phase,
                        float *sums) {
  const Shape &s = g->s;
  vectors(s.c, [&](int c, auto there) __attribute__((always_inline)) {
    const floats alpha = load_some(g->alpha + c, there);
    floats total = {0};
    int image = -1;
    auto keep = [&]() __attribute__((always_inline)) {
      float *part = g->parts + (size_t)image * s.c + c;
      if (image >= 0) store_some(part, load_some(part, there) + total, there);
    };
    for (int q = 0; q < strip.lanes; q += LANES) {
      floats block[LANES];
      UNROLL for (int i = 0; i < LANES; i++)
        block[i] = i < there ? load(sums + (size_t)(c + i) * strip.lanes + q) : (floats){0};
      transpose(block);
      UNROLL for (int i = 0; i < LANES; i++) {
        if (pixels.at[q + i] < 0 || pixels.column[q + i] + phase >= s.w) continue;
        if (pixels.image[q + i] != image) keep(), image = pixels.image[q + i], total = (floats){0};
        size_t at = (size_t)(pixels.at[q + i] + (ptrdiff_t)y * s.w + phase) * s.c + c;
        floats d = block[i] * slope_at(g, at, alpha, there);
        total += d;
        if (g->shortcut) d += load_some(g->grad + at, there);
        store_some(g->dx + at, d, there);
      }
    }
    keep();
  });
  memset(sums, 0, 4 * (size_t)strip.channels * strip.lanes);
}

template <int G> OUTLINE void row_table(const float *const *values, int width, float *table) {
  for (int v = 0; v < width;) {
    const float *here[G];
    UNROLL for (int i = 0; i < G; i++) here[i] = values[i] + v;
    int vectors = even_part((width - v) / LANES, 4);
    dispatch<4>(vectors, [&](auto w) { fill_table<G, w>(here, width, table + v); });
    v += vectors * LANES;
  }
}

template <int V> void strip_gradient(const MapGradient *g, const Strip &strip, int first, int part, float *scratch) {
  const Shape &s = g->s;
  float *tables = scratch, *values = tables + TABLES / 4;
  float *sums = values + (size_t)strip.groups * strip.group * strip.width;  // [row][phase][channel][pixel]
  memset(values, 0, 4 * ((size_t)strip.groups * strip.group * strip.width + strip.sums()));
  const int start = part * strip.columns;
  Pixels outputs, inputs;
  for (int q = 0; q < Pixels::MOST; q++) outputs.at[q] = inputs.at[q] = -1;
  for (int b = 0; b < strip.images && first + b < s.n; b++) {
    const int n = first + b;
    for (int m = strip.low; m < strip.columns + strip.high; m++) {
      int k = start + m, q = b * strip.pitch + m - strip.low;
      if (k >= 0 && k < s.ow) outputs.at[q] = (ptrdiff_t)n * s.oh * s.ow + k, outputs.image[q] = n;
    }
    for (int m = 0; m < strip.columns; m++) {
      int x = (start + m) * s.sc, q = b * strip.pitch + m;
      if (x < s.w) inputs.at[q] = (ptrdiff_t)n * s.h * s.w + x, inputs.image[q] = n, inputs.column[q] = x;
    }
  }
  const size_t row_size = (size_t)strip.channels * strip.lanes;
  auto sums_of = [&](int y, int p) { return sums + ((size_t)(y % strip.rows) * strip.phases + p) * row_size; };
  int done = 0;  // input rows
  auto finish = [&](int before) {
    for (; done < before; done++)
      for (int p = 0; p < strip.phases; p++) finish_row(g, strip, inputs, done, p, sums_of(done, p));
  };
  for (int r = 0; r < s.oh; r++) {
    const int y0 = r * s.sr - s.top;
    finish(y0 < s.h ? y0 : s.h);
    row_values(g, strip, outputs, r, values);
    for (int k0 = 0; k0 < strip.groups; k0 += strip.tables) {
      int count = strip.groups - k0 < strip.tables ? strip.groups - k0 : strip.tables;
      for (int k = 0; k < count; k++) {
        const float *rows[8];
        for (int i = 0; i < strip.group; i++) rows[i] = values + ((size_t)(k0 + k) * strip.group + i) * strip.width;
        float *to = tables + ((size_t)k << strip.group) * strip.width;
        if (strip.group == 4) row_table<4>(rows, strip.width, to);
        else if (strip.group == 5) row_table<5>(rows, strip.width, to);
        else if (strip.group == 6) row_table<6>(rows, strip.width, to);
        else row_table<7>(rows, strip.width, to);
      }
      for (int i = 0; i < s.kh; i++) {
        if (y0 + i < 0 || y0 + i >= s.h) continue;
        for (int p = 0; p < strip.phases; p++) {
          const int taps = strip.taps(p);
          if (!taps) continue;
          const uint16_t *index = (const uint16_t *)g->index +
                                  ((size_t)(i * s.kw + strip.before(p)) * strip.groups + k0 * taps) * strip.channels;
          add_rows<together(V), V>(sums_of(y0 + i, p), strip.channels, tables, index, strip.channels, count * taps);
        }
      }
    }
  }
  finish(s.h);
}

void map_gradient(const MapGradient *g, int item, void *scratch) {
  const Shape &s = g->s;
  const Strip strip(s);
  const int first = item * strip.images, images = s.n - first < strip.images ? s.n - first : strip.images;
  memset(g->parts + (size_t)first * s.c, 0, 4 * (size_t)images * s.c);
  for (int part = 0; part < strip.parts; part++)
    dispatch<32 / LANES>(strip.lanes / LANES,
                         [&](auto v) { strip_gradient<v>(g, strip, first, part, (float *)scratch); });
}
