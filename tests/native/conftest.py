"""No other room calls the kernels yet. Their tests build them, which takes half a minute: they run with `-m slow`."""

import pytest


def pytest_ignore_collect(collection_path, config):
    return "not slow" in config.option.markexpr or None


def pytest_collection_modifyitems(items):
    for item in items:
        if "native" in item.path.parts:
            item.add_marker(pytest.mark.slow)
