// XLA's custom calls: buffers and attributes into the structs of kernels.h. kernels.py says what each one computes. An
// array without elements stands for one that is not there.
#include "train.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Floats = ffi::Buffer<ffi::F32>;
using Counts = ffi::Buffer<ffi::S16>;
using Bits = ffi::Buffer<ffi::U32>;
template <ffi::DataType T> using Out = ffi::Result<ffi::Buffer<T>>;
using FloatsOut = Out<ffi::F32>;

struct XlaPool : Pool {
  explicit XlaPool(ffi::ThreadPool &pool) : of(pool) {}
  int threads() const override { return (int)of.num_threads(); }
  void schedule(std::function<void()> task) override { of.Schedule(std::move(task)); }
  ffi::ThreadPool &of;
};

// Runs f with the kernels asked for; what goes wrong becomes XLA's error.
template <class F> ffi::Error run(ffi::ThreadPool &threads, std::string_view set, F f) {
  const Kernels *kernels = find_kernels(std::string(set).c_str());
  if (!kernels) return ffi::Error::InvalidArgument("This CPU has no instruction set " + std::string(set));
  XlaPool pool(threads);
  try {
    f(pool, *kernels);
  } catch (const std::exception &error) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, error.what());
  }
  return ffi::Error::Success();
}

template <class B> auto *data(const B &buffer) { return buffer.element_count() ? buffer.typed_data() : nullptr; }
template <class B> int size(const B &buffer, int axis) { return (int)buffer.dimensions()[axis]; }

template <class X, class K> Shape shape(const X &x, const K &kernel, int64_t rows, int64_t columns, int64_t pad_value) {
  return make_shape(size(x, 0), size(x, 1), size(x, 2), size(x, 3), size(kernel, 3), size(kernel, 0), size(kernel, 1),
                    (int)rows, (int)columns, (int)pad_value);
}

ffi::Error forward_call(ffi::ThreadPool threads, Floats x, Floats alpha, Floats kernel, Floats mask,
                        Out<ffi::S16> counts, Out<ffi::U32> bits, FloatsOut sums, int64_t rows, int64_t columns,
                        int64_t pad_value, std::string_view set) {
  return run(threads, set, [&](Pool &pool, const Kernels &k) {
    Forward f = {};
    f.s = shape(x, kernel, rows, columns, pad_value);
    f.x = data(x), f.alpha = data(alpha), f.kernel = data(kernel);
    f.counts = data(*counts), f.bits = data(*bits);
    forward(pool, k, f, data(mask), data(*sums));
  });
}

// Both gradients in one call, so that dy goes as soon as it has been used.
ffi::Error gradients_call(ffi::ThreadPool threads, Floats grad, Counts counts, Floats coefficients, Floats mask,
                          Floats kernel, Floats x, Floats alpha, Floats slopes, Bits bits, FloatsOut dx,
                          FloatsOut dalpha, FloatsOut dkernel, FloatsOut dy, int64_t rows, int64_t columns,
                          int64_t pad_value, int64_t slope, float window, int64_t shortcut, int64_t binary,
                          std::string_view set) {
  return run(threads, set, [&](Pool &pool, const Kernels &k) {
    MapGradient g = {};
    g.s = shape(x, kernel, rows, columns, pad_value);
    g.grad = data(grad), g.counts = data(counts), g.coefficients = data(coefficients), g.mask = data(mask);
    g.kernel = data(kernel), g.x = data(x), g.alpha = data(alpha), g.slopes = data(slopes);
    g.slope = (Slope)slope, g.window = window, g.shortcut = shortcut, g.binary = binary;
    g.dx = data(*dx), g.dy = data(*dy);
    map_gradient(pool, k, g, data(*dalpha));
    KernelGradient w = {};
    w.s = g.s, w.bits = data(bits), w.dy = g.counts ? g.dy : g.grad, w.dw = data(*dkernel);
    kernel_gradient(pool, k, w);
  });
}

ffi::Error float_forward_call(ffi::ThreadPool threads, Floats x, Floats alpha, Floats kernel, FloatsOut y,
                              Out<ffi::U32> bits, int64_t rows, int64_t columns, int64_t pad_value,
                              std::string_view set) {
  return run(threads, set, [&](Pool &pool, const Kernels &k) {
    Forward packed = {};
    packed.s = shape(x, kernel, rows, columns, pad_value);
    packed.x = data(x), packed.alpha = data(alpha), packed.bits = data(*bits);
    signs(pool, k, packed);
    FloatForward f = {};
    f.s = packed.s, f.bits = packed.bits, f.kernel = data(kernel), f.y = data(*y);
    float_forward(pool, k, f);
  });
}

