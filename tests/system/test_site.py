"""The documentation as a site: every link leads somewhere, and README is its first page."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow  # installs mkdocs, and takes half a minute
def test_the_site_is_built_and_its_links_lead_somewhere():
    subprocess.run([ROOT / "launch" / "docs.sh"], check=True)
    site = ROOT / "build" / "site"
    assert "1-bit convolutional networks" in (site / "index.html").read_text()
    assert 'id="onebnet_jax.api.train"' in (site / "api.html").read_text()
