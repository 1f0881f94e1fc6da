/* From a picture to what the network takes, in the steps of data/photos.py, in the whole numbers of its Pillow. */

/* Grey values [height][width] of a picture of any size, on white where it is transparent, as the bands of rows come. */
async function* greyRows(bitmap) {
  const canvas = document.createElement("canvas"), band = 256;
  canvas.width = bitmap.width;
  canvas.height = Math.min(band, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let y = 0; y < bitmap.height; y += band) {
    const rows = Math.min(band, bitmap.height - y);
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, band);
    context.drawImage(bitmap, 0, -y);
    const { data } = context.getImageData(0, 0, canvas.width, rows);
    for (let row = 0; row < rows; row++) {
      const grey = new Uint8Array(bitmap.width);
      for (let x = 0, i = row * bitmap.width * 4; x < bitmap.width; x++, i += 4)
        grey[x] = (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
      yield grey;
    }
  }
}

/* Where each of `to` pixels begins among `from` pixels, and its weights there: triangles, in units of 2^-22. */
function triangles(from, to) {
  const scale = from / to, support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), from);
    const weights = [];
    for (let x = first; x < last; x++) weights.push(Math.max(1 - Math.abs((x - centre + 0.5) / support), 0));
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((weight) => Math.trunc(0.5 + (weight / sum) * 2 ** 22)) };
  });
}

/* A weighted sum of values[first], values[first + step], ... as a byte. */
function blend(values, { first, weights }, offset, step) {
  let sum = 2 ** 21;
  for (let k = 0; k < weights.length; k++) sum += values[offset + (first + k) * step] * weights[k];
  return Math.min(Math.floor(sum / 2 ** 22), 255);
}

function roundHalfEven(x) {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 ? near - 1 : near;
}

/* Pixels, Uint8Array [height * width], of an image file: grey, scaled until it covers the size, the centre cut out. */
async function readPicture(file, height, width) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("This browser cannot read that file as a picture. JPEG, PNG, WebP, BMP and GIF should do.");
  }
  const scale = Math.max(height / bitmap.height, width / bitmap.width);
  const covering = [bitmap.height, bitmap.width].map((side, i) =>
    Math.max(roundHalfEven(side * scale), [height, width][i]));
  const across = triangles(bitmap.width, covering[1]), down = triangles(bitmap.height, covering[0]);
  const narrow = new Uint8Array(bitmap.height * covering[1]);
  let at = 0;
  for await (const row of greyRows(bitmap)) for (const place of across) narrow[at++] = blend(row, place, 0, 1);
  const top = (covering[0] - height) >> 1, left = (covering[1] - width) >> 1;
  const pixels = new Uint8Array(height * width);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) pixels[y * width + x] = blend(narrow, down[top + y], left + x, covering[1]);
  return pixels;
}

/* Whether the border of an image is light: FashionMNIST shows light clothes on black. */
function hasLightBorder(pixels, height, width) {
  const border = pixels.filter((_, i) => {
    const x = i % width, y = (i - x) / width;
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
  return border.reduce((a, b) => a + b) / border.length > 127;
}
