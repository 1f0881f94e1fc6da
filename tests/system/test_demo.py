"""The demo page: made of the sources that lie here, and in a browser it gives the native library's answers."""

import base64
import http.server
import io
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import threading

import engines
import numpy as np
import pytest
from PIL import Image

from launch.demo import build
from onebnet_jax.data import photos
from onebnet_jax.export import native
from onebnet_jax.native.runtime import Engine
from onebnet_jax.runs import trained

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# Sends to the test what the page computes of its samples, and of pictures given as base64.
PROGRAM = """
started.then(async () => {
  const images = MODEL.samples.map(({ pixels }) => fromBase64(pixels));
  for (const picture of PICTURES)
    images.push(await readPicture(new Blob([fromBase64(picture)]), engine.height, engine.width));
  return images.map((image) => ({
    pixels: Array.from(image),
    logits: Array.from(engine.run(image)),
    signs: UNITS.map((unit) => Array.from(engine.look(image, unit))),
  }));
}).catch((error) => error.stack).then((found) =>
  fetch(ADDRESS, { method: "POST", mode: "no-cors", body: JSON.stringify(found) }));
"""
UNITS = [0, 8, 19]


def pictures() -> list[Image.Image]:
    """Large, tall, tiny and of odd sizes, in colours, grey, with a palette, and transparent here and there."""
    rng, result = np.random.default_rng(0), []
    for height, width in [(300, 437), (1000, 61), (5, 9), (28, 28), (57, 56), (28, 41), (90, 90)]:
        coarse = Image.fromarray(rng.integers(0, 256, (7, 5, 3), np.uint8)).resize((width, height), Image.BICUBIC)
        noise = rng.integers(-40, 40, (height, width, 3))
        result.append(Image.fromarray(np.uint8(np.clip(np.asarray(coarse) + noise, 0, 255))))
    result[-3], result[-2] = result[-3].convert("L"), result[-2].convert("P")
    result[-1].putalpha(Image.fromarray(np.uint8(rng.integers(0, 2, (90, 90)) * 255)))
    return result


def answer_of(page: pathlib.Path, script: str) -> object:
    """What a script in a page sends to ADDRESS, JSON values."""
    found = queue.Queue()

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        script = f"const ADDRESS = 'http://127.0.0.1:{server.server_port}';\n{script}"
        page.write_text(build.PAGE.read_text().replace("</body>", f"<script>{script}</script></body>"))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        command = [BROWSER, *options, f"--user-data-dir={page.parent}/profile", page.as_uri()]
        silent = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        browser = subprocess.Popen(command, **silent, start_new_session=True)
        try:
            return found.get(timeout=300)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            server.shutdown()


def test_the_page_is_made_of_its_sources():
    text = build.PAGE.read_text()
    assert build.page(build.model(text)) == text, "build it again: python -m launch.demo.build"
    assert len(text) < 600_000
    assert set(re.findall(r"""(?:src|href)=["']([^"']+)|https?://([\w.]+)""", text)) <= {("", "tech.zalando.com")}


@engines.needs_engine
@pytest.mark.skipif(BROWSER is None, reason="there is no chromium (apt install chromium)")
def test_a_browser_gives_the_native_librarys_answers(tmp_path):
    files = []
    for picture in pictures():
        picture.save(buffer := io.BytesIO(), "PNG")
        files.append(buffer)
    given = {"PICTURES": [base64.b64encode(file.getvalue()).decode() for file in files], "UNITS": UNITS}
    script = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items()) + PROGRAM
    images = answer_of(tmp_path / "page.html", script)
    assert isinstance(images, list), images

    pixels = np.uint8([image["pixels"] for image in images]).reshape(-1, 28, 28, 1)
    # Pillow rounds after each direction, of which it takes now this first, now that, by size and release.
    by_pillow = np.int16([photos.decode(file, (28, 28), 1) for file in files])
    np.testing.assert_allclose(pixels[-len(files) :], by_pillow, rtol=0, atol=1)
    engine = Engine(native.pack(*native.convert(trained.load(build.ROOT / build.RUN))), instruction_set="plain")
    np.testing.assert_array_equal(np.float32([image["logits"] for image in images]), engine.logits(pixels))
    for image, values in zip(images, pixels):
        for unit, signs in zip(UNITS, image["signs"]):
            np.testing.assert_array_equal(signs, engine.look(values, unit, values=False)[0].ravel())
