"""The command report: from a tiny run, stopped and taken up again, and in a browser."""

import json
import re
import shutil
import subprocess

import pytest
from workdirs import measured, trained

from onebnet_jax.commands import report
from onebnet_jax.paper import report_figures, report_tables


@pytest.fixture
def run(tmp_path):
    """A run of a few epochs, without a checkpoint."""
    return measured(tmp_path / "run", train=[(10.0, 60.0, 55.0), (10.0, 70.0, 65.0)])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(run, folder, *words):
    report.main([str(run), f"--output={folder}", "--no-files", *words])
    return contents(folder)


@pytest.mark.slow
def test_the_whole_report_of_a_run_without_a_checkpoint(run, tmp_path, capsys):
    made = make(run, tmp_path / "out")
    text = (tmp_path / "out" / "index.md").read_text()
    names = [*report_tables.TABLES, *report_figures.FIGURES]
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == ["At a glance", *names]
    pictures = {str(path) for path in made if path.suffix == ".png"}
    assert pictures == {f"figure-{number}-1.png" for number in (1, 2, 4, 5, 6)}
    assert text.count("needs a trained network") == 4  # Figures 3 and 7, and their lines in the first table
    assert "15 tables and figures" in capsys.readouterr().out


def test_a_report_that_was_stopped_goes_on(run, tmp_path, monkeypatch):
    """Of what is made already nothing is made again, and what comes out is the same; a changed run makes all anew."""
    calls, makers = [], {}
    for name in ("Table 4", "Table 6", "Figure 1"):
        made = (report_tables.TABLES | report_figures.FIGURES)[name]
        makers[name] = lambda about, name=name, made=made: calls.append(name) or made(about)
    monkeypatch.setattr(report_tables, "TABLES", {name: makers[name] for name in ("Table 4", "Table 6")})
    monkeypatch.setattr(report_figures, "FIGURES", {"Figure 1": makers["Figure 1"]})
    whole, out = make(run, tmp_path / "whole"), tmp_path / "out"
    assert calls == ["Table 4", "Table 6", "Figure 1"]

    def stop(about):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setitem(report_tables.TABLES, "Table 6", stop)
        make(run, out)
    assert not (out / "report.html").exists()
    calls.clear()
    resumed = make(run, out)
    assert calls == ["Table 6", "Figure 1"]
    same = {path: content.replace(b"/out", b"/whole") for path, content in resumed.items()}  # the command in it
    assert same == whole
    calls.clear()
    make(run, out)
    assert calls == []
    (run / "train" / "metrics.jsonl").open("a").write('{"step": 3, "split": "test", "epoch": 3, "top1": 66.0}\n')
    make(run, out)
    assert calls == ["Table 4", "Table 6", "Figure 1"]


# Each image of the page, how wide it came out, and what the page's scripts and requests complained of.
PROBE = """<script>
addEventListener("load", () => {
  const widths = [...document.images].map(image => image.complete ? image.naturalWidth : 0);
  document.body.insertAdjacentHTML("beforeend", `<p id="probe">${JSON.stringify({widths, errors})}</p>`);
});
</script>"""
ERRORS = """<script>
const errors = [];
addEventListener("error", event => errors.push(String(event.message)), true);
</script>"""


@pytest.mark.slow
def test_a_browser_shows_the_page_whole(tmp_path):
    """launch/test.sh -m slow -k browser"""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    run = trained(tmp_path / "run")
    measured_lines = measured(tmp_path / "other", train=[(10.0, 60.0, 55.0)]) / "train" / "metrics.jsonl"
    shutil.copy(measured_lines, run / "train" / "metrics.jsonl")
    make(run, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("<head>", "<head>" + ERRORS, 1).replace("</body>", PROBE + "</body>", 1))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [browser, *options, "--virtual-time-budget=10000", "--dump-dom", probed.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(re.findall(r'<p id="probe">(.*?)</p>', shown.stdout)[-1])
    assert found["errors"] == [] and len(found["widths"]) == page.count("<img ") == 7
    assert all(width > 300 for width in found["widths"])
    assert "CONSOLE" not in shown.stderr
