/* The native engine as WebAssembly, with one network in its memory; the functions are those of engine/onebnet.h. */
async function openEngine(wasm, file) {
  const { instance } = await WebAssembly.instantiate(wasm);
  const c = instance.exports;
  c._initialize();
  let end = c.__heap_base.value;
  const take = (bytes) => {
    const at = Math.ceil(end / 64) * 64;
    end = at + bytes;
    const missing = end - c.memory.buffer.byteLength;
    if (missing > 0) c.memory.grow(Math.ceil(missing / 65536));
    return at;
  };
  const bytes = (at, count) => new Uint8Array(c.memory.buffer, at, count);
  const words = (at, count) => Array.from(new Int32Array(c.memory.buffer, at, count));
  const text = (at) => new TextDecoder().decode(bytes(at, bytes(at, 200).indexOf(0)));
  const check = (code) => {
    if (code) throw new Error(text(c.onebnet_error(code)));
  };

  const model = take(file.length), out = take(64);
  bytes(model, file.length).set(file);
  check(c.onebnet_describe(model, file.length, out));
  const [height, width, channels, classes, units, card, cardBytes] = words(out, 7);
  check(c.onebnet_memory(model, file.length, 1, out));
  const memory = words(out, 1)[0], work = take(memory);
  check(c.onebnet_init(work, memory, model, file.length, 1, 0, out));
  const net = words(out, 1)[0], count = height * width * channels;
  const pixels = take(count), logits = take(4 * classes);

  const shape = (unit) => {
    check(c.onebnet_shape(model, file.length, unit, out, out + 4, out + 8));
    return words(out, 3);
  };
  const shapes = Array.from({ length: units }, (_, unit) => shape(unit));
  const signs = take(Math.max(...shapes.map(([h, w, n]) => h * w * n)));

  return {
    height, width, channels, classes, units, shapes, memory,
    card: JSON.parse(new TextDecoder().decode(bytes(card, cardBytes))),
    set: text(c.onebnet_set(net)),
    /* Logits, Float32Array [classes], of pixels 0..255, [height * width * channels]. */
    run(image) {
      bytes(pixels, count).set(image);
      check(c.onebnet_run(net, 0, pixels, count, logits));
      return new Float32Array(c.memory.buffer, logits, classes).slice();
    },
    /* The signs, -1 or +1, that a unit's convolution takes, Int8Array [h * w * channels] of shapes[unit]. */
    look(image, unit) {
      bytes(pixels, count).set(image);
      check(c.onebnet_look(net, pixels, 0, count, unit, signs, 0));
      return new Int8Array(c.memory.buffer, signs, shapes[unit].reduce((a, b) => a * b)).slice();
    },
    /* Milliseconds for one image: the median of 7 means over as many runs as take 5 ms, as clocks here are coarse. */
    time() {
      const mean = (runs) => {
        const start = performance.now();
        for (let i = 0; i < runs; i++) c.onebnet_run(net, 0, pixels, count, logits);
        return (performance.now() - start) / runs;
      };
      let runs = 1;
      while (runs < 64 && mean(runs) * runs < 5) runs *= 2; // some browsers' clocks hardly move
      return Array.from({ length: 7 }, () => mean(runs)).sort((a, b) => a - b)[3];
    },
  };
}
