"""Networks, and the program onebnet-run that runs them."""

import fcntl
import platform

import dyadic
import engines
import numpy as np
import pytest
from programs import HERE, SHAPE, build

from onebnet_jax.native import runtime


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with networks in 0.onb to 5.onb and images of them in 0.raw to 2.raw."""
    folder = tmp_path_factory.mktemp("program")
    kinds = [
        ("onebnet", dict(stem="imagenet", conv_1d=(16,), ds_1d=(32,))),
        ("xnornet", dict(stem="cifar", pad_value=1)),
        ("birealnet", dict(stem="imagenet", pad_value=0)),
        ("onebnet", dict(stem="cifar", ds_1d=(32, 64), pad_value=0)),
        ("realtobin", dict(stem="imagenet")),
        ("reactnet_a", dict(stem="cifar", width_multiplier=1.0)),
    ]
    for number, (family, fields) in enumerate(kinds):
        structure = dyadic.structure(family, **dict(width_multiplier=0.6, num_classes=37) | fields)
        file, _ = engines.random_plan(structure, SHAPE, folded=number % 2 == 0)
        (folder / f"{number}.onb").write_bytes(file)
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)):
        (folder / f"{number}.raw").write_bytes(image.tobytes())
    return folder


@pytest.fixture(scope="session")
def program(tmp_path_factory, worker_id):
    """Built once, for all processes that run tests: it takes as long as all its tests."""
    if not HERE:
        pytest.skip(f"launch/onebnet_run.sh has no build for {platform.machine()}")
    folder = tmp_path_factory.getbasetemp()
    folder = folder if worker_id == "master" else folder.parent
    with open(folder / "onebnet-run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = folder / f"onebnet-run-{HERE}"
        return built if built.exists() else build(folder, HERE, **{f"CC_{HERE}": " ".join(runtime.compiler())})
