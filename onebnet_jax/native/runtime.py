"""The native engine in Python: loads a file that `onebnet convert --native` wrote, and runs it on NumPy images."""

import ctypes
import functools
import json
import os
import pathlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.native import build

SOURCES = pathlib.Path(__file__).parent / "engine"
# No contraction: every multiply-add that is fused is written so, that all instruction sets give the same bits.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-Wall", "-Wextra"]
PROGRAM = "program.c"  # has a main, the library has not
SETS = ("avx512", "avx2", "neon", "plain")


def sources() -> list[pathlib.Path]:
    """Of the library."""
    return sorted(path for path in SOURCES.glob("*.c") if path.name != PROGRAM)


def compiler() -> list[str]:
    """The command of the C compiler, $CC or cc, gcc, clang. Raises BuildError where there is none."""
    return build.compiler("CC", ("cc", "gcc", "clang"))


def built() -> pathlib.Path:
    """The library's file, compiled at the first call on a machine. Raises BuildError where that fails."""

    def make(folder: pathlib.Path) -> pathlib.Path:
        build.run([*compiler(), *FLAGS, "-shared", *map(str, sources()), "-lm", "-o", str(folder / "built")])
        return folder / "built"

    return build.kept(build.named("engine", SOURCES, FLAGS), make)


@functools.cache
def library() -> ctypes.CDLL:
    """The engine. Raises UserError where it is not built and cannot be."""
    try:
        loaded = ctypes.CDLL(str(built()))
    except (build.BuildError, OSError) as error:
        raise UserError(f"The native engine is not there: {error}.") from error
    loaded.onebnet_error.restype = loaded.onebnet_set.restype = loaded.onebnet_version.restype = ctypes.c_char_p
    return loaded


class _Info(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("height", "width", "channels", "classes", "units")),
        ("card", ctypes.c_void_p),
        ("card_bytes", ctypes.c_size_t),
    ]


