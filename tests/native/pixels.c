/* Writes the pixels that the program onebnet-run makes of image files: pixels HEIGHT WIDTH CHANNELS FILE... */
#include "images.h"

int main(int argc, char **argv) {
  int height = atoi(argv[1]), width = atoi(argv[2]), channels = atoi(argv[3]);
  const Fit fit = read_fit("", 0);
  for (int i = 4; i < argc; i++) {
    const char *problem;
    uint8_t *pixels = read_image(argv[i], height, width, channels, &fit, &problem);
    if (!pixels) return fprintf(stderr, "%s %s\n", argv[i], problem), 2;
    fwrite(pixels, 1, (size_t)height * width * channels, stdout);
    free(pixels);
  }
  return 0;
}
