/* onebnet-run: classifies images with a network, or times it. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"
#include "onebnet.h"

static const char USAGE[] =
    "usage: onebnet-run MODEL.onb [--threads=N] [--set=NAME] [--logits | --at-least=P] IMAGE...\n"
    "       onebnet-run MODEL.onb [--threads=N] [--set=NAME] --bench[=RUNS]\n"
    "Prints the label and the probability of each image (.ppm, .pgm, .raw: bytes in the order of rows, columns and\n"
    "channels, in the network's size; .png and .jpg where the program was built with stb_image and libjpeg). Images\n"
    "of other sizes are resized as in training. The IMAGE - stands for a camera: .ppm, .pgm or .jpg images one after\n"
    "another on standard input, each of which gives a line at once; a broken .jpg is skipped, with a note.\n"
    "  --threads=N   threads that share an image (default 1)\n"
    "  --set=NAME    hold to an instruction set: avx512, avx2, neon or plain\n"
    "  --logits      print the logits instead\n"
    "  --at-least=P  print only results of at least this probability, such as 0.8\n"
    "  --bench       the time of 50 runs, three times, with 1 thread and with N (default: 4, or all cores if fewer)\n"
    "  --version     print the engine's version; --help: print this\n";

static const uint8_t *model;
static size_t model_bytes;
static onebnet_info info;

_Noreturn static void fail(const char *what, const char *why) {
  fprintf(stderr, "error: %s: %s.\n", what, why);
  exit(2);
}

static void write_out(void) {
  if (fflush(stdout) || ferror(stdout)) fail("standard output", "cannot be written");
}

/* A net, and threads beside the main one that wait for images and run their part of each. They spin while they wait,
   as in a row of runs, and sleep after that. */
typedef struct Work Work;
typedef struct { Work *work; int number; pthread_t thread; } Helper;
struct Work {
  void *memory;
  onebnet *net;
  const uint8_t *pixels; /* NULL to end */
  float *logits;
  size_t count;
  int threads;
  atomic_int turn;
  Helper helpers[ONEBNET_MAX_THREADS];
};

static void *help(void *argument) {
  Helper *me = argument;
  for (int turn = 1;; turn++) {
    for (int spins = 0; atomic_load(&me->work->turn) < turn; spins++)
      if (spins > 10000) nanosleep(&(struct timespec){0, 50000}, NULL);
    if (!me->work->pixels) return NULL;
    onebnet_run(me->work->net, me->number, me->work->pixels, me->work->count, me->work->logits);
  }
}

static void run(Work *work, const uint8_t *pixels) {
  work->pixels = pixels;
  atomic_fetch_add(&work->turn, 1);
  if (pixels) onebnet_run(work->net, 0, pixels, work->count, work->logits);
}

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes);
  if (!memory) fail("this network", "there is not enough memory");
  return memory;
}

static void start(Work *work, int threads, const char *path, const char *set) {
  size_t bytes;
  int code = onebnet_memory(model, model_bytes, threads, &bytes);
  if (code) fail(path, onebnet_error(code));
  work->memory = allocate(bytes);
  work->logits = allocate(sizeof(float) * info.classes);
  code = onebnet_init(work->memory, bytes, model, model_bytes, threads, set, &work->net);
  if (code) fail(path, onebnet_error(code));
  work->count = (size_t)info.height * info.width * info.channels;
  work->threads = threads;
  atomic_init(&work->turn, 0);
  for (int i = 1; i < threads; i++) {
    work->helpers[i].work = work, work->helpers[i].number = i;
    if (pthread_create(&work->helpers[i].thread, NULL, help, &work->helpers[i]))
      fail(path, "no thread could be started");
  }
}

static void stop(Work *work) {
  run(work, NULL);
  for (int i = 1; i < work->threads; i++) pthread_join(work->helpers[i].thread, NULL);
  free(work->logits), free(work->memory);
}

/* Prints name number `label` of "classes", which is the card's first list, or the number where it has none. */
static void print_label(int label) {
  static const char key[] = "{\"classes\": [";
  const char *p = info.card, *end = info.card + info.card_bytes;
  size_t n = sizeof key - 1;
  if (info.card_bytes > n && !memcmp(p, key, n)) {
    int left = label;
    for (p += n; p < end && *p == '"'; left--) {
      const char *name = ++p;
      while (p < end && *p != '"') p += *p == '\\' ? 2 : 1;
      if (p >= end) break;
      if (!left) {
        for (; name < p; name++) putchar(*name == '\\' ? *++name : *name); /* \" and \\ */
        return;
      }
      for (p++; p < end && (*p == ',' || *p == ' ');) p++;
    }
  }
  printf("%d", label);
}

/* What to print of an image: its logits, or its label if it is at least so probable. */
typedef struct { int logits; double at_least; } Wish;

static void print_result(const char *name, const float *logits, const Wish *wish) {
  int best = 0;
  double sum = 0;
  for (int i = 1; i < info.classes; i++)
    if (logits[i] > logits[best]) best = i;
  for (int i = 0; i < info.classes; i++) sum += exp((double)logits[i] - logits[best]);
  if (1 / sum < wish->at_least) return;
  printf("%s: ", name);
  for (int i = 0; wish->logits && i < info.classes; i++) printf("%s%.9g", i ? " " : "", logits[i]);
  if (!wish->logits) {
    print_label(best);
    printf(" %.4f", 1 / sum);
  }
  printf("\n");
  write_out(); /* for whoever reads lines while a camera runs */
}

