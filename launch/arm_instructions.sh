#!/usr/bin/env bash
# Counts, under qemu, the instructions of one image of 224x224 on 64-bit ARM: TypeII by the native engine, and ResNet18 as
# int8 by ONNX Runtime, on a core without dot products (Cortex-A72, a Raspberry Pi 4's) and on one with them (A76, a
# Pi 5's). A count is no time: it says nothing of memory, nor of how many instructions a core does at once.
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
from onebnet_jax.export import convert, onnx_graph
from onebnet_jax.runs import config, trained
model = onnx_graph.graph(convert.make_plan(trained.untrained(config.load("imagenet_fp32"))))
images = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
pathlib.Path(sys.argv[1]).write_bytes(onnx_graph.int8(model, images, signed=True))
END
cat >"$folder/run.py" <<'END'
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for _ in sys.argv[2:]:
    session.run(None, {"images": np.zeros((1, 3, 224, 224), np.float32)})
END
run env PYTHONPATH=. "$python" "$folder/make.py" "$folder/int8.onnx"
run "$python" -m onebnet_jax convert --config=configs/imagenet_typeII.py --native="$folder/m.onb"
head -c $((224 * 224 * 3)) /dev/zero >"$folder/a.raw"
run launch/onebnet_run.sh "$folder" aarch64
run cc -shared -fPIC tests/native/count_instructions.c -o "$folder/count.so"

count() { # NAME CPU COMMAND ...: of a second and a third image
    local images before after
    [[ $dry_run == no ]] || return 0
    images=("$folder/a.raw" "$folder/a.raw" "$folder/a.raw")
    before=$(instructions "${@:2}" "$folder/a.raw") after=$(instructions "${@:2}" "${images[@]}")
    echo "$1 on $2: $(((after - before) / 2000000)) million instructions"
}
instructions() { # CPU COMMAND ...
    qemu-aarch64 -cpu "$1" -L "$folder/system" -E "PYTHONPATH=$folder/site" -E PYTHONHASHSEED=0 \
        -plugin "$folder/count.so" "${@:2}" 2>&1 >/dev/null | sed -n 's/^\([0-9]*\) instructions$/\1/p'
}
for cpu in cortex-a72 cortex-a76; do
    count "TypeII, native engine," "$cpu" "$folder/onebnet-run-aarch64" "$folder/m.onb"
    count "ResNet18 int8, ONNX Runtime," "$cpu" "$folder/system/usr/bin/python3.11" "$folder/run.py" "$folder/int8.onnx"
done
