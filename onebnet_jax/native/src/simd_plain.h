/* Any CPU: 4 lanes, which every compiler turns into SSE2 or NEON. */
#define LANES 4
#define COUNTS 31 /* bytes, 8 more a word */
typedef float floats __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));

INLINE uint32_t positive(floats x) {
  const ints lane = {1, 2, 4, 8}, bits = (x > 0) & lane;
  return (uint32_t)(bits[0] | bits[1] | bits[2] | bits[3]);
}

typedef uint32_t counts __attribute__((vector_size(16)));
INLINE counts count_step(counts sum, ints weights, uint32_t x) {
  counts v = (counts)weights ^ x;
  v -= v >> 1 & 0x55555555u;
  v = (v & 0x33333333u) + (v >> 2 & 0x33333333u);
  return sum + ((v + (v >> 4)) & 0x0f0f0f0fu);
}
INLINE ints count_sum(counts sum) {
  sum = (sum & 0x00ff00ffu) + (sum >> 8 & 0x00ff00ffu);
  return (ints)((sum & 0xffffu) + (sum >> 16));
}

INLINE void transpose(floats *rows) {
  for (int i = 0; i < LANES; i++)
    for (int j = 0; j < i; j++) {
      float x = rows[i][j];
      rows[i][j] = rows[j][i], rows[j][i] = x;
    }
}