/* Prints the result of an image, whose pixels it frees, and its problem; the exit status. */
static int classify(Work *work, const char *name, uint8_t *pixels, const char *problem, const Wish *wish) {
  if (problem) fprintf(stderr, "%s: %s %s.\n", pixels ? "note" : "error", name, problem);
  if (!pixels) return 2;
  run(work, pixels);
  print_result(name, work->logits, wish);
  free(pixels);
  return 0;
}

/* Up to the stream's end, or to a broken frame behind which the next is not findable. Fails if all were skipped. */
static int classify_frames(Work *work, const Fit *fit, const Wish *wish) {
  Frame frame = {0};
  int failed = 0, takes_images = info.channels == 1 || info.channels == 3;
  long count = 1, skipped = 0;
  for (; !failed; count++) {
    char name[30];
    uint8_t *pixels = NULL;
    const char *problem = read_frame(stdin, &frame);
    if (!problem && !frame.bytes && count > 1) break;
    if (!problem && !frame.bytes) problem = "is missing: standard input is empty";
    if (!problem) pixels = decode(frame.data, frame.bytes, info.height, info.width, info.channels, fit, &problem);
    snprintf(name, sizeof name, "frame %ld", count);
    if (!problem || !frame.findable || !takes_images) failed = classify(work, name, pixels, problem, wish);
    else skipped++, free(pixels), fprintf(stderr, "note: %s %s; it is skipped.\n", name, problem);
  }
  if (skipped) fprintf(stderr, "note: %ld of %ld frames were skipped.\n", skipped, count - 1);
  free(frame.data);
  return failed || skipped == count - 1 ? 2 : 0;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * t.tv_sec + 1e-6 * t.tv_nsec;
}

static int in_order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void bench(const char *path, const char *set, int most, int runs) {
  size_t count = (size_t)info.height * info.width * info.channels;
  uint8_t *pixels = allocate(count);
  double *times = allocate(sizeof(double) * runs);
  for (size_t i = 0; i < count; i++) pixels[i] = (uint8_t)(i * 2654435761u >> 13);
  for (int threads = 1; threads <= most; threads += most > 1 ? most - 1 : 1)
    for (int repetition = 0; repetition < 3; repetition++) {
      Work work;
      double begin = now(), sum = 0, squares = 0;
      start(&work, threads, path, set);
      double started = now();
      run(&work, pixels);
      double last = now(), first = last - started;
      for (int i = 0; i < runs; i++) {
        run(&work, pixels);
        double t = now(), ms = t - last;
        last = t, sum += ms, squares += ms * ms, times[i] = ms;
      }
      qsort(times, runs, sizeof *times, in_order);
      double mean = sum / runs, variance = squares / runs - mean * mean;
      printf("%s, %s, threads %d, ms: median %.4f, mean %.4f, std %.4f, min %.4f, max %.4f, init %.4f, first %.4f, "
             "count %d\n",
             path, onebnet_set(work.net), threads, (times[(runs - 1) / 2] + times[runs / 2]) / 2, mean,
             variance > 0 ? sqrt(variance) : 0, times[0], times[runs - 1], started - begin, first, runs);
      write_out();
      stop(&work);
    }
  free(times), free(pixels);
}

static int probable(double share) { return share > 0 && share <= 1; }

int main(int argc, char **argv) {
  const char *path = NULL, *set = NULL;
  int threads = 0, runs = 0, images = 0;
  Wish wish = {0};
  for (int i = 1; i < argc; i++) {
    if (!strncmp(argv[i], "--threads=", 10) && atoi(argv[i] + 10) > 0) threads = atoi(argv[i] + 10);
    else if (!strncmp(argv[i], "--set=", 6)) set = argv[i] + 6;
    else if (!strcmp(argv[i], "--logits")) wish.logits = 1;
    else if (!strncmp(argv[i], "--at-least=", 11) && probable(atof(argv[i] + 11))) wish.at_least = atof(argv[i] + 11);
    else if (!strcmp(argv[i], "--bench")) runs = 50;
    else if (!strncmp(argv[i], "--bench=", 8) && atoi(argv[i] + 8) > 0) runs = atoi(argv[i] + 8);
    else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return fputs(USAGE, stdout), write_out(), 0;
    else if (!strcmp(argv[i], "--version")) return printf("onebnet-run %s\n", onebnet_version()), write_out(), 0;
    else if (argv[i][0] == '-' && argv[i][1]) return fprintf(stderr, "error: %s will not do.\n%s", argv[i], USAGE), 2;
    else if (!path) path = argv[i];
    else images++;
  }
  if (path && !runs && !images) fputs("error: name an image, or --bench.\n", stderr);
  if (!path || (!runs && !images) || (wish.logits && wish.at_least)) return fputs(USAGE, stderr), 2;
  model = read_file(path, &model_bytes);
  if (!model) fail(path, "cannot be read");
  int code = onebnet_describe(model, model_bytes, &info);
  if (code) fail(path, onebnet_error(code));
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  if (threads > cores) fprintf(stderr, "note: the %d threads share %ld cores and wait for them.\n", threads, cores);
  int most = threads ? threads : cores < 4 ? (int)cores : 4;
  if (runs) return bench(path, set, most, runs), free((void *)model), 0;

  Work work;
  start(&work, threads ? threads : 1, path, set);
  Fit fit = read_fit(info.card, info.card_bytes);
  int failed = 0;
  for (int i = 1; i < argc; i++) {
    const char *problem;
    if (!strcmp(argv[i], "-")) failed |= classify_frames(&work, &fit, &wish);
    else if (argv[i][0] != '-' && argv[i] != path) {
      uint8_t *pixels = read_image(argv[i], info.height, info.width, info.channels, &fit, &problem);
      failed |= classify(&work, argv[i], pixels, problem, &wish);
    }
  }
  stop(&work);
  free((void *)model);
  return failed;
}
