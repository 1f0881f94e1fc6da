/* The values of a pixel for sets that load one at a time (TAPS = 1); to be included behind their vectors of float. */
typedef vf vx;
F vx x_load(const float *p) { return f_set(*p); }
F vx x_set(float x) { return f_set(x); }
F vf x_fma(vx x, int t, vf b, vf c) { (void)t; return f_fma(x, b, c); }
