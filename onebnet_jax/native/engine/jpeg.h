/* Reads JPEG images by libjpeg, with the settings and so the pixels of Pillow, by which training reads them. */
#ifndef JPEG_H
#define JPEG_H
#include <ctype.h>
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h> /* needs stdio.h before it */
#include <jerror.h>

#include "notes.h"
#include "resize.h"

typedef struct {
  struct jpeg_decompress_struct file;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr source;
  jmp_buf back;
  Picture picture;
  uint8_t *line; /* of CMYK, before it is RGB */
  Notes *notes;
} Jpeg;

static char jpeg_fault[JMSG_LENGTH_MAX + 40];

static void jpeg_exit(j_common_ptr file) {
  Jpeg *jpeg = file->client_data;
  char words[JMSG_LENGTH_MAX];
  jpeg->errors.format_message(file, words);
  snprintf(jpeg_fault, sizeof jpeg_fault, "cannot be decoded (%s)", words);
  longjmp(jpeg->back, 1);
}

/* What libjpeg makes up where bytes are missing, as Pillow allows it to. */
static void jpeg_warned(j_common_ptr file, int level) {
  int code = file->err->msg_code;
  if (level < 0 && (code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_MUST_RESYNC))
    ((Jpeg *)file->client_data)->notes->damaged = 1;
}

static void jpeg_nothing(j_decompress_ptr file) { (void)file; }
static boolean jpeg_end(j_decompress_ptr file) { return (void)file, FALSE; } /* what is cut stops, as in Pillow */

static void jpeg_skip(j_decompress_ptr file, long count) {
  struct jpeg_source_mgr *source = file->src;
  size_t bytes = count < 0 ? 0 : (size_t)count < source->bytes_in_buffer ? (size_t)count : source->bytes_in_buffer;
  source->next_input_byte += bytes, source->bytes_in_buffer -= bytes;
}

/* How a camera, by EXIF, or else a program, by XMP, says that the image is to be turned. */
static void jpeg_notes(const struct jpeg_marker_struct *marker, Notes *notes) {
  static const char xmp[] = "http://ns.adobe.com/xap/1.0/";
  int by_exif = 0, by_xmp = 0, found = 0;
  for (; marker; marker = marker->next) {
    const char *text = (const char *)marker->data, *end = text + marker->data_length;
    if (!found && marker->data_length >= 6 && !memcmp(text, "Exif\0", 6))
      found = 1, by_exif = exif_orientation(marker->data + 6, marker->data_length - 6);
    if (marker->data_length < sizeof xmp || memcmp(text, xmp, sizeof xmp)) continue;
    by_xmp = 0;
    while (!by_xmp && (text = behind(text, end, "tiff:Orientation"))) {
      int skipped = end - text >= 1 && *text == '>' ? 1 : end - text >= 2 && !memcmp(text, "=\"", 2) ? 2 : 0;
      if (skipped && end - text > skipped && isdigit((unsigned char)text[skipped])) by_xmp = text[skipped];
    }
  }
  int orientation = by_exif ? by_exif : by_xmp - '0';
  notes->orientation = orientation >= 1 && orientation <= 8 ? orientation : 1;
}

/* Fills picture and notes; the problem where it cannot. Locals would be lost at a longjmp. */
static const char *jpeg_decode(Jpeg *jpeg, int side) {
  static const char cut[] = "is cut";
  struct jpeg_decompress_struct *file = &jpeg->file;
  if (setjmp(jpeg->back)) return jpeg_fault;
  jpeg_create_decompress(file);
  file->src = &jpeg->source;
  jpeg_save_markers(file, JPEG_APP0 + 1, 0xffff);
  int code;
  while ((code = jpeg_read_header(file, FALSE)) == JPEG_HEADER_TABLES_ONLY) {}
  if (code == JPEG_SUSPENDED) return cut;
  const char *problem = refused((long)file->image_width, (long)file->image_height);
  if (problem) return problem;
  jpeg_notes(file->marker_list, jpeg->notes);
  int n = file->num_components, colours = n == 1 ? 1 : 3;
  if (n != 1 && n != 3 && n != 4) return "has not 1, 3 or 4 channels";
  file->out_color_space = n == 1 ? JCS_GRAYSCALE : n == 3 ? JCS_RGB : JCS_CMYK;
  int w = (int)file->image_width, h = (int)file->image_height, most = (w < h ? w : h) / (2 * side);
  for (file->scale_denom = 8; (int)file->scale_denom > most && file->scale_denom > 1;) file->scale_denom /= 2;
  if (!jpeg_start_decompress(file)) return cut;
  jpeg->picture = (Picture){NULL, (int)file->output_height, (int)file->output_width, colours};
  size_t columns = file->output_width, row = columns * colours;
  jpeg->picture.pixels = malloc(row * file->output_height);
  jpeg->line = malloc(columns * n);
  if (!jpeg->picture.pixels || !jpeg->line) return NO_MEMORY;
  while (file->output_scanline < file->output_height) {
    uint8_t *to = jpeg->picture.pixels + row * file->output_scanline, *from = n == 4 ? jpeg->line : to;
    if (jpeg_read_scanlines(file, &from, 1) != 1) return cut;
    for (size_t x = 0; n == 4 && x < columns; x++, from += 4) /* inverted, as Photoshop writes CMYK */
      for (int i = 0; i < 3; i++) {
        int ink = (255 - from[i]) * from[3] + 128;
        *to++ = (uint8_t)(from[3] - ((ink + (ink >> 8)) >> 8));
      }
  }
  jpeg_finish_decompress(file); /* FALSE where what follows is cut, which Pillow allows too */
  return NULL;
}

/* A JPEG at a whole, a half, a quarter or an eighth of its size, but at no less than twice `side`, as training decodes
   it; pixels is NULL, with the problem, where that fails. */
static Picture read_jpeg(const uint8_t *data, size_t bytes, int side, Notes *notes, const char **problem) {
  Jpeg jpeg = {.notes = notes};
  jpeg.source = (struct jpeg_source_mgr){data, bytes, jpeg_nothing, jpeg_end, jpeg_skip, jpeg_resync_to_restart,
                                         jpeg_nothing};
  jpeg.file.err = jpeg_std_error(&jpeg.errors);
  jpeg.errors.error_exit = jpeg_exit, jpeg.errors.emit_message = jpeg_warned;
  jpeg.file.client_data = &jpeg;
  *problem = jpeg_decode(&jpeg, side);
  jpeg_destroy_decompress(&jpeg.file);
  free(jpeg.line);
  if (*problem) free(jpeg.picture.pixels), jpeg.picture.pixels = NULL;
  return jpeg.picture;
}
#endif
