/* The page: it shows one image, the network's answer to it, and the signs within one unit. */
const byId = (id) => document.getElementById(id);
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const kib = (bytes) => `${number(bytes / 1024)} KiB`;

let engine;
const shown = { pixels: null, inverted: false, origin: "", truth: "", unit: 0, channel: 0, timing: 0 };

function create(parent, name, text = "") {
  const element = parent.appendChild(document.createElement(name));
  element.textContent = text;
  return element;
}

/* Draws [height][width] values, each as [red, green, blue] by `colour`. */
function draw(canvas, height, width, colour) {
  canvas.height = height;
  canvas.width = width;
  const image = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) image.data.set([...colour(i), 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const drawGrey = (canvas, pixels) => draw(canvas, engine.height, engine.width, (i) => Array(3).fill(pixels[i]));

function drawSigns(canvas, signs, [height, width, channels], channel) {
  const style = getComputedStyle(document.documentElement);
  const [plus, minus] = ["--plus", "--minus"].map((name) =>
    style.getPropertyValue(name).match(/[0-9a-f]{2}/g).map((digits) => parseInt(digits, 16)));
  draw(canvas, height, width, (i) => (signs[i * channels + channel] > 0 ? plus : minus));
}

const imageOf = ({ pixels, inverted }) => (inverted ? pixels.map((value) => 255 - value) : pixels);

function softmax(logits) {
  const powers = logits.map((value) => Math.exp(value - Math.max(...logits)));
  return powers.map((power) => power / powers.reduce((a, b) => a + b));
}

function showAnswer() {
  const image = imageOf(shown), shares = softmax(Array.from(engine.run(image)));
  const best = shares.indexOf(Math.max(...shares)), names = engine.card.classes;
  drawGrey(byId("pixels"), image);
  byId("origin").textContent = shown.origin;
  byId("save").href = byId("pixels").toDataURL("image/png");
  byId("label").textContent = names[best];
  const right = shown.truth === names[best];
  byId("truth").textContent = shown.truth && (right ? "and FashionMNIST agrees" : `but FashionMNIST calls it ${shown.truth}`);
  byId("truth").className = shown.truth && !right ? "missed" : "";
  for (const [i, row] of [...byId("bars").children].entries()) {
    row.className = i === best ? "best" : "";
    row.children[0].style.width = `${100 * shares[i]}%`;
    row.children[1].textContent = `${number(100 * shares[i], 1)} %`;
  }
  showUnit();
  clearTimeout(shown.timing); // the time comes when the answer is on the screen, and only for the newest image
  shown.timing = setTimeout(() => {
    const spent = engine.time();
    byId("time").children[0].textContent = spent ? `${number(spent, 2)} ms` : "too short for this browser's clock";
  }, 50);
}

function showUnit() {
  const { unit } = shown, shape = engine.shapes[unit], [height, width, channels] = shape;
  const signs = engine.look(imageOf(shown), unit), bits = height * width * channels;
  shown.channel = Math.min(shown.channel, channels - 1);
  byId("unit").setAttribute("aria-valuetext", MODEL.units[unit].name);
  byId("unit-name").textContent = `Convolution ${unit + 1} of ${engine.units}: ${MODEL.units[unit].text}`;
  byId("unit-text").textContent = `${MODEL.units[unit].name} takes ${channels} channels of ${height} × ${width} signs: ` +
    `${number(bits)} bits in ${number(bits / 8)} bytes. As 32-bit floats they would take ${number(bits * 4)}.`;
  const group = byId("channels");
  group.style.setProperty("--columns", Math.ceil(Math.sqrt(2 * channels)));
  while (group.children.length > channels) group.lastChild.remove();
  while (group.children.length < channels) {
    const button = create(group, "button"), channel = group.children.length - 1;
    create(button, "canvas");
    button.type = "button";
    button.setAttribute("aria-label", `Channel ${channel + 1}`);
    button.addEventListener("click", () => {
      shown.channel = channel;
      showUnit();
    });
  }
  for (const [channel, button] of [...group.children].entries()) {
    drawSigns(button.firstChild, signs, shape, channel);
    button.setAttribute("aria-pressed", channel === shown.channel);
  }
  drawSigns(byId("large"), signs, shape, shown.channel);
  let above = 0;
  for (let i = shown.channel; i < bits; i += channels) above += signs[i] > 0;
  byId("channel").textContent = `Channel ${shown.channel + 1}: ${number((100 * above) / (height * width))} % above its ` +
    "threshold. Choose another beside it.";
}

function show(pixels, inverted, why, origin, truth = "", pressed = null) {
  Object.assign(shown, { pixels, inverted, origin, truth });
  byId("invert").checked = inverted;
  byId("inverted").textContent = why;
  byId("problem").hidden = true;
  for (const button of byId("samples").children) button.setAttribute("aria-pressed", button === pressed);
  showAnswer();
}

async function showFile(file) {
  try {
    const pixels = await readPicture(file, engine.height, engine.width);
    const light = hasLightBorder(pixels, engine.height, engine.width);
    const why = light ? "The border was light, and the network knows light clothes on black only." : "";
    show(pixels, light, why, `${file.name}, grey, scaled, its centre cut out`);
  } catch (error) {
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
  }
}

function addSample({ label, pixels, missed }) {
  const image = fromBase64(pixels), button = create(byId("samples"), "button");
  button.type = "button";
  button.className = missed ? "missed" : "";
  button.title = missed ? `${label}, which it gets wrong` : label;
  button.setAttribute("aria-label", button.title);
  drawGrey(create(button, "canvas"), image);
  button.addEventListener("click", () => show(image, false, "", "A test image of FashionMNIST", label, button));
}

function fillIn() {
  const { card, height, width } = engine, { epochs } = card.config.train;
  const words = {
    size: kib(MODEL.bytes), units: engine.units, run: MODEL.run, memory: kib(engine.memory),
    network: `${card.network} with ${engine.units} binarized convolutions, trained for ${epochs} epochs`,
    top1: `${number(card.metrics.top1, 2)} % Top-1`,
  };
  for (const [id, text] of Object.entries(words)) byId(id).textContent = text;
  for (const element of document.querySelectorAll(".shape")) element.textContent = `${height} × ${width}`;
  byId("time").children[1].textContent = "per image here, on one thread" + (engine.set === "wasm" ? " with SIMD" : "");
  byId("unit").max = engine.units - 1;
  for (const name of card.classes) {
    const row = create(byId("bars"), "li", name);
    create(row, "i");
    create(row, "span");
  }
  MODEL.samples.forEach(addSample);
}

function listen() {
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files.length) showFile(target.files[0]);
    target.value = ""; // the same file can be chosen again
  });
  byId("invert").addEventListener("change", ({ target }) => {
    shown.inverted = target.checked;
    byId("inverted").textContent = "";
    showAnswer();
  });
  byId("unit").addEventListener("input", ({ target }) => {
    shown.unit = Number(target.value);
    showUnit();
  });
  for (const name of ["dragover", "dragleave", "drop"])
    document.addEventListener(name, (event) => {
      event.preventDefault();
      byId("drop").classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) showFile(event.dataTransfer.files[0]);
    });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showUnit);
}

async function start() {
  engine = await openEngine(fromBase64(MODEL.wasm), fromBase64(MODEL.file));
  fillIn();
  listen();
  byId("samples").lastElementChild.previousElementSibling.previousElementSibling.click();
}

const started = start().catch((error) => {
  byId("problem").textContent = `The network could not be started: ${error.message} A browser from 2023 on is needed.`;
  byId("problem").hidden = false;
});
