"""What `import onebnet_jax` offers besides classes: each function takes what a user has and calls the rooms below."""

from collections.abc import Mapping
from pathlib import Path

from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost as cost_lib
from onebnet_jax.networks.cost import Cost
from onebnet_jax.networks.structure import Shape, Structure
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import mirror
from onebnet_jax.runs import trained as trained_lib
from onebnet_jax.runs.trained import Trained
from onebnet_jax.runs.workdir import Workdir
from onebnet_jax.training import run


def train(config: str, workdir: str | Path, fields: Mapping[str, object] | None = None) -> Trained:
    """Trains the network of a config, or goes on training it, and returns what its last checkpoint holds.

    config: a file, or the name of a config that comes with the package, such as "quickstart". workdir: the run's
    folder, or gs://BUCKET/DIR; the same call on the same folder goes on where it was stopped. fields: what to change in
    the config, such as {"train.epochs": 2}. Raises UserError for fields that cannot be, data that is missing, and a
    folder of another run.
    """
    loaded = config_lib.load(config, _overrides(fields), workdir)
    with mirror.mirrored(workdir) as (folder, overtaken):
        run.train(config_lib.experiment(loaded), Workdir(folder, loaded, code=config_lib.own_code(config)), overtaken)
    return trained_lib.load(workdir, "last")


def evaluate(trained: Trained, fields: Mapping[str, object] | None = None, bn_batches: int = 0) -> dict[str, float]:
    """Scores a network on all test images of its data set: {"loss", "top1", "top5"}, accuracies in percent.

    fields: where its images are now, such as {"data.dir": "photos"}. bn_batches: so many batches of training images
    first bring the averages of batch normalization up to date; 40 are enough, 0 leaves them as they are. Raises
    UserError for images that are missing, and for more batches than an epoch has.
    """
    return run.evaluate(trained.with_data(_overrides(fields)), bn_batches)


def untrained(config: str, fields: Mapping[str, object] | None = None) -> Trained:
    """The network of a config with random variables: to convert and time a structure before it is trained.

    Arguments and UserError as in `train`.
    """
    return trained_lib.untrained(config_lib.load(config, _overrides(fields)))


def cost(structure: Structure, image_shape: Shape, folded: bool = False) -> Cost:
    """Parameters, multiply-accumulates and storage of a network, for one image.

    image_shape: (H, W, C). folded: as it is deployed, with batch normalization and biases folded into fewer constants.
    """
    return cost_lib.total(cost_lib.layers(structure, image_shape, folded=folded))


def _overrides(fields: Mapping[str, object] | None) -> list[str]:
    """Fields as the command line has them. Raises UserError for what is no dictionary of values."""
    fields = fields or {}
    if not isinstance(fields, Mapping):
        raise UserError(f"fields={fields!r} must be a dictionary, such as {{'train.epochs': 2}}.")
    if none := [name for name, value in fields.items() if value is None]:
        raise UserError(f"The field {none[0]} is None, which is no value; leave it out.")
    return [f"--config.{name}={value}" for name, value in fields.items()]
