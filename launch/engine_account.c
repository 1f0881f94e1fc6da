/* Where the time of an image goes, part by part, beside what the CPU could do at most; `launch/engine_account.sh`
   builds and runs it. For AVX-512 and AVX2: a limit is a loop of their instructions that does nothing else. It is
   measured between the parts of each image, as a CPU that multiplies floats runs at a lower clock for a while
   afterwards. */
#define _POSIX_C_SOURCE 200809L
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "run.c"

#define TARGET(set) __attribute__((target(set), noinline))
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define SIXTEEN(X) TWELVE(X) X(12) X(13) X(14) X(15)
#define CHANGED "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                "xmm12", "xmm13", "xmm14", "xmm15"
enum { IMAGES = 200, TURNS = 2000 };

static double now(void) { /* microseconds */
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* Floats a microsecond, each multiplied and added. */
TARGET("avx512f") static double most_products_avx512(void) {
  double start = now();
  for (int i = 0; i < TURNS; i++) {
#define X(r) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #r "\n"
    __asm__ volatile(SIXTEEN(X)::: CHANGED, "xmm30", "xmm31");
#undef X
  }
  return 16.0 * 16 * TURNS / (now() - start);
}
TARGET("avx2,fma") static double most_products_avx2(void) {
  double start = now();
  for (int i = 0; i < TURNS; i++) {
#define X(r) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #r "\n"
    __asm__ volatile(TWELVE(X)::: CHANGED);
#undef X
  }
  return 12.0 * 8 * TURNS / (now() - start);
}

/* Words a microsecond: xor, count of bits, sum. */
TARGET("avx512f,avx512vpopcntdq") static double most_counts_avx512(void) {
  double start = now();
  for (int i = 0; i < TURNS; i++) {
#define X(r) "vpxord %%zmm30, %%zmm31, %%zmm29\nvpopcntd %%zmm29, %%zmm29\nvpaddd %%zmm29, %%zmm" #r ", %%zmm" #r "\n"
    __asm__ volatile(SIXTEEN(X)::: CHANGED, "xmm29", "xmm30", "xmm31");
#undef X
  }
  return 16.0 * 16 * TURNS / (now() - start);
}
TARGET("avx2") static double most_counts_avx2(void) { /* as avx2.c counts: a table of the bits of half a byte, twice */
  double start = now();
  for (int i = 0; i < TURNS; i++) {
#define X(r)                                                                                                           \
  "vpxor %%ymm14, %%ymm15, %%ymm12\nvpsrlw $4, %%ymm12, %%ymm13\nvpand %%ymm15, %%ymm12, %%ymm12\n"                   \
  "vpand %%ymm15, %%ymm13, %%ymm13\nvpshufb %%ymm12, %%ymm14, %%ymm12\nvpshufb %%ymm13, %%ymm14, %%ymm13\n"           \
  "vpaddb %%ymm12, %%ymm13, %%ymm13\nvpaddb %%ymm13, %%ymm" #r ", %%ymm" #r "\n"
    __asm__ volatile(TWELVE(X)::: CHANGED);
#undef X
  }
  return 12.0 * 8 * TURNS / (now() - start);
}

static int order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
/* Sorts them. */
static double median(double *values) {
  qsort(values, IMAGES, sizeof(double), order);
  return values[(IMAGES - 1) / 2];
}

static void line(const char *name, double *times, double work, double most, double all) {
  double time = median(times);
  printf("| %-45s | %6.0f | %5.1f |", name, time, 100 * time / all);
  if (work > 0) printf(" %12.0f |\n", 100 * work / time / most);
  else printf(" %12s |\n", "");
}

int main(int argc, char **argv) {
  static double stem[IMAGES], project_[IMAGES], binary[IMAGES], head[IMAGES], all[IMAGES], products[IMAGES],
      counts[IMAGES];
  double (*most_products)(void) = most_products_avx2, (*most_counts)(void) = most_counts_avx2;
  FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
  if (!f || fseek(f, 0, SEEK_END)) return fprintf(stderr, "usage: engine_account MODEL.onb\n"), 2;
  size_t n = (size_t)ftell(f), bytes = 0;
  void *file = aligned_alloc(ALIGNMENT, (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  rewind(f);
  if (!file || fread(file, 1, n, f) != n) return 2;
  onebnet *net = NULL;
  int code = onebnet_memory(file, n, 1, &bytes);
  if (!code) code = onebnet_init(malloc(bytes), bytes, file, n, 1, NULL, &net);
  if (code) return fprintf(stderr, "%s\n", onebnet_error(code)), 2;
  if (net->kernels != &onebnet_avx512 && net->kernels != &onebnet_avx2)
    return fprintf(stderr, "This CPU has neither AVX2 nor AVX-512 (VPOPCNTDQ).\n"), 2;
  if (net->kernels == &onebnet_avx512) most_products = most_products_avx512, most_counts = most_counts_avx512;
  const Header *header = net->header;
  const Stem *s = &header->stem;
  uint8_t *pixels = malloc((size_t)s->h * s->w * s->c);
  float *logits = malloc(sizeof(float) * header->classes);
  if (!pixels || !logits) return 2;
  for (int i = 0; i < s->h * s->w * s->c; i++) pixels[i] = (uint8_t)((uint32_t)i * 2654435761u >> 13);

  double in_stem = (double)s->conv_h * s->conv_w * s->kh * s->kw * s->c * blocks(s->out_c) * BLOCK,
         in_project = 0, in_binary = 0; /* products of floats, and words */
  for (int image = 0; image < IMAGES; image++) {
    int h = s->out_h, w = s->out_w, c = s->out_c;
    in_project = in_binary = project_[image] = binary[image] = 0;
    double start = now(), begin;
    onebnet_stem(net, 0, pixels, NULL);
    stem[image] = now() - start;
    products[image] = most_products();
    for (int i = 0; i < header->unit_count; i++) {
      const Unit *u = net->units + i, *next = i + 1 < header->unit_count ? u + 1 : NULL;
      double outputs = (double)u->out_h * u->out_w * blocks(u->out_c) * BLOCK;
      if (u->flags & UNIT_GATE) gate(net, 0, u);
      begin = now();
      if (u->flags & UNIT_PROJECT) project(net, 0, u, h, w, c);
      if (u->project) in_project += outputs * c;
      project_[image] += now() - begin;
      begin = now();
      convolve(net, 0, u, next, net->words[i & 1], net->words[~i & 1]);
      binary[image] += now() - begin;
      in_binary += outputs * u->kh * u->kw * blocks(u->c);
      if (u->flags & (UNIT_PROJECT | UNIT_STORE)) h = u->out_h, w = u->out_w, c = u->out_c;
      if (i == header->unit_count / 2) counts[image] = most_counts();
    }
    begin = now();
    run_head(net, 0, h, w, c, logits);
    head[image] = now() - begin;
    all[image] = stem[image] + project_[image] + binary[image] + head[image];
  }
  double multiplied = median(products), counted = median(counts), total = median(all);
  static double floats[IMAGES];
  printf("| part | us | %% of time | %% of limit |\n|---|--:|--:|--:|\n");
  for (int i = 0; i < IMAGES; i++) floats[i] = stem[i] + project_[i];
  line("float convolutions, the next two lines", floats, in_stem + in_project, multiplied, total);
  line("first convolution, with pooling", stem, in_stem, multiplied, total);
  line("1x1 convolutions of shortcuts, with pooling", project_, in_project, multiplied, total);
  line("binarized convolutions, each up to next signs", binary, in_binary, counted, total);
  line("head", head, 0, 1, total);
  printf("%s, all: %.0f us; limits: %.1f G products, %.1f G words a second (medians of %d images)\n",
         net->kernels->name, total, multiplied / 1e3, counted / 1e3, IMAGES);
  return 0;
}
