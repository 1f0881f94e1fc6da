"""A network with its variables, wherever they come from: the one thing that is evaluated, converted, or teaches."""

import dataclasses
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from onebnet_jax import surroundings
from onebnet_jax.data.catalog import DATASETS, Info
from onebnet_jax.errors import UserError
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.networks.structure import Binarization, Structure
from onebnet_jax.runs import bucket, checkpoint
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.experiment import AUGMENTATION, Data, Stage
from onebnet_jax.runs.workdir import read_photos

KINDS = ("activations", "weights")  # of what is binarized, in `Binarization`
TERMS = "terms.txt"  # in a work directory: what limits the use of its network, and of all that begin with it


@dataclasses.dataclass(frozen=True, repr=False)
class Trained:
    """A network with its variables."""

    structure: Structure
    binarization: Binarization
    variables: dict  # {"params", "batch_stats"}, NumPy arrays
    data: Data  # the data set that it is for
    stage: Stage  # the last of its training
    # Of the variables: workdir, stage, checkpoint and step, and of a folder its photos; or untrained and seed.
    origin: dict
    metrics: dict  # the newest evaluation before the checkpoint: epoch, top1, top5, loss; empty if there was none
    config: dict  # of its run, as JSON values
    terms: str = ""  # what limits its use, in words; "" for nothing known

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.describe()}>"  # without a million weights

    @property
    def info(self) -> Info:
        """What is known of the data set, with the shape that its images have here."""
        return self.data.info

    def network(self, axis_name: str | None = None) -> Network:
        """The Flax module whose variables these are."""
        return Network(self.structure, self.binarization, axis_name, jnp.dtype(self.config["model"]["dtype"]))

    @property
    def title(self) -> str:
        """Where it comes from, in words."""
        if "workdir" in self.origin:
            return "{workdir} (stage {stage}, {checkpoint} checkpoint, step {step})".format(**self.origin)
        return f"an untrained network (random parameters, seed {self.origin['seed']})"

    def describe(self) -> str:
        """What it is, how far its training had come, and its last score then, in words."""
        words = self.structure.title
        if self.structure.binary:
            words += "".join(f", {'float' if kind in self._floats else 'binarized'} {kind}" for kind in KINDS)
        stages, step = self.config["stages"], self.origin.get("step", 0)
        words += f", stage {self.stage.name} ({stages.index(self.stage.name) + 1} of {len(stages)}), step {step}"
        if not self.metrics:
            return f"{words}, not evaluated in training"
        words += f", test Top-1 {self.metrics['top1']:.2f} % after epoch {self.metrics['epoch']} of {self.stage.epochs}"
        if self.origin["checkpoint"] != checkpoint.BEST:
            return words
        validated = self.metrics.get("validation_top1")
        how = "test images" if validated is None else f"validation images (Top-1 {validated:.2f} %)"
        return f"{words}, the best, chosen on {how}"

    @property
    def _floats(self) -> list[str]:
        """What is not binarized."""
        return [kind for kind in KINDS if not (self.structure.binary and getattr(self.binarization, kind))]

    @property
    def notes(self) -> list[str]:
        """What a user of a converted file would not expect of a binarized network, its measured Top-1, or its use."""
        result = []
        if self._floats:
            result.append(f"no convolution is binarized: it has float {' and '.join(self._floats)}")
        if (dtype := self.config["model"]["dtype"]) != "float32":
            result.append(f"trained in {dtype}, in which its Top-1 was measured too; the file computes in float32")
        return [*result, self.terms] if self.terms else result

    def of_other_photos(self, photos: dict | None) -> str:
        """What one must know of a score on photos, see `folder.Found`, unlike those of its run; "" for nothing."""
        if photos == (began := self.origin.get("photos")):
            return ""
        other = f"began with {began['number']} photos, where {photos['number']} are now" if began else ""
        fault = f"this run {other or 'has no record of the photos that it began with'}"
        return f"{fault}; those for testing should be none that it has learned from"

    def with_data(self, overrides: Sequence[str]) -> "Trained":
        """The same network, with overrides such as "--config.data.dir=FOLDER" of where its images are.

        Raises UserError for overrides of anything else, and for images unlike those of training.
        """
        if others := [word for word in overrides if not word.startswith("--config.data.")]:
            raise UserError(f"{others[0]!r} is not an option; of the run's config, only --config.data.* can be set.")
        of_training = rf"--config\.data\.({'|'.join(AUGMENTATION)}|lighting)\b"
        if unused := [word for word in overrides if re.match(of_training, word)]:
            raise UserError(f"{unused[0]!r} would have no effect: only training changes images.")
        config, info = config_lib.from_json(json.dumps(self.config), "The network's config"), self.info
        # Of which only a folder makes use: its classes are the network's, by name.
        config.data.update(classes=info.class_names, mean=info.mean, std=info.std, image_size=info.shape[0])
        config = config_lib.override(config, overrides)
        moved = dataclasses.replace(self, data=config_lib.experiment(config).data)
        check_same_images(moved.data, self, "The network")
        for field, words in (("shape", "takes images of"), ("class_names", "was trained on the classes")):
            mine, its = getattr(moved.info, field), getattr(info, field)
            if mine != its:
                raise UserError(f"The network {words} {its}, not of {mine}.")
        return moved

    def with_order_of(self, classes: Sequence[str]) -> "Trained":
        """The same network with its logits in the order of `classes`; as it is where it has not just these names."""
        names = self.info.class_names
        if tuple(classes) == names or set(classes) != set(names):
            return self
        order = [names.index(name) for name in classes]
        params = self.variables["params"]
        head = {name: values[..., order] for name, values in params["head"].items()}
        return dataclasses.replace(self, variables=self.variables | {"params": params | {"head": head}})

    def body(self) -> dict:
        """The variables without those of the head."""
        params = {name: values for name, values in self.variables["params"].items() if name != "head"}
        return self.variables | {"params": params}


