/* What a net computes on the way, and words. */
#include "internal.h"

int onebnet_look(onebnet *net, const uint8_t *pixels, const float *image, size_t count, int unit, int8_t *signs,
                 float *map) {
  const Header *h = net->header;
  const Stem *s = &h->stem;
  if (net->threads != 1) return ONEBNET_THREADS;
  if ((!pixels && !image) || count != (size_t)s->h * s->w * s->c) return ONEBNET_IMAGE;
  int last = unit == h->unit_count;
  if (unit < 0 || unit > h->unit_count || (signs && last)) return ONEBNET_UNIT;
  if (map && unit > 0 && !(net->units[unit - 1].flags & UNIT_STORE)) return ONEBNET_UNIT;
  onebnet_go(net, 0, pixels, image, unit, NULL);

  const Unit *u = net->units + unit - last;
  int height = last ? u->out_h : u->h, width = last ? u->out_w : u->w, channels = last ? u->out_c : u->c;
  int n = blocks(channels);
  for (int row = 0; row < height; row++)
    for (int column = 0; column < width; column++)
      for (int c = 0; c < channels; c++) {
        size_t place = ((size_t)row * width + column) * channels + c;
        if (map) map[place] = net->map[(((size_t)row * n + c / BLOCK) * width + column) * BLOCK + c % BLOCK];
        if (!signs) continue;
        size_t pixel = (size_t)(row + u->top) * onebnet_padded_w(u) + column + u->left;
        signs[place] = net->words[unit & 1][pixel * n + c / BLOCK] >> c % BLOCK & 1 ? 1 : -1;
      }
  return ONEBNET_OK;
}

const char *onebnet_set(const onebnet *net) { return net->kernels->name; }

const char *onebnet_version(void) { return "1.0"; }

const char *onebnet_error(int code) {
  static const char *const sentences[ONEBNET_CODES] = {
      "no error",
      "this is not a file that `onebnet convert --native` wrote",
      "the file is of another version of the format: convert the network again with the version at hand",
      "the file is not as long as it says: copy it again",
      "the file has been altered, its checksum does not match: copy it again",
      "the file contradicts itself: convert the network again",
      "the file must lie at a multiple of 64 bytes in memory",
      "less memory than onebnet_memory asks for, or more than this system has addresses for",
      "the number of threads is not 1 to 64, or there is no such thread",
      "this CPU or this build has no such instruction set",
      "the image has another size than the network takes",
      "the network has no such unit, or does not keep what it takes",
  };
  return code >= 0 && code < ONEBNET_CODES ? sentences[code] : "there is no such error code";
}