template <class B> Tail tail(const B &map) {
  Tail t = {};
  t.n = size(map, 0), t.pixels = size(map, 1) * size(map, 2), t.c = size(map, 3);
  return t;
}

ffi::Error statistics_call(ffi::ThreadPool threads, Floats y, Floats mask, FloatsOut sums, std::string_view set) {
  return run(threads, set, [&](Pool &pool, const Kernels &k) {
    Tail t = tail(y);
    t.y = data(y), t.mask = data(mask);
    statistics(pool, k, t, data(*sums));
  });
}

ffi::Error tail_forward_call(ffi::ThreadPool threads, Floats y, Counts counts, Floats shortcut, Floats parameters,
                             FloatsOut out, int64_t rprelu, std::string_view set) {
  return run(threads, set, [&](Pool &pool, const Kernels &k) {
    Tail t = tail(*out);
    t.y = data(y), t.counts = data(counts), t.shortcut = data(shortcut), t.parameters = data(parameters);
    t.rprelu = rprelu, t.out = data(*out);
    tail_forward(pool, k, t);
  });
}

ffi::Error tail_backward_call(ffi::ThreadPool threads, Floats grad, Floats y, Counts counts, Floats shortcut,
                              Floats parameters, FloatsOut out, FloatsOut sums, int64_t rprelu, std::string_view set) {
  return run(threads, set, [&](Pool &pool, const Kernels &k) {
    Tail t = tail(grad);
    t.grad = data(grad), t.y = data(y), t.counts = data(counts), t.shortcut = data(shortcut);
    t.parameters = data(parameters), t.rprelu = rprelu, t.out = data(*out);
    tail_backward(pool, k, t, data(*sums));
  });
}

ffi::Error tail_gradient_call(ffi::ThreadPool threads, Floats grad, Floats y, Floats mask, Floats parameters,
                              FloatsOut out, std::string_view set) {
  return run(threads, set, [&](Pool &pool, const Kernels &k) {
    Tail t = tail(grad);
    t.grad = data(grad), t.y = data(y), t.mask = data(mask), t.parameters = data(parameters), t.out = data(*out);
    tail_gradient(pool, k, t);
  });
}

}  // namespace

#define BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
#define F32 Arg<Floats>()
#define RET Ret<Floats>()
#define INT(name) Attr<int64_t>(name)
#define SET Attr<std::string_view>("set")

XLA_FFI_DEFINE_HANDLER_SYMBOL(onebnet_forward, forward_call,
                              BIND.F32.F32.F32.F32.Ret<Counts>().Ret<Bits>().RET.INT("rows").INT("columns")
                                  .INT("pad_value").SET);
XLA_FFI_DEFINE_HANDLER_SYMBOL(onebnet_gradients, gradients_call,
                              BIND.F32.Arg<Counts>().F32.F32.F32.F32.F32.F32.Arg<Bits>().RET.RET.RET.RET.INT("rows")
                                  .INT("columns").INT("pad_value").INT("slope").Attr<float>("window")
                                  .INT("shortcut").INT("binary").SET);
XLA_FFI_DEFINE_HANDLER_SYMBOL(onebnet_float_forward, float_forward_call,
                              BIND.F32.F32.F32.RET.Ret<Bits>().INT("rows").INT("columns").INT("pad_value").SET);
XLA_FFI_DEFINE_HANDLER_SYMBOL(onebnet_statistics, statistics_call, BIND.F32.F32.RET.SET);
XLA_FFI_DEFINE_HANDLER_SYMBOL(onebnet_tail_forward, tail_forward_call,
                              BIND.F32.Arg<Counts>().F32.F32.RET.INT("rprelu").SET);
XLA_FFI_DEFINE_HANDLER_SYMBOL(onebnet_tail_backward, tail_backward_call,
                              BIND.F32.F32.Arg<Counts>().F32.F32.RET.RET.INT("rprelu").SET);
XLA_FFI_DEFINE_HANDLER_SYMBOL(onebnet_tail_gradient, tail_gradient_call, BIND.F32.F32.F32.F32.RET.SET);

// The instruction set that `name` gets ("" for the best), or null.
extern "C" const char *onebnet_instruction_set(const char *name) {
  const Kernels *kernels = find_kernels(name);
  return kernels ? kernels->name : nullptr;
}
