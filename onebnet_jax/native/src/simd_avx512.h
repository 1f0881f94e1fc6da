/* AVX-512: F, BW, VL and DQ; with VPOPCNTDQ (Ice Lake, Zen 4 and newer) it counts in one instruction. */
#include <immintrin.h>
#define LANES 16
#define GROUP 5
typedef float floats __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));

/* Bit i: x[i] > 0. */
INLINE uint32_t positive(floats x) { return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GT_OQ); }

typedef ints counts;
#ifdef __AVX512VPOPCNTDQ__
#define COUNTS INT32_MAX
/* Adds the number of bits in which weights and x differ, to each lane. */
INLINE counts count_step(counts sum, ints weights, uint32_t x) {
  return sum + (ints)_mm512_popcnt_epi32(_mm512_xor_si512((__m512i)weights, _mm512_set1_epi32((int)x)));
}
INLINE ints count_sum(counts sum) { return sum; }
#else
#define COUNTS 31 /* bytes, 8 more a word */
INLINE counts count_step(counts sum, ints weights, uint32_t x) {
  const __m512i table = _mm512_set4_epi32(0x04030302, 0x03020201, 0x03020201, 0x02010100);
  const __m512i nibble = _mm512_set1_epi8(15);
  __m512i v = _mm512_xor_si512((__m512i)weights, _mm512_set1_epi32((int)x));
  __m512i low = _mm512_shuffle_epi8(table, _mm512_and_si512(v, nibble));
  __m512i high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble));
  return (counts)_mm512_add_epi8((__m512i)sum, _mm512_add_epi8(low, high));
}
INLINE ints count_sum(counts sum) {
  return (ints)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)sum, _mm512_set1_epi8(1)), _mm512_set1_epi16(1));
}
#endif

INLINE floats table(const float *d) {
  const floats s0 = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
  const floats s1 = {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1};
  const floats s2 = {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1};
  const floats s3 = {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1};
  return (s0 * d[0] + s1 * d[1]) + (s2 * d[2] + (s3 * d[3] + d[4]));
}
INLINE floats pick(floats table, ints choice) {
  return (floats)_mm512_permutexvar_ps((__m512i)choice, (__m512)table);
}
/* Word g is rotated such that the lane's bit gets to position g, the last word's to the sign's. */
INLINE ints choices(const uint32_t *const *words, int shift) {
  const ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  __m512i by = (__m512i)(lane + shift), v[GROUP];
  UNROLL for (int g = 0; g < GROUP; g++)
    v[g] = _mm512_rorv_epi32(_mm512_set1_epi32((int)*words[g]),
                             _mm512_sub_epi32(by, _mm512_set1_epi32(g == GROUP - 1 ? 31 : g)));
  __m512i x = _mm512_ternarylogic_epi32(_mm512_set1_epi32(1), v[0], v[1], 0xCA); /* bits of the first choose */
  x = _mm512_ternarylogic_epi32(_mm512_set1_epi32(3), x, v[2], 0xCA);
  x = _mm512_ternarylogic_epi32(_mm512_set1_epi32(7), x, v[3], 0xCA);
  ints minus = ~(ints)_mm512_srai_epi32(v[GROUP - 1], 31);
  return (ints)_mm512_ternarylogic_epi32(_mm512_set1_epi32(INT32_MAX), (__m512i)((ints)x ^ minus), (__m512i)minus, 0xCA);
}