def score(metrics: dict, best: bool) -> str:
    """An evaluation in words; best: of the `best` checkpoint, which was chosen by it."""
    names = {"validation_top1": "validation Top-1", "top1": "test Top-1"}
    scores = [f"{words} {metrics[name]:.2f} %" for name, words in names.items() if name in metrics]
    on_test = " (chosen on the test images)" if best and len(scores) == 1 else ""
    return ", ".join([f"epoch {metrics['epoch']}", *scores]) + on_test


def load(workdir: str | Path, which: str = checkpoint.BEST, stage: str | None = None, otherwise: str = "") -> Trained:
    """The network that a run has kept in its folder `workdir`, which may be gs://BUCKET/DIR.

    which: "best", the checkpoint with the highest Top-1 on validation images, or on test images where there are none;
    or "last"; `otherwise` where that is not there. stage: one of the run's stages, None for the latest that has a
    checkpoint. Changes nothing on disk, so the run may be going on. Raises UserError if there is no such checkpoint, or
    it does not fit its config.
    """
    if which not in (checkpoint.BEST, checkpoint.LAST):
        raise UserError(f"which={which!r} must be 'best' or 'last'; a stage of the run is named by stage=.")
    kinds = [which, otherwise] if otherwise else [which]
    pattern = rf"(config|photos)\.json|{re.escape(TERMS)}|[^/]+/checkpoints/({'|'.join(kinds)})/.*"
    with bucket.copied(workdir, pattern) as folder:
        return _load(folder, workdir if surroundings.in_bucket(workdir) else folder, kinds, stage)


def _load(folder: Path, workdir: str | Path, kinds: Sequence[str], stage: str | None) -> Trained:
    """The same from a folder here; workdir: what it is called."""
    config = config_lib.load_json(folder / "config.json")
    if stage not in (None, *config.stages):
        raise UserError(f"{workdir} has no stage {stage!r}; its stages are {', '.join(config.stages)}.")
    for name, kind in itertools.product([stage] if stage else reversed(config.stages), kinds):
        if restored := checkpoint.read(folder / name, kind):
            step, tree, info = restored
            origin = {"workdir": str(workdir), "stage": name, "checkpoint": kind, "step": step}
            if photos := read_photos(folder):
                origin["photos"] = photos[-1]
            variables = {"params": tree["params"], "batch_stats": tree["batch_stats"]}
            trained = _of_config(config, name, variables, origin, info.get("result", info))
            shapes = variable_shapes(trained.network(), trained.info.shape)
            check_same_tree(variables, shapes, f"The checkpoint in {workdir}", "its config.json")
            terms = (folder / TERMS).read_text().strip() if (folder / TERMS).exists() else ""
            return dataclasses.replace(trained, terms=terms)
    where = f" of stage {stage}" if stage else ""
    raise UserError(f"{workdir} has no {kinds[0]!r} checkpoint{where} yet; train first, or choose another.")


