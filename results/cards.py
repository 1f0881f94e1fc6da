"""Writes results/*/README.md, the model cards of the networks that are kept here: python -m results.cards

A card has the form of Hugging Face's: facts in YAML, then prose. Its figures are read from the files beside it, and
from docs/pictures/measured.json, which docs/measure.py writes.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from onebnet_jax.networks import cost as cost_lib
from onebnet_jax.runs import history, trained

HERE = Path(__file__).parent
ROOT = HERE.parent
MEASURED = ROOT / "docs" / "pictures" / "measured.json"


class Images(NamedTuple):
    """What a card says of the images that a network learned."""

    title: str
    hub: str  # their name on Hugging Face
    shows: str
    licence: str  # see LICENSES.md


DATA = {  # by how the names of the runs begin
    "fashionmnist": Images(
        "FashionMNIST",
        "zalando-datasets/fashion_mnist",
        "small grey pictures of single garments, light on black",
        "MIT",
    ),
}
FIELDS = ("optimizer", "schedule", "learning_rate", "batch_size", "label_smoothing", "weight_decay")

FRONT = """---
license: apache-2.0
library_name: onebnet-jax
pipeline_tag: image-classification
tags: [{tags}]
datasets: [{images.hub}]
metrics: [accuracy]
model-index:
- name: {name}
  results:
  - task: {{type: image-classification}}
    dataset: {{name: {images.title}, type: {images.hub}, split: test}}
    metrics:
    - {{type: accuracy, name: Top-1, value: {share:.4f}}}
---
"""
BODY = """
# {name}

A {title} that tells {classes} classes of {images.title} apart, with {kind}: {names}.

{table}

## Use

In the folder of the clone, with a picture of your own:

```python
{use}```

## Limits

{limits}

## Where it comes from

A run with seed {seed}, described in [results/README.md](../README.md): [config.json](config.json) has its settings, and
`metrics.jsonl` every epoch. Licence of the weights: Apache-2.0; of the images that they learned: {images.licence}
([all licences](../LICENSES.md)).

Written by `python -m results.cards`.
"""
USE_FILE = """import onebnet_jax

(found,) = onebnet_jax.predict("results/{name}/model.onb", ["picture.png"])
print(found.label, found.probability)
"""
USE_CHECKPOINT = """import onebnet_jax
from onebnet_jax.data import augment, photos

