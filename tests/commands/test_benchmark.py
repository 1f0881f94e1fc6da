"""Timing logs: how they are read, put together and set beside the paper's figures; and timing on this machine."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from onebnet_jax.commands.benchmark_log import Run

from onebnet_jax.commands import benchmark, benchmark_log, benchmark_report
from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import latency
from onebnet_jax.paper import numbers as paper

# The program's output as it stands in larq/compute-engine issue 730, and in the shape of newer TensorFlow Lite.
OLD_OUTPUT = """STARTING!
Log parameter values verbosely: [0]
Graph: [BDN.tflite]
Loaded model BDN.tflite
The input model file size (MB): 4.80795
Initialized session in 5.373ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=3 first=206847 curr=207657 min=174807 max=207657 avg=196437 std=15298

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=205194 curr=196761 min=195713 max=205852 avg=198612 std=2465

Inference timings in us: Init: 5373, First inference: 206847, Warmup (avg): 196437, Inference (avg): 198612
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory \
footprint of the model at runtime. Take the information at your discretion.
Peak memory footprint (MB): init=1.47266 overall=30.4531
"""
NEW_OUTPUT = """INFO: STARTING!
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 5.27433
INFO: Initialized session in 7.639ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=1041765

INFO: Running benchmark for at least 50 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=977738 curr=964908 min=911877 max=1112273 avg=1.02217e+06 std=39112 p5=911900 median=970000 \
p95=1099000