class Engine:
    """A network in a file, ready to run. One call at a time; others wait.

    card: the file's, JSON values. shape: (H, W, C) of an image. classes, units: how many, without the first
    convolution.
    """

    def __init__(self, model: str | pathlib.Path | bytes, threads: int = 1, instruction_set: str | None = None):
        """Reads a file, or its bytes.

        threads: how many images run side by side, and how many threads share one image if there is only one.
        instruction_set: which to hold to, see the property; None for the best. Raises UserError for files that cannot
        be read or are broken, for threads that are not 1 to 64, and for an instruction set that is not there.
        """
        self._name = "The model" if isinstance(model, bytes) else str(model)
        self._file, self._threads, self._set = _aligned(model), threads, instruction_set
        self._lock, self._pool, self._nets = threading.Lock(), ThreadPoolExecutor(max(threads, 1)), {}
        info = _Info()
        self._try(library().onebnet_describe(*self._content, ctypes.byref(info)))
        self.shape, self.classes, self.units = (info.height, info.width, info.channels), info.classes, info.units
        self.memory(threads)  # raises for a number that cannot be
        self._net(1, 0)  # looks at the checksum
        try:
            self.card = dict(json.loads(ctypes.string_at(info.card, info.card_bytes).decode(errors="surrogateescape")))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{self._name}: its card is none: {error}; convert the network again.") from error

    @property
    def instruction_set(self) -> str:
        """The one that is used: "avx512", "avx2", "neon" or "plain"."""
        return library().onebnet_set(self._net(1, 0)).decode()

    def memory(self, threads: int = 1) -> int:
        """Bytes that it works in beside the file, for so many threads within one image."""
        needed = ctypes.c_size_t()
        self._try(library().onebnet_memory(*self._content, threads, ctypes.byref(needed)))
        return needed.value

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 [N, classes], of images [N, H, W, C]: uint8 pixels, or float32 as the card's "input" says.

        Raises UserError for images of another shape or type, or with numbers that are not finite.
        """
        images = self._images(images)
        logits = np.empty((len(images), self.classes), np.float32)
        with self._lock:
            if len(images) == 1 and self._threads > 1:
                net = self._net(self._threads, 0)
                jobs = [(net, thread, images, logits) for thread in range(self._threads)]
            else:
                edges = [len(images) * k // self._threads for k in range(self._threads + 1)]
                parts = [slice(*edge) for edge in zip(edges, edges[1:])]
                jobs = [(self._net(1, k), 0, images[part], logits[part]) for k, part in enumerate(parts)]
            if len(jobs) == 1:
                self._run(*jobs[0])
            else:
                list(self._pool.map(self._run, *zip(*jobs)))
        return logits

    def look(self, image: np.ndarray, unit: int, signs: bool = True, values: bool = True) -> tuple:
        """What unit number `unit` takes of an image [H, W, C]: (its signs, int8, and the floats), [h, w, c] each.

        Either is None if not asked for. Unit number `units` has the last map, and no signs. Raises UserError for
        another unit, or floats that the engine does not keep.
        """
        image = self._images(image[None])
        shape = (ctypes.c_int * 3)()
        places = (ctypes.byref(shape, 4 * k) for k in range(3))
        self._try(library().onebnet_shape(*self._content, unit, *places))
        kinds = (signs, np.int8), (values, np.float32)
        taken = [np.empty(tuple(shape), kind) if asked else None for asked, kind in kinds]
        images = [_pointer(image) if image.dtype == kind else None for kind in (np.uint8, np.float32)]
        pointers = [None if array is None else _pointer(array) for array in taken]
        with self._lock:
            size = ctypes.c_size_t(image.size)
            self._try(library().onebnet_look(self._net(1, 0), *images, size, unit, *pointers))
        return tuple(taken)

    @property
    def _content(self):
        return _pointer(self._file), ctypes.c_size_t(self._file.nbytes)

    def _net(self, threads: int, number: int) -> ctypes.c_void_p:
        """A net for so many threads within an image; the number tells those of different images apart."""
        if (threads, number) not in self._nets:
            memory, net = np.empty(self.memory(threads), np.uint8), ctypes.c_void_p()
            name = self._set and self._set.encode()
            size = ctypes.c_size_t(memory.nbytes)
            self._try(library().onebnet_init(_pointer(memory), size, *self._content, threads, name, ctypes.byref(net)))
            self._nets[threads, number] = net, memory
        return self._nets[threads, number][0]

    def _run(self, net, thread: int, images: np.ndarray, logits: np.ndarray) -> None:
        run = library().onebnet_run if images.dtype == np.uint8 else library().onebnet_run_float
        size = ctypes.c_size_t(images[0].size if len(images) else 0)
        for image, out in zip(images, logits):
            self._try(run(net, thread, _pointer(image), size, _pointer(out)))

    def _images(self, images) -> np.ndarray:
        images = np.ascontiguousarray(images)
        if images.dtype not in (np.uint8, np.float32) or images.shape[1:] != self.shape:
            wanted = f"uint8 or float32 images [N, {str(self.shape)[1:-1]}]"
            raise UserError(f"{self._name} takes {wanted}, not {images.dtype} {images.shape}.")
        if images.dtype == np.float32 and not np.isfinite(images).all():  # the sign of NaN would be an answer
            raise UserError(f"{self._name} takes finite numbers, and these images have NaN or infinity.")
        return images

    def _try(self, code: int) -> None:
        if code:
            raise UserError(f"{self._name}: {library().onebnet_error(code).decode()}.")


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _aligned(model) -> np.ndarray:
    """The bytes of a file at a multiple of 64."""
    try:
        content = np.frombuffer(
            model if isinstance(model, bytes) else pathlib.Path(os.path.expanduser(model)).read_bytes(), np.uint8
        )
    except OSError as error:
        remedy = "; `onebnet convert --native` makes such files" if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{model}: {error.strerror}{remedy}.") from error
    space = np.empty(content.size + 64, np.uint8)
    start = -space.ctypes.data % 64
    space[start : start + content.size] = content
    return space[start : start + content.size]


if __name__ == "__main__":
    try:
        print(f"native engine: {library()._name}")
    except UserError as error:
        print(error, file=sys.stderr)
