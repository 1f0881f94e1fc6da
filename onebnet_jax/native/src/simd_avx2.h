/* AVX2 and FMA. */
#include <immintrin.h>
#define LANES 8
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

INLINE void transpose(floats *rows) {
  __m256 a[8], b[8];
  UNROLL for (int i = 0; i < 4; i++) {
    a[2 * i] = _mm256_unpacklo_ps((__m256)rows[2 * i], (__m256)rows[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_ps((__m256)rows[2 * i], (__m256)rows[2 * i + 1]);
  }
  UNROLL for (int i = 0; i < 8; i += 4)
    UNROLL for (int j = 0; j < 2; j++) {
      b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
      b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xEE);
    }
  UNROLL for (int i = 0; i < 4; i++) {
    rows[i] = (floats)_mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    rows[i + 4] = (floats)_mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}
