#include "train.h"

#include <cstring>

namespace {

bool has(const char *name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
  bool wide = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!std::strcmp(name, "avx512")) return wide && __builtin_cpu_supports("avx512vpopcntdq");
  if (!std::strcmp(name, "avx512bw")) return wide;
  if (!std::strcmp(name, "avx2")) return avx2;
#endif
  return !std::strcmp(name, "plain");
}

#if defined(__x86_64__)
const Kernels *const all[] = {&kernels_avx512, &kernels_avx512bw, &kernels_avx2, &kernels_plain};
#else
const Kernels *const all[] = {&kernels_plain};
#endif

class Classifier {
 public:
  explicit Classifier(const Shape &s) {
    int rows = classify(s.pad_value, s.oh, s.h, s.kh, s.sr, s.top, row_, first_row_);
    int columns = classify(s.pad_value, s.ow, s.w, s.kw, s.sc, s.left, column_, first_column_);
    classes = {rows, columns, row_.data(), column_.data(), first_row_.data(), first_column_.data()};
  }
  Classes classes;

 private:
  static int classify(bool one, int out, int size, int kernel, int stride, int before, std::vector<int> &of,
                      std::vector<int> &first) {
    std::vector<std::vector<bool>> patterns;
    for (int r = 0; r < out; r++) {
      std::vector<bool> pattern(kernel);
      for (int i = 0; i < kernel && !one; i++) {
        int at = r * stride + i - before;
        pattern[i] = at >= 0 && at < size;
      }
      size_t found = 0;
      while (found < patterns.size() && patterns[found] != pattern) found++;
      if (found == patterns.size()) patterns.push_back(pattern), first.push_back(r);
      of.push_back((int)found);
    }
    return (int)patterns.size();
  }
  std::vector<int> row_, column_, first_row_, first_column_;
};

}  // namespace

const Kernels *find_kernels(const char *name) {
  for (const Kernels *kernels : all)
    if ((!name || !*name || !std::strcmp(name, kernels->name)) && has(kernels->name)) return kernels;
  return nullptr;
}

void forward(Pool &pool, const Kernels &k, Forward f, const float *mask, float *sums) {
  const Shape &s = f.s;
  f.block = s.o <= 16 ? 16 : 32;
  f.blocks = (s.o + f.block - 1) / f.block;
  int width = f.blocks * f.block;
  Classifier classifier(s);
  f.classes = classifier.classes;
  Memory weights(sizeof(uint32_t) * s.kh * s.kw * s.words * width);
  Memory base(sizeof(int32_t) * f.classes.rows * f.classes.columns * width);
  Memory parts(sizeof(float) * s.n * 2 * width), total(sizeof(float) * 2 * width);
  f.weights = weights.as<uint32_t>(), f.base = base.as<int32_t>(), f.parts = parts.as<float>();
  share(pool, f.blocks, [&](int block, int) { k.weights(&f, block); });
  share(pool, s.n, [&](int image, int) { k.forward(&f, image); });
  k.sum(f.parts, s.n, 2 * width, mask, total.as<float>());
  for (int i = 0; i < 2; i++) std::memcpy(sums + i * s.o, total.as<float>() + i * width, sizeof(float) * s.o);
}

void signs(Pool &pool, const Kernels &k, const Forward &f) {
  share(pool, f.s.n, [&](int image, int) { k.signs(&f, image); });
}

void float_forward(Pool &pool, const Kernels &k, FloatForward f) {
  Classifier classifier(f.s);
  f.classes = classifier.classes;
  Scratch scratch(pool, k.float_scratch(&f));
  share(pool, k.float_items(&f), [&](int item, int worker) { k.float_forward(&f, item, scratch.of(worker)); });
}

void map_gradient(Pool &pool, const Kernels &k, MapGradient g, float *alpha_gradient) {
  const Shape &s = g.s;
  g.once = 1 / g.window, g.twice = 2 / g.window;
  const size_t index_size = (g.binary ? k.index_size : k.float_index_size)(&g);
  const int items = g.binary ? k.map_items(&g) : s.n;
  const auto prepare = g.binary ? k.index : k.float_index;
  const auto work = g.binary ? k.map_gradient : k.float_map_gradient;
  Memory index(index_size), parts(sizeof(float) * s.n * s.c);
  g.index = index.as<void>(), g.parts = parts.as<float>();
  std::memset(g.index, 0, index_size);
  Scratch scratch(pool, (g.binary ? k.tables_size : k.float_tables_size)(&g));
  share(pool, s.kh * s.kw, [&](int tap, int) { prepare(&g, tap); });
  share(pool, items, [&](int item, int worker) { work(&g, item, scratch.of(worker)); });
  k.sum(g.parts, s.n, s.c, nullptr, alpha_gradient);
  for (int c = 0; c < s.c; c++) alpha_gradient[c] = -alpha_gradient[c];
}

void kernel_gradient(Pool &pool, const Kernels &k, KernelGradient g) {
  const Shape &s = g.s;
  // Work is cut by output channels where there are many, since each range of pixels costs an accumulator as large as
  // the kernel. The cut must not depend on the number of threads: sums would be rounded differently.
  constexpr int ITEMS = 32, PIXELS = 512;  // no more items than that; at least so many pixels in each
  int ranges = (int)((size_t)s.n * s.oh * s.ow / PIXELS);
  g.splits = s.o > 64 ? s.o / 64 : 1;
  g.chunks = g.splits < ITEMS ? ITEMS / g.splits : 1;
  g.chunks = ranges < 1 ? 1 : ranges < g.chunks ? ranges : g.chunks;
  Classifier classifier(s);
  g.classes = classifier.classes;
  int units = s.kh * s.kw * ((s.c + k.lanes - 1) / k.lanes);
  Memory parts(k.part_size(&g) * g.chunks * g.splits);
  g.parts = parts.as<float>();
  Scratch scratch(pool, k.chunk_size(&g));
  share(pool, g.chunks * g.splits, [&](int i, int worker) { k.kernel_gradient(&g, i, scratch.of(worker)); });
  share(pool, units * g.splits, [&](int i, int) { k.kernel_finish(&g, i); });
}

void statistics(Pool &pool, const Kernels &k, Tail t, float *sums) {
  Memory parts(sizeof(float) * t.n * 2 * t.c);
  t.parts = parts.as<float>();
  share(pool, t.n, [&](int image, int) { k.statistics(&t, image); });
  k.sum(t.parts, t.n, 2 * t.c, t.mask, sums);
}

void tail_forward(Pool &pool, const Kernels &k, const Tail &t) {
  share(pool, t.n, [&](int image, int) { k.tail_forward(&t, image); });
}

void tail_backward(Pool &pool, const Kernels &k, Tail t, float *sums) {
  int rows = t.rprelu ? 4 : 2;
  Memory parts(sizeof(float) * t.n * rows * t.c);
  t.parts = parts.as<float>();
  share(pool, t.n, [&](int image, int) { k.tail_backward(&t, image); });
  k.sum(t.parts, t.n, rows * t.c, nullptr, sums);
}

void tail_gradient(Pool &pool, const Kernels &k, const Tail &t) {
  share(pool, t.n, [&](int image, int) { k.tail_gradient(&t, image); });
}
