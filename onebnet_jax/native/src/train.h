// The kernels of training on whole batches, in several threads. Results are the same bits for any number of threads.
#pragma once
#include "kernels.h"
#include "threads.h"

// By name; nullptr or "" for the best that this CPU has. Null for one that is unknown or that this CPU lacks.
const Kernels *find_kernels(const char *name);

// The arguments are those of the structs in kernels.h; what is prepared or kept in between is filled in here.
// sums: [2][o], of counts and of their squares, each image times its mask.
void forward(Pool &, const Kernels &, Forward, const float *mask, float *sums);
void signs(Pool &, const Kernels &, const Forward &);  // the bits alone
void float_forward(Pool &, const Kernels &, FloatForward);
void map_gradient(Pool &, const Kernels &, MapGradient, float *alpha_gradient);
void kernel_gradient(Pool &, const Kernels &, KernelGradient);
// sums: [2][c], of y and of y * y, each image times its mask.
void statistics(Pool &, const Kernels &, Tail, float *sums);
void tail_forward(Pool &, const Kernels &, const Tail &);
void tail_backward(Pool &, const Kernels &, Tail, float *sums);  // [4 with an RPReLU, else 2][c]
void tail_gradient(Pool &, const Kernels &, const Tail &);
