// Sums of signed floats, looked up. Part of kernels.cc.
//
// A table has a row of floats for each choice of signs of a few such rows: row s is their sum where value i is added if
// bit i of s is 1 and subtracted if it is 0. One addition of a row of the table then does the work of as many.

constexpr int TABLES = 24 * 1024;  // bytes of tables that are used together: they stay in the first cache
typedef uint16_t offsets16 __attribute__((vector_size(32)));
typedef uint16_t offsets16_at __attribute__((vector_size(32), aligned(2), may_alias));

// The sums of COUNT rows of W vectors for each choice of signs.
template <int COUNT, int W> INLINE void half_table(const float *const *values, floats to[][W]) {
  UNROLL for (int v = 0; v < W; v++) {
    floats sums[1 << COUNT], x = load(values[0] + v * LANES);
    sums[0] = -x, sums[1] = x;
    UNROLL for (int i = 1; i < COUNT; i++) {
      x = load(values[i] + v * LANES);
      UNROLL for (int s = 0; s < 1 << i; s++) sums[s | 1 << i] = sums[s] + x, sums[s] = sums[s] - x;
    }
    UNROLL for (int s = 0; s < 1 << COUNT; s++) to[s][v] = sums[s];
  }
}

// The table of G rows of W vectors; its own rows are `width` floats apart.
template <int G, int W> INLINE void fill_table(const float *const *values, int width, float *table) {
  constexpr int LOW = G / 2, HIGH = G - LOW;
  floats low[1 << LOW][W], high[1 << HIGH][W];
  half_table<LOW, W>(values, low), half_table<HIGH, W>(values + LOW, high);
  for (int h = 0; h < 1 << HIGH; h++)
    for (int l = 0; l < 1 << LOW; l++, table += width)
      UNROLL for (int v = 0; v < W; v++) store(table + v * LANES, high[h][v] + low[l][v]);
}

// Adds to each of `count` rows of V vectors, `count` a multiple of T, `chosen` rows of tables: row t gets those at
// offsets[i * stride + t] bytes. T: at most 4; so many offsets are read at once.
template <int T, int V>
INLINE void add_rows(float *sums, int count, const float *tables, const uint16_t *offsets, size_t stride, int chosen) {
  for (int t = 0; t < count; t += T, sums += T * V * LANES, offsets += T) {
    floats sum[T][V];
    UNROLL for (int k = 0; k < T; k++) UNROLL for (int v = 0; v < V; v++) sum[k][v] = load(sums + (k * V + v) * LANES);
    const uint16_t *at = offsets;
    for (int i = 0; i < chosen; i++, at += stride) {
      uint64_t all = 0;
      memcpy(&all, at, T * sizeof *at);
      UNROLL for (int k = 0; k < T; k++) {
        const float *row = (const float *)((const char *)tables + (all >> 16 * k & 0xffff));
        UNROLL for (int v = 0; v < V; v++) sum[k][v] += load(row + v * LANES);
      }
    }
    UNROLL for (int k = 0; k < T; k++) UNROLL for (int v = 0; v < V; v++) store(sums + (k * V + v) * LANES, sum[k][v]);
  }
}
constexpr int together(int vectors) { return vectors <= 2 ? 4 : vectors <= 4 ? 2 : 1; }  // registers for sums: 8