def untrained(config: ConfigDict) -> Trained:
    """The network of a config with random variables, drawn with the config's seed: to convert and time a structure."""
    run, seed = config_lib.experiment(config), config.seed
    variables = random_variables(run.structure, run.data.info.shape, seed)
    return _of_config(config, config.stages[-1], variables, {"untrained": True, "seed": seed}, {})


def from_origin(origin: dict, config: dict) -> Trained:
    """The network that a card names. Raises UserError if it is there no more, or a run of another config."""
    if "workdir" not in origin:
        return untrained(config_lib.from_json(json.dumps(config), "The config in the model's card"))
    found = load(origin["workdir"], origin["checkpoint"], origin["stage"])
    if found.origin["step"] != origin["step"]:
        raise UserError(f"{found.title} is not that of step {origin['step']}, which was converted: convert it again.")
    mine, its = (config_lib.flat(ConfigDict(each)) for each in (config, found.config))
    of_network = re.compile(r"seed|model\..*|data\.(name|image_size|classes)")
    for name, value in mine.items():
        if of_network.fullmatch(name) and its.get(name, value) != value:
            raise UserError(f"{found.title} has {name}={its[name]}, and the network that was converted {value}.")
    return found


def _of_config(config: ConfigDict, stage: str, variables: dict, origin: dict, metrics: dict) -> Trained:
    run = config_lib.experiment(config)
    asked, fields = run.stages[config.stages.index(stage)], json.loads(config.to_json())
    return Trained(run.structure, asked.binarization, variables, run.data, asked, origin, metrics, fields)


def random_variables(structure: Structure, image_shape: tuple[int, int, int], seed: int = 0) -> dict:
    """{"params", "batch_stats"} of a network as NumPy arrays, all random: a converter drops additions of zeros.

    Kernels are He normal, and all else spreads around its usual size: activations neither vanish nor grow.
    """
    tree = variable_shapes(Network(structure), image_shape)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name, values = path[-1].key, rng.standard_normal(leaf.shape)
        if name == "kernel":
            values *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif name == "var":
            values = np.exp(values / 4)
        else:
            values = {"scale": 1.0, "beta": 0.25}.get(name, 0.0) + 0.25 * values
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)


def check_same_images(data: Data, trained: Trained, name: str) -> None:
    """Raises UserError if a network was trained on images, or on classes, that are unlike those of a data set."""
    for field in ("shape", "class_names", "num_classes", "mean", "std"):
        mine, its = (getattr(of.info, field) for of in (data, trained.data))
        if field == "shape":  # of the data set itself: the size of its images here is free
            mine, its = (DATASETS[of.name].shape for of in (data, trained.data))
            if not all(mine) or not all(its):
                mine, its = (of.info.shape[2:] for of in (data, trained.data))
        if field == "class_names" and (sorted(mine) == sorted(its) or not (mine and its)):
            continue
        if mine != its:
            remedy = f" (data.{field} sets it)" if field in config_lib.MEASURED and data.name == "folder" else ""
            words = {"class_names": "classes", "num_classes": "classes"}.get(field, field)
            words = "numbers of channels" if field == "shape" and len(mine) == 1 else words
            raise UserError(f"{name} was trained on images of other {words}: {its}, not {mine}{remedy}.")


def check_same_tree(variables: dict, like: dict, source: str, user: str) -> dict:
    """The variables, if they have exactly the names and shapes of `like`; raises UserError otherwise."""

    def shapes(tree):
        return {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(tree)}

    if differing := sorted(shapes(variables).items() ^ shapes(like).items()):
        raise UserError(f"{source} has other parameters than {user} needs, first {differing[0][0]}.")
    return variables
