"""README, docs/ and docstrings: what they name is there, and what they quote is what the paper prints."""

import importlib.util
import pathlib
import pkgutil
import re

import pytest

from onebnet_jax.__main__ import COMMANDS
from onebnet_jax.paper import numbers as paper

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [*(path for place in ("*.md", "docs/**/*.md", "results/**/*.md") for path in ROOT.glob(place))]
DOCUMENTS = [*sorted(PAGES), *sorted((ROOT / "configs").glob("[a-z]*.py"))]

TABLE_7 = {name: [row[name] for m, row in paper.TABLE7.items() if m != 1] for name in ("TypeI", "TypeII")}
DS32_64, CONV64_DS64 = paper.TABLE6[:2]
# Config -> what the paper gives for its network, in percent.
QUOTED = {
    "cifar10_typeI": [paper.TABLE4["TypeI"], paper.TABLE6[2].top1, *TABLE_7["TypeI"]],
    "cifar10_typeII": [paper.TABLE4["TypeII"], paper.TABLE6[3].top1, *TABLE_7["TypeII"]],
    "cifar10_two_stage": [paper.TABLE6[3].top1],
    "cifar10_reactnet": [paper.TABLE4["ReActNet18"]],
    "cifar10_fp32": [paper.TABLE4["FP32 ResNet18"], paper.TABLE6[2].fp32_top1],
    "fashionmnist_ds32_64": [DS32_64.top1],
    "fashionmnist_two_stage": [DS32_64.top1],
    "fashionmnist_conv64_ds64": [CONV64_DS64.top1],
    "fashionmnist_fp32": [DS32_64.fp32_top1],
    "imagenet_reactnet": [paper.TABLE3["ReActNet18"].top1],
    "imagenet_birealnet": [*paper.TABLE2_SCRATCH["Bi-RealNet"]],
    "imagenet_xnornet": [*paper.TABLE2_SCRATCH["XNOR-Net"]],
    "imagenet_fp32": [*paper.TABLE2_SCRATCH["FP32 ResNet18"]],
    "imagenet_typeII_scratch": [*paper.TABLE2_SCRATCH["TypeII"]],
    **{
        f"imagenet_{name[0].lower()}{name[1:]}": [*accuracy]
        for name, accuracy in paper.TABLE2_TEACHER.items()
        if name.startswith("Type")
    },
}


@pytest.mark.parametrize("name", QUOTED)
def test_a_config_quotes_the_paper(name):
    docstring, _, _ = (ROOT / "configs" / f"{name}.py").read_text().removeprefix('"""').partition('"""')
    of_paper = " ".join(part for part in re.split(r"(?<=[.:])\s", docstring) if "paper" in part)
    assert {float(figure) for figure in re.findall(r"(\d+\.\d) %", of_paper)} == set(QUOTED[name])


def test_the_documentation_quotes_the_paper():
    rows = re.findall(
        r"^\| `(\w+)` \|.* \| (\d+\.\d) % \| [\d, ]+ \|", (ROOT / "docs" / "train.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 7
    for name, figure in rows:
        assert float(figure) == QUOTED[name][0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(document):
    text = document.read_text()
    paths = re.findall(r"\]\((?!https?:)([^)#]+)\)", text) if document.suffix == ".md" else []
    named = {document.parent / path for path in paths}
    named |= {ROOT / path for path in re.findall(r"\b(?:configs|launch|tests|onebnet_jax)/[\w/]+\.\w+", text)}
    named |= {
        pathlib.Path(importlib.util.find_spec(f"onebnet_jax.{module}").origin)
        for module in re.findall(r"-m onebnet_jax\.([\w.]+\w)", text)
    }
    assert [str(path) for path in sorted(named) if not (path.exists() or path.name == "NAME.py")] == []
    commands = re.findall(r"^onebnet (\w+)|`onebnet (\w+)", text, re.MULTILINE)
    assert {"".join(words) for words in commands} <= {*COMMANDS, "COMMAND"}


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
def test_what_the_reference_names_is_there(name):
    assert pkgutil.resolve_name(name).__doc__
