/* AVX2 and FMA. Its permutation has 8 entries, so GROUP is 3 + 1. */
#include <immintrin.h>
#define LANES 8
#define GROUP 4
#define COUNTS 31 /* bytes, 8 more a word */
typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));

INLINE uint32_t positive(floats x) {
  return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_GT_OQ));
}

typedef ints counts;
INLINE counts count_step(counts sum, ints weights, uint32_t x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i v = _mm256_xor_si256((__m256i)weights, _mm256_set1_epi32((int)x));
  __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(v, nibble));
  __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble));
  return (counts)_mm256_add_epi8((__m256i)sum, _mm256_add_epi8(low, high));
}
INLINE ints count_sum(counts sum) {
  return (ints)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)sum, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

INLINE floats table(const float *d) {
  const floats s0 = {-1, 1, -1, 1, -1, 1, -1, 1}, s1 = {-1, -1, 1, 1, -1, -1, 1, 1}, s2 = {-1, -1, -1, -1, 1, 1, 1, 1};
  return (s0 * d[0] + s1 * d[1]) + (s2 * d[2] + d[3]);
}
INLINE floats pick(floats table, ints choice) {
  return (floats)_mm256_permutevar8x32_ps((__m256)table, (__m256i)choice);
}
INLINE ints choices(const uint32_t *const *words, int shift) {
  const ints lane = (ints){1, 2, 4, 8, 16, 32, 64, 128} << shift, zero = {0};
  ints v = zero;
  UNROLL for (int g = 0; g < GROUP - 1; g++) v |= ((lane & (int32_t)*words[g]) != zero) & (1 << g);
  ints minus = (lane & (int32_t)*words[GROUP - 1]) == zero;
  return v ^ (minus & (INT32_MIN | ((1 << (GROUP - 1)) - 1)));
}
