"""The card of a converted model: a small JSON file beside it that says what it is and where it comes from."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
from pathlib import Path

import numpy as np

from onebnet_jax import surroundings
from onebnet_jax.data import photos
from onebnet_jax.errors import UserError, local

# What of a card, and of its source, is needed to run the file and to compare it with the network it was made from.
KINDS = dict(sha256=str, source=dict, config=dict, input=dict, classes=list, raw_input=bool, folded=bool)
UNTRAINED_KINDS = dict(seed=int)
RUN_KINDS = dict(workdir=str, stage=str, checkpoint=str, step=int)
PACKAGES = ("jax", "flax", "tensorflow", "tf-keras", "larq", "larq-compute-engine", "numpy")


def make(trained, tflite: bytes, operators: dict[str, int], fold: bool, raw_input: bool) -> dict:
    """The card of a file, JSON values only, by the `Trained` that it was made of, its operators' histogram, and how."""
    info, words = trained.info, "pixels, 0 to 255" if raw_input else "(pixels / 255 - mean) / std"
    taken = {"shape": [1, *info.shape], "dtype": "float32", "range": words}
    before = {"resize": trained.data.resize, "zoom": info.zoom}  # see `photos.decode`
    return {
        "sha256": hashlib.sha256(tflite).hexdigest(),
        "bytes": len(tflite),
        "mib": round(len(tflite) / 2**20, 3),
        "source": trained.origin,
        "metrics": trained.metrics,
        "notes": trained.notes,
        "input": taken | {"mean": list(info.mean), "std": list(info.std)} | before,
        "classes": list(info.class_names),
        "folded": fold,
        "raw_input": raw_input,
        "operators": operators,
        "network": trained.structure.title,
        "structure": dict(trained.structure.recipe),
        "binarization": dataclasses.asdict(trained.binarization),
        "config": trained.config,
        "versions": {"python": platform.python_version(), **{name: surroundings.version(name) for name in PACKAGES}},
    }


def normalize(pixels: np.ndarray, mean, std) -> np.ndarray:
    """Pixels 0..255 as the network takes them, as `augment.normalize` does it: float32 [N, H, W, C]."""
    return (pixels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)


def taken(pixels: np.ndarray, mean, std, raw_input: bool) -> np.ndarray:
    """Pixels 0..255 as a .tflite file takes them: float32 [N, H, W, C]."""
    return pixels.astype(np.float32) if raw_input else normalize(pixels, mean, std)


def pixels(path: Path, facts: dict) -> np.ndarray:
    """An image file of any size and format as pixels 0..255 of the size that the file of a card takes: uint8 [H, W, C].

    Resized as the test images of training were. Raises UserError, with the path, for a file that is no such image.
    """
    taken = facts["input"]
    try:
        _, *size, channels = taken["shape"]
        return photos.decode(path, size, channels, taken.get("resize", "crop"), taken.get("zoom", 1.0))
    except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        raise UserError(
            f"{path} is no image that can be read: {' '.join(str(error).split())[:200].rstrip('.')}."
        ) from error


def path_of(model: Path) -> Path:
    return model.with_suffix(".json")


def load(path: Path) -> dict:
    """A card by itself. Raises UserError if there is none, or something else."""
    content = read_bytes(path)
    try:
        card = json.loads(content)
        kinds = KINDS | (UNTRAINED_KINDS if "untrained" in card["source"] else RUN_KINDS)
        wrong = [name for name, kind in kinds.items() if type({**card, **card["source"]}.get(name)) is not kind]
        if wrong:
            raise ValueError(f"{wrong[0]} is missing or of another type than {kinds[wrong[0]].__name__}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not the card of a converted model: {error}.") from error
    return card


def read(model: Path) -> tuple[bytes, dict]:
    """A converted file and its card. Raises UserError if one is missing or they do not belong together."""
    tflite, card = read_bytes(model), load(path_of(model))
    if hashlib.sha256(tflite).hexdigest() != card["sha256"]:
        raise UserError(f"{model} is not the file that {path_of(model)} describes: copy both again, or convert anew.")
    if (folder := workdir_of(card)) is not None:
        card["source"]["workdir"] = os.path.normpath(model.parent / folder)
    return tflite, card


def read_bytes(path: Path) -> bytes:
    """What a file holds. Raises UserError if it cannot be read."""
    local("The file", path)
    try:
        return path.read_bytes()
    except OSError as error:
        remedy = "; `onebnet convert` makes a model and its card" if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{path}: {error.strerror}{remedy}.") from error


def check_place(model: Path) -> None:
    """Raises UserError, before the work, if a model and its card cannot be written, or something is in their place."""
    check_writable(model, ".tflite")
    check_writable(path_of(model), ".json", "sha256")


def check_writable(path: Path, suffix: str, field: str = "") -> None:
    """Raises UserError if a file is not named *suffix, cannot be written, or is there and not JSON with `field`."""
    local("The file", path)
    if path.suffix != suffix:
        raise UserError(f"{path} must end in {suffix}.")
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder; choose another name.")
    try:
        _partial(path).touch()
        _partial(path).unlink()
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error
    ours = not (field and path.exists())
    with contextlib.suppress(OSError, ValueError, RecursionError, TypeError):
        ours = ours or field in json.loads(path.read_bytes())
    if not ours:
        raise UserError(f"{path} is there and holds something else, which would be lost; choose another name.")


def workdir_of(card: dict) -> str | None:
    """The work directory that a card names, if it lies on this machine and not in a bucket."""
    workdir = card.get("source", {}).get("workdir")
    return None if surroundings.in_bucket(workdir) else workdir


def write(model: Path, tflite: bytes, card: dict) -> None:
    """Writes a file and its card, both or neither. Raises UserError if that fails or something is in their place.

    On disk the card names the work directory as seen from its own folder, so that both can be moved together.
    """
    check_place(model)
    if (folder := workdir_of(card)) is not None:
        card = card | {"source": card["source"] | {"workdir": os.path.relpath(folder, model.parent)}}
    # The card first: no file is without one, and a card that is not of the file is found out by `read`.
    save({path_of(model): card, model: tflite})


def save(contents: dict[Path, bytes | dict]) -> None:
    """Writes files, a dict as JSON; none takes its name before all are complete. Raises UserError if that fails.

    A link stays one. What is no file, such as a pipe, is written to at once.
    """
    try:
        for path, content in contents.items():
            content = content if isinstance(content, bytes) else (json.dumps(content, indent=2) + "\n").encode()
            (path if path.exists() and not path.is_file() else _partial(path)).write_bytes(content)
        for path in contents:
            if _partial(path).exists():
                _partial(path).replace(os.path.realpath(path))
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        for path in contents:
            _partial(path).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    path = Path(os.path.realpath(path))  # beside the file that a link leads to
    return path.with_name(f".{path.name}.{os.getpid()}.part")
