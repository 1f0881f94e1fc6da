// Runs every kernel without Python, for sanitizers: all instruction sets of this CPU, odd shapes, 1 to 4 threads. The
// first thread count's results are compared with the others' bit for bit, and the counts with a plain computation.
// Buffers have exactly the size that the kernels may touch, so that a sanitizer sees what lies beyond.
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>

#include "train.h"

namespace {

// Starts a thread for each task, which is as adverse as scheduling gets.
class Threads : public Pool {
 public:
  explicit Threads(int count) : count_(count) {}
  ~Threads() override {
    for (std::thread &thread : running_) thread.join();
  }
  int threads() const override { return count_; }
  void schedule(std::function<void()> task) override { running_.emplace_back(std::move(task)); }

 private:
  int count_;
  std::vector<std::thread> running_;
};

template <class T> struct Array {  // on the heap, without spare elements as a vector may have
  explicit Array(size_t size) : size(size), at(new T[size]()) {}
  Array(size_t size, std::mt19937 &random) : Array(size) {
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < size; i++) at[i] = normal(random);
  }
  size_t size;
  std::unique_ptr<T[]> at;
  operator T *() const { return at.get(); }
  bool operator==(const Array &other) const { return !std::memcmp(at.get(), other.at.get(), size * sizeof(T)); }
};

int count(const Shape &s, const float *x, const float *alpha, const float *kernel, int n, int r, int k, int o) {
  int sum = 0;
  for (int i = 0; i < s.kh; i++)
    for (int j = 0; j < s.kw; j++)
      for (int c = 0; c < s.c; c++) {
        int sign = s.pad_value;
        if (inside(&s, r, k, i, j)) {
          size_t row = r * s.sr + i - s.top, column = k * s.sc + j - s.left;
          sign = x[((n * s.h + row) * s.w + column) * s.c + c] - alpha[c] > 0 ? 1 : -1;
        }
        sum += kernel[((size_t)(i * s.kw + j) * s.c + c) * s.o + o] > 0 ? sign : -sign;
      }
  return sum;
}

struct Results {
  Array<int16_t> counts;
  Array<uint32_t> bits;
  Array<float> sums, dx, dalpha, dy, dw, y, float_dx, float_dalpha, out, tail_sums, before, statistic;
  explicit Results(const Shape &s)
      : counts((size_t)s.n * s.oh * s.ow * s.o), bits((size_t)s.n * s.padded_h * s.padded_w * s.words), sums(2 * s.o),
        dx((size_t)s.n * s.h * s.w * s.c), dalpha(s.c), dy(counts.size), dw((size_t)s.kh * s.kw * s.c * s.o),
        y(counts.size), float_dx(dx.size), float_dalpha(s.c), out(counts.size), tail_sums(4 * s.o), before(counts.size), statistic(2 * s.o) {}
  bool operator==(const Results &r) const {
    return counts == r.counts && bits == r.bits && sums == r.sums && dx == r.dx && dalpha == r.dalpha && dy == r.dy &&
           dw == r.dw && y == r.y && float_dx == r.float_dx && float_dalpha == r.float_dalpha && out == r.out && tail_sums == r.tail_sums && before == r.before && statistic == r.statistic;
  }
};

