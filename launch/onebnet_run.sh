#!/usr/bin/env bash
# Builds onebnet-run, the program that runs networks by `onebnet convert --native` on a device without Python, as one
# static file for each architecture: FOLDER/onebnet-run-x86_64 and FOLDER/onebnet-run-aarch64.
#
# usage: launch/onebnet_run.sh [FOLDER [ARCHITECTURE ...]]      (default: . x86_64 aarch64)
#   --dry-run   print every command and run none
# The program reads PNG by stb_image and JPEG by libjpeg if there (apt install libstb-dev libjpeg-dev), libjpeg for
# each architecture. For a Raspberry Pi it is easiest to build there, docs/raspberry_pi.md#build-on-the-pi-itself;
# docs/native_engine.md says how to get ARM's libjpeg on Debian 12. CC_x86_64 and CC_aarch64 name other compilers
# (CC_aarch64=gcc on a Raspberry Pi), CFLAGS more flags for them.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/launch/lib.sh"
folder=${1:-.}
architectures=("${@:2}")
((${#architectures[@]})) || architectures=(x86_64 aarch64)
engine=$root/onebnet_jax/native/engine
# No contraction: every multiply-add that is fused is written so, that all instruction sets give the same bits.
flags=(-std=c11 -O3 -ffp-contract=off -static)
[[ -z ${CFLAGS:-} ]] || read -ra more <<<"$CFLAGS"

# Debian keeps headers that serve every architecture in a folder that cross compilers do not look into.
trial=$(mktemp -d)
trap 'rm -r "$trial"' EXIT
if [[ -d /usr/include/stb ]]; then
    ln -s /usr/include/stb "$trial/stb"
    flags+=(-isystem "$trial")
else
    echo "note: there is no stb_image (apt install libstb-dev), so the program will not read PNG" >&2
fi
# Headers serve every architecture, and the library one: only a program shows whether both are there.
libjpeg=$(printf '#include <stdio.h>\n#include <jpeglib.h>\nint main() { return !jpeg_std_error; }\n')
run mkdir -p "$folder"
for architecture in "${architectures[@]}"; do
    case $architecture in
    x86_64) usual=x86_64-linux-gnu-gcc package=gcc ;;
    aarch64) usual=aarch64-linux-gnu-gcc package="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;;
    *) fail "There is no build for $architecture, only for x86_64 and aarch64." ;;
    esac
    variable=CC_$architecture
    compiler=${!variable:-$usual}
    need "$compiler" "apt install $package, or set $variable"
    jpeg=(-DHAS_LIBJPEG) libraries=(-ljpeg)
    if ! "$compiler" "${flags[@]}" ${more[@]+"${more[@]}"} -x c - -o "$trial/program" "${libraries[@]}" <<<"$libjpeg" \
        2>/dev/null; then
        jpeg=() libraries=()
        echo "note: no libjpeg for $architecture: this program refuses JPEG. Easiest: build on the device itself," \
            "docs/raspberry_pi.md#build-on-the-pi-itself" >&2
    fi
    run "$compiler" "${flags[@]}" ${more[@]+"${more[@]}"} ${jpeg[@]+"${jpeg[@]}"} "$engine"/*.c \
        ${libraries[@]+"${libraries[@]}"} -pthread -lm -o "$folder/onebnet-run-$architecture"
done
