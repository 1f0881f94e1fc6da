"""Logs as launch/rpi4_remote.sh prints them on a Raspberry Pi, with the output of two versions of LCE's program."""

# As it stands in larq/compute-engine issue 730.
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
# In the shape of newer TensorFlow Lite.
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


def write(folder, model):
    """The folder that launch/rpi4_benchmark.sh leaves: three repetitions with one thread and with four."""
    folder.mkdir(exist_ok=True)
    for threads in (1, 4):
        for repetition in (1, 2, 3):
            flags = f"--graph={model} --num_threads={threads} --use_xnnpack=true"
            (folder / f"{threads}.{repetition}.log").write_text(log(flags=flags))
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  {model}\nssh: a warning\n")
