/* A unit's gate: one factor for each output channel, by two small matrices from the means of what the unit takes. */
#include "internal.h"

static size_t whole(int channels) { return (size_t)blocks(channels) * BLOCK; }

size_t onebnet_gate_floats(const Unit *u) { return whole(u->c) + whole(u->hidden) + 2 * whole(u->out_c); }

float *onebnet_gated(const onebnet *net, const Unit *u) { return net->gate + whole(u->c) + whole(u->hidden); }

/* e^x for x of -80 to 0: the 1024th power of a short series. Libraries differ in the last bits. */
static double power_of_e(double x) {
  double y = x / 1024, term = 1, sum = 1;
  for (int i = 1; i < 9; i++) term *= y / i, sum += term;
  for (int i = 0; i < 10; i++) sum *= sum;
  return sum;
}

static float sigmoid(float x) {
  double size = x < 0 ? -(double)x : x;
  double e = size < 80 ? power_of_e(-size) : 0;
  return (float)((x < 0 ? e : 1) / (1 + e));
}

void onebnet_gate(const onebnet *net, const Unit *u) {
  const float *weights = at(net, u->gate_in), *bias = at(net, u->gate_bias);
  const float *multiplier = at(net, u->multiplier), *shift = at(net, u->bias);
  float *mean = net->gate, *hidden = mean + whole(u->c), *gated = onebnet_gated(net, u);
  size_t out = whole(u->out_c);
  for (int j = 0; j < u->hidden; j++) hidden[j] = bias[j];
  for (int i = 0; i < u->c; i++, weights += u->hidden)
    for (int j = 0; j < u->hidden; j++) hidden[j] += mean[i] * weights[j];
  weights = at(net, u->gate_out);
  for (size_t j = 0; j < out; j++) gated[j] = 0;
  for (int i = 0; i < u->hidden; i++, weights += out)
    if (hidden[i] > 0)
      for (size_t j = 0; j < out; j++) gated[j] += hidden[i] * weights[j];
  for (size_t j = 0; j < out; j++) {
    float factor = sigmoid(gated[j]);
    gated[j] = multiplier[j] * factor, gated[out + j] = shift[j] * factor;
  }
}
