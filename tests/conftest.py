"""For every test: four fake CPU devices, and the same examples from hypothesis in every run."""

import os
import signal

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"  # before JAX

from onebnet_jax import surroundings  # noqa: E402

surroundings.spare_ynnpack()  # as every command does: the same program in the tests' process and in those they start

import hypothesis  # noqa: E402
import jax  # noqa: E402
import precision  # noqa: E402
import pytest  # noqa: E402

# A shell that runs the tests in the background has it ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "onebnet",
    deadline=None,  # the first call for each shape compiles
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # those here hold for all examples
)
hypothesis.settings.load_profile("onebnet")


# What takes longest, longest first: begun last, one process would work on it while the others have nothing left to do.
LONG = (
    "training/test_hosts.py",
    "training/test_run.py",
    "system/test_faults.py",
    "runs/test_configs.py",
    "networks/test_network.py",
    "system/test_readme.py",
    "system/test_whole_way.py",
    "training/test_steps.py",
    "training/test_resume.py",
)


def pytest_collection_modifyitems(items):
    order = {f"tests/{name}": index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.fixture(scope="module")
def quick_compilation():
    """Half the time to compile, for code that runs slower: for modules that compile much and run it once or twice."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # no other test gets code compiled here, which may round differently


@pytest.fixture(scope="module")
def tiny():
    """All networks of a single convolution; training calls the devices for 1, 2, 2, ... steps."""
    from small_runs import TINY, cached_compilation

    from onebnet_jax.networks import families
    from onebnet_jax.training import stage

    with pytest.MonkeyPatch.context() as patched, cached_compilation():
        patched.setattr(families, "FAMILIES", TINY)
        patched.setattr(stage, "DISPATCH_SECONDS", 0.0)
        yield


@pytest.fixture
def float64():
    """64-bit types, within the test alone."""
    with precision.x64():
        yield


@pytest.fixture
def any_numpy(monkeypatch):
    """Has `agree` go on beside a NumPy that LCE cannot use, as far as it needs no LCE."""
    from onebnet_jax.commands import agree

    monkeypatch.setattr(agree, "check_numpy", lambda: None)
