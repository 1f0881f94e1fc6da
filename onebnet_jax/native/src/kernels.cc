// All kernels for one instruction set: build.py compiles this file once for each, with FLAVOR as its name. Nothing here
// may come from the C++ library: the linker would keep one copy for all, perhaps that of a CPU which is not there.
#include "kernels.h"
#include "bits.h"

namespace {

constexpr int MAX_TAPS = 49;
constexpr int MAX_CLASSES = 49;  // a row for each way of cutting off the kernel's rows at most, likewise columns

template <int N> struct Constant {
  constexpr operator int() const { return N; }
};
struct Yes {
  constexpr operator bool() const { return true; }
};
struct No {
  constexpr operator bool() const { return false; }
};
constexpr Yes yes;
constexpr No no;

// f(Constant<n>()) for an n that is known only now, 1 to MOST.
template <int MOST, class F> INLINE void dispatch(int n, F f) {
  if (n == MOST) f(Constant<MOST>());
  else if constexpr (MOST > 1) dispatch<MOST - 1>(n, f);
}

// The first part of `left` cut into as few parts of at most `most` as possible, of equal size if possible.
INLINE int even_part(int left, int most) {
  int parts = (left + most - 1) / most;
  return (left + parts - 1) / parts;
}

// The quotient, rounded down.
INLINE int floor_div(int a, int b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// The estimator's slope at x - alpha, for LANES floats from i on.
INLINE floats slope_at(const MapGradient *g, size_t i, floats alpha, int there) {
  if (g->slope == MAP) return load_some(g->slopes + i, there);
  floats x = load_some(g->x + i, there) - alpha, size = (floats)((ints)x & INT32_MAX);
  if (g->slope == CLIP) return (floats)((ints)(size <= g->window) & (ints)splat(1));
  floats slope = (2 - size * g->twice) * g->once;
  return slope <= 0 ? (floats){0} : slope;  // NaN stays
}

// Whether all taps lie in the map for output pixels of these classes.
INLINE bool all_inside(const KernelGradient *g, int a, int b) {
  int r = g->classes.first_row[a], k = g->classes.first_column[b];
  return g->s.pad_value ||
         (inside(&g->s, r, k, 0, 0) && inside(&g->s, r, k, g->s.kh - 1, g->s.kw - 1));
}

#include "forward.h"
#include "lookup.h"
#include "float_forward.h"
#if LANES == 16
#include "permuted_map_gradient.h"
#include "permuted_kernel_gradient.h"
#else
#include "map_gradient.h"
#include "kernel_gradient.h"
#endif
#include "float_map_gradient.h"
#include "tail.h"

void sum(const float *parts, int count, int width, const float *mask, float *out) {
  constexpr int COLUMNS = 64;
  for (int j0 = 0; j0 < width; j0 += COLUMNS) {
    int columns = width - j0 < COLUMNS ? width - j0 : COLUMNS;
    double total[COLUMNS] = {};
    for (int i = 0; i < count; i++) {
      const float *from = parts + (size_t)i * width + j0;
      double weight = mask ? mask[i] : 1;
      if (columns == COLUMNS)
        for (int j = 0; j < COLUMNS; j++) total[j] += weight * from[j];
      else
        for (int j = 0; j < columns; j++) total[j] += weight * from[j];
    }
    for (int j = 0; j < columns; j++) out[j0 + j] = (float)total[j];
  }
}

}  // namespace

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
extern "C" const Kernels JOIN(kernels_, FLAVOR) = {
    TEXT(FLAVOR), LANES, prepare_weights, signs, forward, float_items, float_scratch, float_forward,
    index_size, prepare_index, map_items, tables_size, map_gradient,
    float_index_size, float_index, float_tables_size, float_map_gradient,
    part_size, chunk_size, kernel_gradient, kernel_finish,
    statistics, tail_forward, tail_backward, tail_gradient, sum,
};
