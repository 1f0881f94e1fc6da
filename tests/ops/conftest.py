import jax
import pytest


@pytest.fixture(params=["cpu", "default"])
def platform(request, monkeypatch):
    """Takes the branch for CPUs, or the one for all other platforms, whatever this machine is."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, **branches: branches[request.param](*args))
