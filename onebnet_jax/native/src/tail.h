// A unit's tail, element by element: batch normalization, shortcut, RPReLU. Part of kernels.cc.
//
// y is float, or the counts of a convolution; the parameters take that into account.

constexpr int TILE = 64;  // pixels whose sums are taken in registers: errors stay small on large maps

INLINE floats value(const Tail *t, bool counts, size_t i, int there) {
  return counts ? load_shorts(t->counts + i, there) : load_some(t->y + i, there);
}
INLINE floats parameter(const Tail *t, int row, int c, int there) {
  return load_some(t->parameters + (size_t)row * t->c + c, there);
}

// For each vector of channels c, `there` of which exist, and each tile: body(c, there)(offset, sums).
template <int SUMS, class Body> INLINE void each(const Tail *t, int n, Body body) {
  float *parts = t->parts + (size_t)n * SUMS * t->c;
  if (SUMS) memset(parts, 0, 4 * (size_t)SUMS * t->c);
  for (int p0 = 0; p0 < t->pixels; p0 += TILE) {
    int p1 = p0 + TILE < t->pixels ? p0 + TILE : t->pixels;
    for (int c = 0; c < t->c; c += LANES) {
      floats sums[SUMS ? SUMS : 1] = {};
      auto run = [&](int there) __attribute__((always_inline)) {
        auto step = body(c, there);
        for (int p = p0; p < p1; p++) step(((size_t)n * t->pixels + p) * t->c + c, sums);
        UNROLL for (int k = 0; k < SUMS; k++) {
          float *to = parts + (size_t)k * t->c + c;
          store_some(to, load_some(to, there) + sums[k], there);
        }
      };
      if (t->c - c >= LANES) run(LANES);
      else run(t->c - c);
    }
  }
}

// Calls f with the properties of the tail as constants: has counts, has a shortcut, has an RPReLU.
template <class F> INLINE void variants(const Tail *t, F f) {
  auto last = [&](auto counts, auto shortcut) { t->rprelu ? f(counts, shortcut, yes) : f(counts, shortcut, no); };
  auto middle = [&](auto counts) { t->shortcut ? last(counts, yes) : last(counts, no); };
  t->counts ? middle(yes) : middle(no);
}
#define STEP(...) [=](size_t i, [[maybe_unused]] floats *sums) __attribute__((always_inline)) __VA_ARGS__

// Sums of y and of y * y.
void statistics(const Tail *t, int n) {
  each<2>(t, n, [=](int, int there) {
    return STEP({
      floats y = load_some(t->y + i, there);
      sums[0] += y, sums[1] += y * y;
    });
  });
}

// Parameters: a, b, and with an RPReLU beta, zeta (b has -gamma). out = RPReLU(y * a + b + shortcut).
void tail_forward(const Tail *t, int n) {
  variants(t, [=](auto counts, auto shortcut, auto rprelu) {
    each<0>(t, n, [=](int c, int there) {
      floats a = parameter(t, 0, c, there), b = parameter(t, 1, c, there), beta = a, zeta = a;
      if (rprelu) beta = parameter(t, 2, c, there), zeta = parameter(t, 3, c, there);
      return STEP({
        floats v = value(t, counts, i, there) * a + b;
        if (shortcut) v += load_some(t->shortcut + i, there);
        if (rprelu) v = (v > 0 ? v : v * beta) + zeta;
        store_some(t->out + i, v, there);
      });
    });
  });
}

// Parameters: inv, -mean * inv, and with an RPReLU a, b, beta. out (with an RPReLU only) = the gradient before it.
// Sums: out, out * normalized, and with an RPReLU grad * min(v, 0), grad.
void tail_backward(const Tail *t, int n) {
  variants(t, [=](auto counts, auto shortcut, auto rprelu) {
    each<rprelu ? 4 : 2>(t, n, [=](int c, int there) {
      floats inv = parameter(t, 0, c, there), offset = parameter(t, 1, c, there), a = inv, b = inv, beta = inv;
      if (rprelu) a = parameter(t, 2, c, there), b = parameter(t, 3, c, there), beta = parameter(t, 4, c, there);
      return STEP({
        floats grad = load_some(t->grad + i, there), h = grad;
        floats y = value(t, counts, i, there);
        if constexpr (rprelu) {
          floats v = y * a + b;
          if (shortcut) v += load_some(t->shortcut + i, there);
          h = v > 0 ? grad : grad * beta;
          store_some(t->out + i, h, there);
          sums[2] += grad * (v > 0 ? (floats){0} : v), sums[3] += grad;
        }
        sums[0] += h, sums[1] += h * (y * inv + offset);
      });
    });
  });
}

// Parameters: c0, c1, c2. out = grad * c0 - mask * (y * c1 + c2).
void tail_gradient(const Tail *t, int n) {
  const float mask = t->mask[n];
  each<0>(t, n, [=](int c, int there) {
    floats c0 = parameter(t, 0, c, there), c1 = parameter(t, 1, c, there) * mask, c2 = parameter(t, 2, c, there) * mask;
    return STEP({
      floats y = load_some(t->y + i, there);
      store_some(t->out + i, load_some(t->grad + i, there) * c0 - (y * c1 + c2), there);
    });
  });
}
