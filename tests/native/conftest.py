"""No other room calls the kernels yet. Their tests build them, which takes half a minute: they run with `-m slow`."""

import pytest

QUICK = ("test_runtime.py", "test_program.py")  # of the engine, which is built in seconds


def pytest_ignore_collect(collection_path, config):
    return ("not slow" in config.option.markexpr and collection_path.name not in QUICK) or None


def pytest_collection_modifyitems(items):
    for item in items:
        if "native" in item.path.parts and item.path.name not in QUICK:
            item.add_marker(pytest.mark.slow)
