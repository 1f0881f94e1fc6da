"""The command benchmark: logs of a Raspberry Pi as tables and JSON, and timing on this machine."""

import json
import subprocess
import sys
import time
from pathlib import Path

import engines
import pi_logs
import pytest

from onebnet_jax.commands import benchmark
from onebnet_jax.errors import UserError
from onebnet_jax.paper import latency, numbers

TYPE_II = latency.table1_structure(numbers.table1_row("TypeII"))
KEPT = Path("results/fashionmnist_ds32_64/model.tflite")
# As of TypeII at 224x224, folded.
FACTS = json.loads(KEPT.with_suffix(".json").read_text())
FACTS |= {"structure": dict(TYPE_II.recipe), "input": {"shape": [1, *latency.IMAGENET_INPUT]}}


def test_reads_logs_without_jax_and_tensorflow(tmp_path):
    pi_logs.write(tmp_path, "m.tflite")
    (tmp_path / "m.tflite.json").write_text(json.dumps({**FACTS, "sha256": "0" * 64}))
    program = (
        "import sys; sys.modules.update(jax=None, flax=None, tensorflow=None, larq_compute_engine=None);"
        "from onebnet_jax.commands import benchmark; benchmark.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "--logs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("m.tflite")]
    assert rows[0][:8] == ["m.tflite", "folded", "1", "default", "on", "150", "-", "198.61"]
    assert rows[0][-4:] == ["TypeII", "92.3", "92.3", "-"] and rows[1][-4:] == ["TypeII", "-", "-", "46.7"]
    assert rows[2] == ["m.tflite", "TypeII", "4.59", "5.03"]
    assert "Raspberry Pi 4 Model B Rev 1.4; Manjaro ARM Linux" in done.stdout and "--no-fold" in done.stdout
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert [entry["paper_ms"] for entry in report["results"]] == [{"Table 1": 92.3, "Table 3": 92.3}, {"Table 8": 46.7}]
    assert len(report["results"][0]["repetitions"]) == 3 and report["sha256"] == {"m.tflite": "0" * 64}


def test_the_card_of_another_file_is_not_used(tmp_path, capsys):
    pi_logs.write(tmp_path, "m.tflite")
    (tmp_path / "m.tflite.json").write_text(json.dumps({**FACTS, "sha256": "1" * 64}))
    benchmark.main(["--logs", str(tmp_path), f"--json={tmp_path}/other.json"])
    output, errors = capsys.readouterr()
    assert next(line for line in output.splitlines() if " 150 " in line).split()[1] == "-"
    assert "m.tflite.json describes another file" in errors
    assert (tmp_path / "other.json").exists() and not (tmp_path / "benchmark.json").exists()


def model(folder, content, card=None):
    path = folder / "m.tflite"
    path.write_bytes(content)
    if card is not None:
        path.with_suffix(".json").write_text(card)
    return path


WRONG = {
    "cut log": (
        lambda folder: ["--logs", (folder / "a.log").write_text(pi_logs.log()[:-600]) and folder],
        "a.log holds",
    ),
    "card": (lambda folder: [model(folder, b"\0\0\0\0TFL3", json.dumps(FACTS))], "not the file that"),
    "no card": (lambda folder: [model(folder, b"\0\0\0\0TFL3", "{")], "m.json is not the card"),
    "in place": (lambda folder: [model(folder, b"", "{}"), "--json", folder / "m.json"], "m.json is there"),
    "no report": (
        lambda folder: [folder / "m.tflite", "--json", folder / "nowhere" / "x.json"],
        "Cannot write",
    ),  # at once
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_one_sentence(case, tmp_path):
    arguments, words = WRONG[case]
    with pytest.raises(UserError, match=words) as error:
        benchmark.main([str(argument) for argument in arguments(tmp_path)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["--threads=1", "--kernel=default", "--no-xnnpack", "--runs=50", "--repetitions=3"])
def test_logs_take_no_option_of_measuring(option, capsys):
    with pytest.raises(SystemExit) as end:
        benchmark.main(["--logs=x", option])
    name = option.partition("=")[0].replace("--no-", "--")
    assert end.value.code == 2 and f"{name} has no place beside --logs" in capsys.readouterr().err


def test_on_this_machine(tmp_path, capfd):
    pytest.importorskip("larq_compute_engine")
    output = tmp_path / "out.json"
    for kernel, xnnpack, threads in (("default", True, 1), ("indirect", False, 2), ("reference", True, 1)):
        arguments = ["--runs=2", "--repetitions=2", f"--kernel={kernel}", f"--threads={threads}"]
        start = time.perf_counter()
        benchmark.main([str(KEPT), *arguments, "--xnnpack" if xnnpack else "--no-xnnpack", f"--json={output}"])
        elapsed_ms = (time.perf_counter() - start) * 1e3
        (result,) = json.loads(output.read_text())["results"]
        assert (result["kernel"], result["xnnpack"], result["threads"]) == (kernel, xnnpack, threads)
        assert (result["inferences"], result["graph"], result["network"]) == (4, "folded", "")
        timed = sum(run["first_ms"] + run["init_ms"] + run["count"] * run["mean_ms"] for run in result["repetitions"])
        assert 0 < timed < elapsed_ms
        assert all(run["min_ms"] <= run["mean_ms"] <= run["max_ms"] for run in result["repetitions"])
    assert "not on a Raspberry Pi" in capfd.readouterr().out
    damaged = model(tmp_path, KEPT.read_bytes()[:20000])
    with pytest.raises(UserError, match="damaged"):
        benchmark.main([str(damaged)])


@engines.needs_engine
def test_the_native_engine_on_this_machine(tmp_path, capfd):
    onb, output = KEPT.with_suffix(".onb"), tmp_path / "out.json"
    start = time.perf_counter()
    benchmark.main([str(onb), "--runs=3", "--repetitions=2", "--threads=2", f"--json={output}"])
    elapsed_ms = (time.perf_counter() - start) * 1e3
    (result,) = json.loads(output.read_text())["results"]
    assert (result["kernel"], result["threads"], result["graph"], result["inferences"]) == ("engine", 2, "folded", 6)
    assert 0 < sum(run["first_ms"] + run["count"] * run["mean_ms"] for run in result["repetitions"]) < elapsed_ms
    assert "LCE" not in capfd.readouterr().out
    with pytest.raises(SystemExit):
        benchmark.main([str(onb), "--kernel=indirect"])
    assert "the native engine has no such choice" in capfd.readouterr().err
    (tmp_path / "cut.onb").write_bytes(onb.read_bytes()[:999])
    with pytest.raises(UserError, match="cut.onb"):
        benchmark.main([str(tmp_path / "cut.onb")])