bool check(const Kernels &kernels, const Shape &s, int which) {
  std::mt19937 random(which);
  size_t inputs = (size_t)s.n * s.h * s.w * s.c, outputs = (size_t)s.n * s.oh * s.ow * s.o;
  Array<float> x(inputs, random), alpha(s.c, random), kernel((size_t)s.kh * s.kw * s.c * s.o, random);
  Array<float> grad(outputs, random), y(outputs, random), shortcut(outputs, random), parameters(5 * s.o, random);
  Array<float> mask(s.n, random), slopes(inputs, random);
  std::unique_ptr<Results> first;
  for (int threads : {1, 2, 4}) {
    auto r = std::make_unique<Results>(s);
    Threads pool(threads);
    Forward f = {};
    f.s = s, f.x = x, f.alpha = alpha, f.kernel = kernel, f.bits = r->bits, f.counts = r->counts;
    forward(pool, kernels, f, mask, r->sums);
    MapGradient g = {};
    g.s = s, g.binary = true, g.grad = grad, g.kernel = kernel, g.x = x, g.alpha = alpha, g.dx = r->dx;
    g.slope = Slope(which % 3), g.window = 1.25f, g.slopes = slopes;
    g.shortcut = inputs == outputs && s.sr == 1 && s.sc == 1 && which % 2;
    if (which % 4 < 3) g.counts = r->counts, g.coefficients = parameters, g.mask = mask, g.dy = r->dy;
    map_gradient(pool, kernels, g, r->dalpha);
    KernelGradient w = {};
    w.s = s, w.bits = r->bits, w.dy = grad, w.dw = r->dw;
    kernel_gradient(pool, kernels, w);
    Array<uint32_t> bits(r->bits.size);
    f.bits = bits;
    signs(pool, kernels, f);
    if (!(bits == r->bits)) return std::printf("%s %d: other signs\n", kernels.name, which), false;
    FloatForward q = {};
    q.s = s, q.bits = bits, q.kernel = kernel, q.y = r->y;
    float_forward(pool, kernels, q);
    MapGradient h = {};
    h.s = s, h.grad = grad, h.kernel = kernel, h.x = x, h.alpha = alpha, h.dx = r->float_dx;
    h.slope = Slope(which % 3), h.window = 1.25f, h.slopes = slopes;
    map_gradient(pool, kernels, h, r->float_dalpha);
    Tail t = {};
    t.n = s.n, t.pixels = s.oh * s.ow, t.c = s.o, t.y = y, t.mask = mask, t.grad = grad, t.parameters = parameters;
    statistics(pool, kernels, t, r->statistic);
    t.out = r->before;
    tail_gradient(pool, kernels, t);
    if (which % 2) t.counts = r->counts, t.y = nullptr;
    if (which % 3) t.shortcut = shortcut;
    t.rprelu = which % 5;
    t.out = r->out;
    tail_forward(pool, kernels, t);
    t.out = r->before;
    tail_backward(pool, kernels, t, r->tail_sums);
    if (first && !(*r == *first)) return std::printf("%s %d: %d threads differ\n", kernels.name, which, threads), false;
    if (!first) first = std::move(r);
  }
  for (size_t i = 0; i < outputs; i++) {
    int o = i % s.o, k = i / s.o % s.ow, row = i / s.o / s.ow % s.oh, n = i / s.o / s.ow / s.oh;
    if (first->counts[i] != count(s, x, alpha, kernel, n, row, k, o))
      return std::printf("%s %d: wrong count at %zu\n", kernels.name, which, i), false;
  }
  return true;
}

}  // namespace

int main() {
  int cases = 0;
  for (const char *name : {"avx512", "avx512bw", "avx2", "plain"}) {
    const Kernels *kernels = find_kernels(name);
    if (!kernels) continue;
    for (int channels : {1, 5, 16, 31, 33, 72, 130})
      for (int size = 0; size < 4; size++)
        for (int strides = 0; strides < 4; strides++) {
          int kh = size & 1 ? 3 : 1, kw = size & 2 ? 3 : 1, h = 4 + channels % 5, w = 1 + channels % 9;
          Shape s = make_shape(3, h, w, channels, (channels * 7 + size) % 75 + 1, kh, kw, 1 + strides / 2,
                               1 + strides % 2, cases % 2);
          if (strides == 0 && size == 3) s = make_shape(3, h, w, channels, channels, kh, kw, 1, 1, cases % 2);
          if (!check(*kernels, s, cases++)) return 1;
        }
  }
  std::printf("%d cases\n", cases);
  return 0;
}
