// Gradient of the map where weights are float: a convolution of floats, lanes are input channels. Part of kernels.cc.

constexpr int FLOAT_WIDTH = 2 * LANES;                // input channels of a block
constexpr int FLOAT_PIXELS = LANES == 16 ? 8 : 6;     // neighbours whose sums stay in registers

// Which taps the columns of the input read: column m * stride + p, of phase p, reads the output's column m + shift
// through tap j. The copy of a row of dy has `before` zeros in front, and `pitch` columns in all.
struct Reach {
  int phases, before, pitch;
  explicit Reach(const Shape &s) : phases(s.sc < s.w ? s.sc : s.w), before(0) {
    const int columns = (s.w + s.sc - 1) / s.sc;
    int behind = 0;
    for (int j = 0; j < s.kw; j++) {
      int low = shift(s, j), high = low + columns - s.ow;
      before = -low > before ? -low : before, behind = high > behind ? high : behind;
    }
    pitch = before + s.ow + behind;
  }
  static int shift(const Shape &s, int j) { return floor_div(phase(s, j) + s.left - j, s.sc); }
  static int phase(const Shape &s, int j) { return (j - s.left + s.kw * s.sc) % s.sc; }
};

INLINE int float_blocks(const Shape &s) { return (s.c + FLOAT_WIDTH - 1) / FLOAT_WIDTH; }

size_t float_index_size(const MapGradient *g) {
  return sizeof(float) * float_blocks(g->s) * g->s.kh * g->s.kw * g->s.o * FLOAT_WIDTH;
}

size_t float_tables_size(const MapGradient *g) {
  return sizeof(float) * (size_t)g->s.oh * Reach(g->s).pitch * g->s.o;
}

// index: the kernel as [block][tap][output channel][input channel of the block]
void float_index(const MapGradient *g, int tap) {
  const Shape &s = g->s;
  for (int c = 0; c < s.c; c++)
    for (int o = 0; o < s.o; o++)
      ((float *)g->index)[(((size_t)(c / FLOAT_WIDTH) * s.kh * s.kw + tap) * s.o + o) * FLOAT_WIDTH + c % FLOAT_WIDTH] =
          g->kernel[((size_t)tap * s.c + c) * s.o + o];
}

// The sums of P neighbours of a phase, from (y, x) on.
template <int P>
INLINE void float_pixels(const MapGradient *g, const Reach &reach, const float *dy, const float *weights, int y, int x,
                         floats to[][2]) {
  const Shape &s = g->s;
  floats sum[P][2] = {};
  for (int i = 0; i < s.kh; i++) {
    const int up = y + s.top - i, r = up / s.sr;
    if (up < 0 || up % s.sr || r >= s.oh) continue;
    for (int j = 0; j < s.kw; j++) {
      if (Reach::phase(s, j) != x % s.sc) continue;
      const float *from = dy + ((size_t)r * reach.pitch + reach.before + x / s.sc + Reach::shift(s, j)) * s.o;
      const float *w = weights + (size_t)(i * s.kw + j) * s.o * FLOAT_WIDTH;
      for (int o = 0; o < s.o; o++, from++, w += FLOAT_WIDTH) {
        const floats w0 = load(w), w1 = load(w + LANES);
        UNROLL for (int p = 0; p < P; p++) {
          const floats value = splat(from[(size_t)p * s.o]);
          sum[p][0] += value * w0, sum[p][1] += value * w1;
        }
      }
    }
  }
  UNROLL for (int p = 0; p < P; p++) to[p][0] = sum[p][0], to[p][1] = sum[p][1];
}

void float_map_gradient(const MapGradient *g, int n, void *scratch) {
  const Shape &s = g->s;
  const Reach reach(s);
  const int columns = (s.w + s.sc - 1) / s.sc;
  float *dy = (float *)scratch;
  const size_t row = (size_t)s.ow * s.o, pitch = (size_t)reach.pitch * s.o, before = (size_t)reach.before * s.o;
  for (int r = 0; r < s.oh; r++) {
    float *to = dy + r * pitch;
    memset(to, 0, 4 * before);
    memcpy(to + before, g->grad + ((size_t)n * s.oh + r) * row, 4 * row);
    memset(to + before + row, 0, 4 * (pitch - before - row));
  }
  for (int b = 0; b < float_blocks(s); b++) {
    const int c = b * FLOAT_WIDTH, there = s.c - c < FLOAT_WIDTH ? s.c - c : FLOAT_WIDTH;
    const float *weights = (const float *)g->index + (size_t)b * s.kh * s.kw * s.o * FLOAT_WIDTH;
    floats alpha[2] = {}, total[2] = {}, sums[FLOAT_PIXELS][2];
    for (int v = 0; v < 2 && v * LANES < there; v++) alpha[v] = load_some(g->alpha + c + v * LANES, there - v * LANES);
    for (int y = 0; y < s.h; y++)
      for (int p = 0; p < reach.phases; p++) {
        const int mine = columns - (p + (columns - 1) * s.sc >= s.w);  // columns of this phase
        for (int m = 0, pixels; m < mine; m += pixels) {
          pixels = even_part(mine - m, FLOAT_PIXELS);
          const int x = m * s.sc + p;
          dispatch<FLOAT_PIXELS>(pixels, [&](auto count) {
            float_pixels<count>(g, reach, dy, weights, y, x, sums);
          });
          for (int q = 0; q < pixels; q++)
            for (int v = 0; v < 2 && v * LANES < there; v++) {
              const size_t at = (((size_t)n * s.h + y) * s.w + x + (size_t)q * s.sc) * s.c + c + v * LANES;
              floats d = sums[q][v] * slope_at(g, at, alpha[v], there - v * LANES);
              total[v] += d;
              store_some(g->dx + at, d, there - v * LANES);
            }
        }
      }
    for (int v = 0; v < 2 && v * LANES < there; v++)
      store_some(g->parts + (size_t)n * s.c + c + v * LANES, total[v], there - v * LANES);
  }
}
