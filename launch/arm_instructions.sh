#!/usr/bin/env bash
# Counts, under qemu, the instructions of one image on 64-bit ARM: of a OneBNet by the native engine, and of the
# ordinary network that it replaces, as int8 by ONNX Runtime. At 224x224 these are TypeII and ResNet18; at 64x64 the
# network that photos train by default (configs/folder.py, ten classes) and its counterpart. On a core without dot
# products (Cortex-A72, a Raspberry Pi 4's) and on one with them (A76, a Pi 5's). A count is no time: it says nothing of
# memory, nor of how many instructions a core does at once.
#
# usage: launch/arm_instructions.sh [FOLDER]      (default: a new one, removed at the end)
# Needs Debian 12 with qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, and .venv (launch/setup.sh) with
# requirements-onnx.txt; PYTHON names another Python. Loads Debian's Python for ARM, and ONNX Runtime, into FOLDER.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/launch/lib.sh"
python=${PYTHON:-$root/.venv/bin/python}
folder=${1:-}
if [[ -z $folder ]]; then
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
fi
mkdir -p "$folder/lists/partial" "$folder/debs" "$folder/system"
folder=$(cd "$folder" && pwd)
need qemu-aarch64 "apt install qemu-user"
need apt-get "this script needs Debian 12"
need "$python" "launch/setup.sh makes .venv, or set PYTHON"
cd "$root"

# A Python for ARM, beside this system's packages and unknown to them.
arm=(-qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::status=/dev/null
    -o "Dir::State::lists=$folder/lists" -o "Dir::Cache=$folder" -o APT::Sandbox::User=root)
packages=(libpython3.11-minimal libpython3.11-stdlib python3.11-minimal libc6 libgcc-s1 libstdc++6 zlib1g libexpat1
    libffi8 libssl3 libuuid1 libbz2-1.0 liblzma5)
run apt-get "${arm[@]}" update
(cd "$folder/debs" && run apt-get "${arm[@]}" download "${packages[@]}")
for package in "$folder"/debs/*.deb; do run dpkg -x "$package" "$folder/system"; done
run "$python" -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$folder/site" \
    --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux2014_aarch64 onnxruntime==1.20.1 numpy==1.26.4 flatbuffers protobuf packaging

cat >"$folder/make.py" <<'END'
import pathlib, sys
import numpy as np
from onebnet_jax.export import convert, native, onnx_graph
from onebnet_jax.runs import config, trained
folder = pathlib.Path(sys.argv[1])
for size, binary, float32 in ((224, "imagenet_typeII", "imagenet_fp32"), (64, "folder", "imagenette:fp32")):
    network, counterpart = (trained.untrained(config.load(name, assumed=10)) for name in (binary, float32))
    (folder / f"{size}.onb").write_bytes(native.pack(*native.convert(network, True, False)))
    images = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    graph = onnx_graph.graph(convert.make_plan(counterpart))
    (folder / f"{size}.onnx").write_bytes(onnx_graph.int8(graph, images, signed=True))
    (folder / f"{size}.raw").write_bytes(bytes(size * size * 3))
END
cat >"$folder/run.py" <<'END'
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for _ in sys.argv[2:]:
    session.run(None, {"images": np.zeros(session.get_inputs()[0].shape, np.float32)})
END
run env PYTHONPATH=. "$python" "$folder/make.py" "$folder"
run launch/onebnet_run.sh "$folder" aarch64
run cc -shared -fPIC tests/native/count_instructions.c -o "$folder/count.so"

count() { # NAME CPU IMAGES IMAGE COMMAND ...: the mean of so many, behind a first one
    local before after i images=()
    [[ $dry_run == no ]] || return 0
    for ((i = 0; i < $3; i++)); do images+=("$4"); done
    before=$(instructions "$2" "${@:5}" "$4") after=$(instructions "$2" "${@:5}" "$4" "${images[@]}")
    awk "BEGIN { printf \"$1 on $2: %.1f million instructions\n\", ($after - $before) / 1e6 / $3 }"
}
instructions() { # CPU COMMAND ...
    qemu-aarch64 -cpu "$1" -L "$folder/system" -E "PYTHONPATH=$folder/site" -E PYTHONHASHSEED=0 \
        -plugin "$folder/count.so" "${@:2}" 2>&1 >/dev/null | sed -n 's/^\([0-9]*\) instructions$/\1/p'
}
arm_python=$folder/system/usr/bin/python3.11
# Python begins with some million more or fewer each time, so the smaller network is run more often.
for cpu in cortex-a72 cortex-a76; do
    for size in 224 64; do
        of=("$cpu" $((size == 64 ? 100 : 10)) "$folder/$size.raw")
        count "${size}x$size, native engine," "${of[@]}" "$folder/onebnet-run-aarch64" "$folder/$size.onb"
        count "${size}x$size, int8 by ONNX Runtime," "${of[@]}" "$arm_python" "$folder/run.py" "$folder/$size.onnx"
    done
done