INFO: Inference timings in us: Init: 7639, First inference: 1041765, Warmup (avg): 1.04176e+06, \
Inference (avg): 1.02217e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.14844 overall=109.848
"""
STATE = """{when} time=2024-05-04T12:00:0{second}Z
{when} device=Raspberry Pi 4 Model B Rev 1.4
{when} os=Manjaro ARM Linux
{when} kernel=6.1.31-2-MANJARO-ARM-RPI aarch64
{when} libc=glibc 2.37
{when} clock_limit_mhz=1500
{when} clock_mhz=1500
{when} governor=ondemand
{when} temperature_c=5{second}.5
{when} throttled={throttled}
"""


def log(output=OLD_OUTPUT, flags="--graph=BDN.tflite --num_threads=1 --use_xnnpack=true", throttled=("0x0", "0x0")):
    before, after = (
        STATE.format(when=when, second=second, throttled=bits)
        for when, second, bits in zip(("before", "after"), (1, 2), throttled)
    )
    return f"{before}command=./lce_benchmark_model {flags}\n{output}{after}"


def run(**changes):
    fields = dict(model="m.tflite", threads=1, kernel="default", xnnpack=True, count=50, mean_ms=90.0, std_ms=1.0)
    return Run(**{**fields, **dict(min_ms=88.0, max_ms=95.0, init_ms=5.0, first_ms=91.0), **changes})


def test_log_of_the_old_shape():
    parsed = benchmark_log.parse(log(), "a.log")
    assert (parsed.model, parsed.threads, parsed.kernel, parsed.xnnpack) == ("BDN.tflite", 1, "default", True)
    assert (parsed.count, parsed.mean_ms, parsed.std_ms) == (50, 198.612, 2.465)
    assert (parsed.min_ms, parsed.max_ms, parsed.init_ms, parsed.first_ms) == (195.713, 205.852, 5.373, 206.847)
    assert parsed.size_mib == pytest.approx(4.80795e6 / 2**20)
    assert parsed.memory_mb == 30.4531
    assert parsed.before["temperature_c"] == "51.5" and parsed.after["temperature_c"] == "52.5"
    assert parsed.before["device"] == "Raspberry Pi 4 Model B Rev 1.4"


def test_log_of_the_new_shape():
    flags = "--graph=m.tflite --num_threads=4 --use_xnnpack=false --use_indirect_bgemm=true"
    parsed = benchmark_log.parse(log(NEW_OUTPUT, flags), "a.log")
    assert (parsed.threads, parsed.kernel, parsed.xnnpack) == (4, "indirect", False)
    assert (parsed.count, parsed.mean_ms, parsed.memory_mb) == (50, 1022.17, 109.848)


def test_log_of_equal_times():
    equal = OLD_OUTPUT.replace(
        "count=50 first=205194 curr=196761 min=195713 max=205852 avg=198612 std=2465", "count=50 curr=198612(all same)"
    )
    parsed = benchmark_log.parse(log(equal), "a.log")
    assert (parsed.count, parsed.mean_ms, parsed.std_ms, parsed.min_ms) == (50, 198.612, 0.0, 198.612)


@pytest.mark.parametrize("output", [OLD_OUTPUT, NEW_OUTPUT])
def test_a_log_cut_anywhere_is_refused_or_right(output):
    whole = log(output)
    expected = benchmark_log.parse(whole, "a.log")
    refused = 0
    for end in range(len(whole)):
        try:
            parsed = benchmark_log.parse(whole[:end], "a.log")
        except UserError as error:
            refused += 1
            assert "a.log" in str(error)
        else:
            assert (parsed.mean_ms, parsed.count, parsed.std_ms) == (expected.mean_ms, expected.count, expected.std_ms)
    assert refused >= whole.index("Inference (avg)")


@pytest.mark.parametrize("output", [OLD_OUTPUT, NEW_OUTPUT])
def test_a_damaged_log_is_refused_or_read(output):
    rng = np.random.default_rng(0)
    whole = log(output)
    for _ in range(3000):
        characters = list(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 4)):
            characters[place] = rng.choice(list("0123456789.e+-=: \nabc\0²"))
        try:
            parsed = benchmark_log.parse("".join(characters), "a.log")
        except UserError:
            continue
        assert parsed.count > 0
        benchmark_report.device_lines([parsed])
        (result,) = benchmark_report.results([parsed], {})
        assert result.mean_ms >= 0


def test_other_text_is_no_log():
    for text in ("", "\n", "hello", OLD_OUTPUT, "command=\n", "command=ls -l\n"):
        with pytest.raises(UserError, match="not a log of launch/rpi4_benchmark.sh"):
            benchmark_log.parse(text, "a.log")


@pytest.mark.parametrize(
    ("before", "after", "meaning"),
    [
        ("0x0", "0x0", []),
        ("0x50000", "0x50000", []),  # happened before
        ("0x0", "0x50000", ["under-voltage", "throttling"]),  # happened meanwhile
        ("0x20002", "0x20000", ["capped clock"]),  # lasted when the run began
        ("0x0", "0x80008", ["temperature limit"]),
        ("0x0", "unknown", None),
    ],
)
def test_throttling(before, after, meaning):
    assert benchmark_log.throttling([run(before={"throttled": before}, after={"throttled": after})]) == meaning
    lines = "\n".join(benchmark_report.device_lines([benchmark_log.parse(log(throttled=(before, after)), "a.log")]))
    assert ("WARNING" in lines) == (meaning != [])


def test_repetitions_are_put_together_like_their_samples():
    rng = np.random.default_rng(0)
    samples = [rng.gamma(9.0, 10.0, size) for size in (50, 50, 37)]
    runs = [run(count=len(s), mean_ms=float(s.mean()), std_ms=float(s.std())) for s in samples]
    (result,) = benchmark_report.results(runs, {})
    every = np.concatenate(samples)
    assert result.count == len(every)
    assert result.mean_ms == pytest.approx(every.mean())
    assert result.std_ms == pytest.approx(every.std())


def card(structure, shape=(224, 224, 3), weights=True):
    return {
        "structure": json.loads(json.dumps(dataclasses.asdict(structure))),
        "binarization": {"activations": True, "weights": weights},
        "input": {"shape": [1, *shape]},
        "folded": True,
    }


@pytest.mark.parametrize("row", paper.TABLE1)
def test_networks_of_table_1_are_known_by_their_cards(row):
    structure = dataclasses.replace(latency.table1_structure(row), pad_value=1)
    name = benchmark_report.network("any.tflite", card(structure))
    results = benchmark_report.results([run(), run(threads=4)], {"m.tflite": card(structure)})
    assert [result.paper_ms.get("Table 1") for result in results] == [row.latency_ms, None]
    if row.name:
        assert name == row.name
        assert results[0].paper_ms["Table 3"] == paper.TABLE3[row.name].latency_ms
        assert results[1].paper_ms == {"Table 8": paper.TABLE8[row.name]}


def test_fp32_resnet18_is_known():
    structure = Structure(depth=18, block="resnet", num_classes=1000, stem="imagenet", stem_relu=True)
    (result,) = benchmark_report.results([run()], {"m.tflite": card(structure)})
    assert result.paper_ms == {"Table 3": 481.1}


def test_other_networks_are_not_compared():
    type_i = latency.table1_structure(paper.TABLE1[3])
    assert benchmark_report.network("imagenet_typeI.tflite", card(type_i)) == "TypeI"
    for other in (
        card(dataclasses.replace(type_i, num_classes=10)),
        card(dataclasses.replace(type_i, width_multiplier=0.5)),
        card(dataclasses.replace(type_i, stem="cifar")),
        card(dataclasses.replace(type_i, depth=34)),
        card(type_i, shape=(192, 192, 3)),
        card(type_i, weights=False),
        {},
    ):
        assert benchmark_report.network("imagenet_typeI.tflite", other) == ""


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("imagenet_typeI.tflite", "TypeI"),
        ("imagenet-typeII-naive.tflite", "TypeII"),
        ("runs/my_imagenet_typeIII.tflite", "TypeIII"),
        ("imagenet_reactnet.tflite", "ReActNet18"),
        ("imagenet_fp32.tflite", "FP32 ResNet18"),
        ("imagenet_typeIV.tflite", ""),
        ("cifar10_typeI.tflite", ""),
        ("typeI.tflite", ""),
    ],
)
def test_networks_without_a_card_are_known_by_name(name, known):
    assert benchmark_report.network(name, None) == known


def write_logs(folder, name="imagenet_typeII.tflite"):
    folder.mkdir(exist_ok=True)
    for threads in (1, 4):
        for repetition in (1, 2, 3):
            flags = f"--graph={name} --num_threads={threads} --use_xnnpack=true"
            (folder / f"{threads}.{repetition}.log").write_text(log(flags=flags))
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  {name}\nssh: a warning\n")


def test_command_reads_logs_without_jax_and_tensorflow(tmp_path):
    write_logs(tmp_path / "logs")
    program = (
        "import sys; sys.modules.update(jax=None, flax=None, tensorflow=None, larq_compute_engine=None);"
        "from onebnet_jax.commands import benchmark; benchmark.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "--logs", str(tmp_path / "logs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("imagenet_typeII.tflite")]
    assert rows[0][:8] == ["imagenet_typeII.tflite", "-", "1", "default", "on", "150", "198.61", "2.46"]
    assert rows[0][-4:] == ["TypeII", "92.3", "92.3", "-"] and rows[1][-4:] == ["TypeII", "-", "-", "46.7"]
    assert rows[2] == ["imagenet_typeII.tflite", "TypeII", "4.59", "5.03"]
    assert "Raspberry Pi 4 Model B Rev 1.4; Manjaro ARM Linux" in done.stdout
    assert "Tables 1, 3 and 8 are the paper's" in done.stdout and "folded" not in done.stdout
    report = json.loads((tmp_path / "logs" / "benchmark.json").read_text())
    assert [entry["paper_ms"] for entry in report["results"]] == [
        {"Table 1": 92.3, "Table 3": 92.3},
        {"Table 8": 46.7},
    ]
    assert len(report["results"][0]["repetitions"]) == 3
    assert report["sha256"] == {"imagenet_typeII.tflite": "0" * 64}


def test_card_of_another_file_is_not_used(tmp_path, capsys):
    write_logs(tmp_path)
    facts = card(latency.table1_structure(paper.TABLE1[3]))
    for digest, graph in (("0" * 64, "folded"), ("1" * 64, "-")):
        (tmp_path / "imagenet_typeII.tflite.json").write_text(json.dumps({**facts, "sha256": digest}))
        benchmark.main(["--logs", str(tmp_path)])
        output, errors = capsys.readouterr()
        assert next(line for line in output.splitlines() if " 150 " in line).split()[1] == graph
        assert ("describes another file" in errors) == (graph == "-")
        assert ("fewer operators" in output) == (graph == "folded")


def test_bad_input_is_told_in_one_sentence(tmp_path):
    def told(*arguments):
        with pytest.raises(UserError) as error:
            benchmark.main([str(argument) for argument in arguments])
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no .log file" in told("--logs", tmp_path)
    (tmp_path / "a.log").write_text(log()[:-600])
    assert "a.log holds no complete result" in told("--logs", tmp_path)
    assert "No such file" in told(tmp_path / "no.tflite")
    (tmp_path / "text.tflite").write_text("hello, I am text")
    assert "text.tflite is not a .tflite file" in told(tmp_path / "text.tflite")
    assert "--runs=0 must be 1 or more" in told(tmp_path / "text.tflite", "--runs", 0)
    # Before the models are looked at, let alone timed.
    assert "Cannot write" in told(tmp_path / "text.tflite", "--json", tmp_path / "nowhere" / "x.json")
    (tmp_path / "m.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    (tmp_path / "m.json").write_text(json.dumps({"sha256": "0"}))
    assert "not the file that" in told(tmp_path / "m.tflite")
    (tmp_path / "m.json").write_text("{")
    assert "cannot be read as the card" in told(tmp_path / "m.tflite")
    assert "m.json is there and is not a report" in told(tmp_path / "m.tflite", "--json", tmp_path / "m.json")


def test_either_models_or_logs(capsys):
    for arguments in ([], ["m.tflite", "--logs", "x"]):
        with pytest.raises(SystemExit) as end:
            benchmark.main(arguments)
        assert end.value.code == 2
        assert "give one or more models, or --logs DIR" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads=1", "--kernel=default", "--no-xnnpack", "--runs=50", "--repetitions=3"])
def test_logs_take_no_option_of_measuring(option, tmp_path, capsys):
    write_logs(tmp_path)
    with pytest.raises(SystemExit) as end:
        benchmark.main(["--logs", str(tmp_path), option])
    assert end.value.code == 2
    name = option.partition("=")[0].replace("--no-", "--")
    assert f"{name} has no place beside --logs" in capsys.readouterr().err


@pytest.mark.skipif(not importlib.util.find_spec("larq_compute_engine"), reason="needs Larq Compute Engine")
def test_on_this_machine(tmp_path, capfd):
    from onebnet_jax.commands import convert
    from onebnet_jax.export import source
    from onebnet_jax.runs import config

    model, output = tmp_path / "imagenet_typeI.tflite", tmp_path / "out.json"
    overrides = ["--config.model.width_multiplier=0.25", "--config.model.ds_1d=(32, 64)"]
    facts = convert.convert(source.from_config(config.load("configs/quickstart.py", overrides)), model)
    for kernel, xnnpack, threads in (("default", True, 1), ("indirect", False, 2), ("reference", True, 1)):
        arguments = ["--runs=4", "--repetitions=2", f"--kernel={kernel}", f"--threads={threads}"]
        arguments += ["--xnnpack" if xnnpack else "--no-xnnpack", f"--json={output}"]
        start = time.perf_counter()
        benchmark.main([str(model), *arguments])
        elapsed_ms = (time.perf_counter() - start) * 1e3
        (result,) = json.loads(output.read_text())["results"]
        assert (result["kernel"], result["xnnpack"], result["threads"]) == (kernel, xnnpack, threads)
        assert (result["inferences"], result["graph"]) == (8, "folded")
        timed = sum(run["first_ms"] + run["init_ms"] + run["count"] * run["mean_ms"] for run in result["repetitions"])
        assert 0 < timed < elapsed_ms
        assert all(run["min_ms"] <= run["mean_ms"] <= run["max_ms"] for run in result["repetitions"])
        assert "paper_ms" not in result
    assert "not on a Raspberry Pi" in capfd.readouterr().out

    # The fields of a real card by which networks are recognised; `card` above has no others.
    type_i = card(latency.table1_structure(paper.TABLE1[3]))
    assert facts["structure"].keys() == type_i["structure"].keys()
    assert facts["binarization"].items() >= type_i["binarization"].items()
    assert facts["input"]["shape"] == [1, 28, 28, 1] and facts["folded"] is True

    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(model.read_bytes()[:20000])
    with pytest.raises(UserError, match="damaged"):
        benchmark.main([str(damaged)])