trained = onebnet_jax.load("results/{name}")
info, network = trained.info, trained.network()
pixels = photos.decode("picture.png", info.shape[:2], info.shape[2])[None]
logits = network.apply(trained.variables, augment.normalize(pixels, info.mean, info.std))
print(info.class_names[logits.argmax()])
"""


def kept() -> list[Path]:
    """The folders of results/ with a trained network."""
    return sorted(path.parent for path in HERE.glob("*/config.json") if list(path.parent.glob("*/checkpoints/best")))


def text(folder: Path) -> str:
    """The card of the run in a folder."""
    network = trained.load(folder)
    info, structure, scores = network.info, network.structure, network.metrics
    training = network.config[network.origin["stage"]]
    images = next(images for begin, images in DATA.items() if folder.name.startswith(begin))
    binary = sum(unit.binary for unit in structure.units)
    tests = f"{info.test_size:,} test images" if info.test_size else "test images"
    counts = cost_lib.total(cost_lib.layers(structure, info.shape))
    rows = [
        (f"Top-1 on the {tests}, by JAX", f"{scores['top1']:.2f} %"),
        *_of_paper(folder.name),
        *_of_files(folder),
        ("takes", " x ".join(map(str, info.shape)) + " pixels"),
        ("parameters", f"{counts.parameters:,}"),
        ("multiplications for an image", f"{counts.binary_macs:,} of 1 bit, {counts.float_macs:,} in float"),
        ("weights after epoch", f"{scores['epoch']} of {training['epochs']}"),
        ("training images", _of_training(network.config["data"])),
        *((name.replace("_", " "), f"{training[name]}") for name in FIELDS),
    ]
    values = {
        "name": folder.name,
        "title": structure.title,
        "classes": info.num_classes,
        "names": ", ".join(info.class_names),
        "images": images,
        "share": scores["top1"] / 100,
        "tags": ", ".join(["jax", "flax", *(["binarized-neural-network", "larq", "tflite"] if binary else [])]),
        "kind": f"1-bit weights and activations in {binary} convolutions" if binary else "float weights",
        "table": "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)]),
        "use": (USE_FILE if (folder / "model.onb").exists() else USE_CHECKPOINT).format(name=folder.name),
        "limits": "\n".join(
            f"- {sentence}"
            for sentence in _limits(_choice(folder, network), images, binary, training["label_smoothing"])
        ),
        "seed": network.config["seed"],
    }
    return (FRONT + BODY).format(**values)


def _of_training(data: dict) -> str:
    """What was done to the training images."""
    done = ["flipped at random"] if data["flip"] else []
    if pixels := data["crop_padding"]:
        done.append(f"shifted by up to {pixels} pixels")
    return ", ".join(done) or "as they are"


def _of_paper(name: str) -> list[tuple[str, str]]:
    """What the paper's network reaches, by the first sentence of the run's config."""
    config = ROOT / "configs" / f"{name}.py"
    found = config.exists() and re.search(r"(\d+\.\d) % Top-1 \(paper\)", config.read_text())
    return [("the paper's, after 400 epochs", f"{found[1]} %")] if found else []


def _of_files(folder: Path) -> list[tuple[str, str]]:
    """Sizes, time, and how often a file gives the trained network's answer, by the report that `agree` printed."""
    rows, measured = [], json.loads(MEASURED.read_text())
    report = folder / "agreement.txt"
    for name, engine in (("model.onb", "the native engine"), ("model.tflite", "Larq Compute Engine")):
        if (folder / name).exists():
            rows.append((f"`{name}`, for {engine}", f"{(folder / name).stat().st_size:,} bytes"))
    if report.exists():
        for name in ("engine", "LCE"):
            if found := re.search(rf"^{name} .*?(\d+) of (\d+)", report.read_text(), re.MULTILINE):
                same, all_of_them = map(int, found.groups())
                rows.append((f"answers of {name} that are the trained network's", f"{same:,} of {all_of_them:,}"))
    if found := measured.get(folder.name):
        ms, where = found["ms"].get("native engine"), f"one thread of an {found['processor']}"
        rows += [(f"the native engine's time for an image, on {where}", f"{ms:.2f} ms")] if ms else []
    return rows


def _choice(folder: Path, network: trained.Trained) -> str:
    """Of which epoch the kept weights are, and who chose it, by the figures of the run."""
    (run,) = history.read([folder])
    scores, epochs = dict(run.curve("test")), network.stage.epochs
    epoch, best = network.metrics["epoch"], max(scores, key=scores.get)
    if epoch == epochs:
        other = f" `metrics.jsonl` has {scores[best]:.2f} % of epoch {best}: [why that was not kept](../README.md)."
        return f"The weights are those after the last of {epochs} epochs.{other * (best != epoch)}"
    images = "images held out for that" if network.data.validation else "the test images themselves"
    return (
        f"The weights are those after epoch {epoch} of {epochs}, of {len(scores)} scores the best on {images}; after "
        f"the last one Top-1 was {scores[epochs]:.2f} %."
    )


def _limits(choice: str, images: Images, binary: int, smoothing: float) -> list[str]:
    sentences = [
        f"It knows {images.shows}. Whatever else it sees, it answers with one of its classes.",
        f"One seed was trained. {choice} Nobody has looked for bias.",
    ]
    if smoothing:
        sentences.append("It learned smoothed labels, so that it is right more often than its probabilities say.")
    if binary:
        sentences.append(
            "On another processor a sign within float rounding of its threshold may flip, and move an answer."
        )
    return sentences


def main() -> None:
    for folder in kept():
        (folder / "README.md").write_text(text(folder))
        print((folder / "README.md").relative_to(ROOT))


if __name__ == "__main__":
    main()
