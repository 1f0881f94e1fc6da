#!/usr/bin/env bash
# Times .tflite models on a Raspberry Pi 4 over ssh, by the paper's protocol (A.4), and prints the figures beside the
# paper's. Keeps the raw logs and a JSON in the output folder. Needs numpy on this machine; nothing on the Pi.
#
# usage: launch/rpi4_benchmark.sh [option ...] USER@HOST MODEL.tflite [...] [-- flags for lce_benchmark_model]
#   HOST may be a name, an IPv4 or an IPv6 address, such as pi@fe80::1%eth0
#   --binary FILE   LCE's benchmark program (default: $LCE_BENCHMARK_MODEL, else ./lce_benchmark_model_aarch64)
#   --engine FILE   onebnet-run-aarch64 by launch/onebnet_run.sh: times NAME.onb beside each NAME.tflite in the same run
#   --output DIR    a new folder for logs and JSON (default: runs/rpi4-TIME)
#   -o OPTION       for ssh and scp, such as -o Port=2222 or -o IdentityFile=KEY; may be repeated
#   --dry-run       print every command and run none
# Relative paths start at the current folder.
set -euo pipefail

runs=50 # inferences in one process
repetitions=3
threads=(1 4)
kernels=(default indirect)

binary=${LCE_BENCHMARK_MODEL:-lce_benchmark_model_aarch64}
engine=
output=runs/rpi4-$(date +%Y%m%d-%H%M%S)
ssh_options=()
host=
scp_host=
models=()
extra_flags=()

root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/launch/lib.sh"
python=$root/.venv/bin/python # of launch/setup.sh
[[ -x $python ]] || python=python3
python=${PYTHON:-$python}
folder=onebnet-benchmark-$(date +%Y%m%d-%H%M%S)-$$ # in the home directory on the Pi

main() {
    parse_arguments "$@"
    check_files
    scratch=$(mktemp -d)
    trap clean_up EXIT
    exec </dev/null # or ssh would swallow what is typed meanwhile
    # One connection for all commands, so that a password is asked for once; commands that are only printed stand alone.
    [[ $dry_run == yes ]] || ssh_options+=(-o ControlMaster=auto -o ControlPersist=60 -o "ControlPath=$scratch/ssh")
    check_host
    send_files
    measure
    report
}

parse_arguments() {
    while (($#)); do
        case $1 in
        --binary | --engine | --output | -o)
            (($# > 1)) || fail "$1 needs a value; see the first lines of launch/rpi4_benchmark.sh."
            case $1 in
            --binary) binary=$2 ;;
            --engine) engine=$2 ;;
            --output) output=$2 ;;
            -o) ssh_options+=(-o "$2") ;;
            esac
            shift
            ;;
        --)
            shift
            extra_flags=("$@")
            break
            ;;
        -*) fail "$1 is not an option; flags for lce_benchmark_model go behind --." ;;
        *) if [[ -z $host ]]; then host=$1; else models+=("$1"); fi ;;
        esac
        shift
    done
    host=${host//[\[\]]/} # of an IPv6 address: ssh wants none, and scp needs them
    scp_host=$host
    [[ $host != *:* ]] || scp_host="${host%"${host##*@}"}[${host##*@}]"
    ssh_options+=(-o ConnectTimeout=10 -o ServerAliveInterval=10) # behind the user's: ssh takes the first that it sees
    [[ -n $host && ${#models[@]} -gt 0 ]] ||
        fail "Name the Pi and at least one model: launch/rpi4_benchmark.sh USER@HOST MODEL.tflite ..."
}

check_files() {
    local model name names='' words
    for model in "${models[@]}"; do
        name=$(basename "$model")
        [[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*\.tflite$ ]] ||
            fail "$model: a model's file name must end in .tflite and hold only letters, digits, dots, - and _."
        [[ " $names " != *" $name "* ]] || fail "Two models are called $name; rename one, for results go by file name."
        names+=" $name"
        [[ $dry_run == yes ]] || check_model "$model"
        [[ $dry_run == yes || -z $engine || -f ${model%.tflite}.onb ]] ||
            fail "There is no ${model%.tflite}.onb beside $model: onebnet convert --native makes such files."
    done
    [[ $dry_run == yes || -z $engine || -f $engine ]] ||
        fail "The native engine's program is not at $engine: launch/onebnet_run.sh makes it."
    [[ $dry_run == yes || -f $binary ]] ||
        fail "LCE's benchmark program is not at $binary: download lce_benchmark_model_aarch64 from a release on" \
            "https://github.com/larq/compute-engine/releases and name it with --binary."
    [[ $dry_run == yes ]] || words=$(PYTHONPATH=$root "$python" -c 'import onebnet_jax.paper.pi_report' 2>&1) ||
        fail "$python cannot make the report (${words##*$'\n'}): set PYTHON to a Python 3.11 or 3.12 that has numpy."
    [[ ! -e $output ]] || fail "$output is already there; name a new folder with --output."
}

check_model() { # FILE: a whole model, as its card says if it has one
    local card=${1%.tflite}.json
    [[ -f $1 ]] || fail "There is no model $1; onebnet convert makes such files."
    [[ -r $1 ]] || fail "$1 cannot be read: allow it."
    [[ $(head -c 8 "$1" | tail -c +5 | tr -d '\0') == TFL3 ]] || fail "$1 is not a .tflite file."
    [[ ! -f $card ]] || grep -q "\"sha256\": \"$(sha256sum <"$1" | cut -d ' ' -f 1)\"" "$card" ||
        fail "$1 is not the file that $card describes: convert it again."
}

# What the Pi is, behind a word of its own, as a .bashrc there may print too.
# shellcheck disable=SC2016 # for the Pi's shell
ask='echo onebnet: $(uname -m) $(getconf LONG_BIT)'

check_host() {
    local answer machine bits
    if [[ $dry_run == yes ]]; then
        run ssh "${ssh_options[@]}" "$host" "$ask"
        return
    fi
    # shellcheck disable=SC2029 # nothing in it is for this shell
    answer=$(ssh "${ssh_options[@]}" "$host" "$ask" 2>"$scratch/errors") || unreachable
    read -r machine bits <<<"$(sed -n 's/^onebnet: //p' <<<"$answer")" || true
    [[ -n $machine ]] || fail "$host does not say what it is, but: ${answer:-nothing}; let 'ssh $host uname -m' work."
    case $machine/$bits in
    aarch64/64) ;;
    aarch64/32 | arm*) # A 32-bit system may have a 64-bit kernel.
        fail "$host runs a 32-bit system, for which LCE has no fast kernels: install a 64-bit one, such as" \
            "Manjaro ARM or the 64-bit Raspberry Pi OS."
        ;;
    *) fail "$host is not a 64-bit ARM machine but $machine: lce_benchmark_model_aarch64 cannot run there." ;;
    esac
}

last_words() { # of ssh or scp
    grep . "$scratch/errors" | tail -n 1 | tr -d '\r' || true
}

unreachable() { # why ssh failed, and what helps
    local said remedy
    said=$(last_words)
    case $(<"$scratch/errors") in
    *"REMOTE HOST IDENTIFICATION HAS CHANGED"*) said="its key is another one than before" remedy="if the Pi was set up anew, run ssh-keygen -R ${host##*@}" ;;
    *"Host key verification failed"*) remedy="run 'ssh $host' once and accept its key" ;;
    *"Permission denied"*) remedy="check the user and the password or key: 'ssh $host' must work" ;;
    *"ould not resolve"* | *"ame or service not known"*) remedy="check the name, or give the address" ;;
    *refused*) remedy="start the ssh service there, or name its port by -o Port=N" ;;
    *) remedy="check that the Pi is on and in this network, and that 'ssh $host' works" ;;
    esac
    fail "Cannot reach $host over ssh ($said): $remedy."
}

not_copied() { # why scp failed, and what helps
    local said remedy
    said=$(last_words)
    case $(<"$scratch/errors") in
    *"o space left"* | *uota*) remedy="make room in its home directory" ;;
    *"ermission denied"* | *"ead-only"*) remedy="its home directory must be writable" ;;
    *"essage too long"* | *"protocol error"*) remedy="a .bashrc or .profile there prints: let it do so in interactive shells only" ;;
    *) remedy="try: scp FILE $scp_host:" ;;
    esac
    fail "The files could not be copied to $host (${said:-without a word}): $remedy."
}

send_files() {
    local model files=("$root/launch/rpi4_remote.sh")
    run mkdir -p "$output"
    for model in "${models[@]}"; do
        files+=("$model")
        [[ -z $engine ]] || files+=("${model%.tflite}.onb")
        [[ ! -f ${model%.tflite}.json ]] || run cp "${model%.tflite}.json" "$output/$(basename "$model").json"
    done
    copied=yes
    if ! {
        run ssh "${ssh_options[@]}" "$host" "mkdir $folder" &&
            run scp -q "${ssh_options[@]}" "$binary" "$scp_host:$folder/lce_benchmark_model" &&
            run scp -q "${ssh_options[@]}" "${files[@]}" "$scp_host:$folder/" &&
            { [[ -z $engine ]] || run scp -q "${ssh_options[@]}" "$engine" "$scp_host:$folder/onebnet-run"; } &&
            run ssh "${ssh_options[@]}" "$host" "chmod +x $folder/lce_benchmark_model${engine:+ $folder/onebnet-run}"
    } 2>"$scratch/errors"; then
        not_copied
    fi
    run_to "$output/SHA256SUMS" ssh "${ssh_options[@]}" "$host" \
        "cd $folder && sha256sum lce_benchmark_model *.tflite${engine:+ onebnet-run *.onb}"
}

# Repetitions are the outer loop, so that a Pi that grows warm slows all measurements alike.
measure() {
    local repetition model name count kernel log flags command status mean
    for ((repetition = 1; repetition <= repetitions; repetition++)); do
        for model in "${models[@]}"; do
            name=$(basename "$model")
            for count in "${threads[@]}"; do
                for kernel in "${kernels[@]}"; do
                    log=$output/${name%.tflite}.$count-threads.$kernel.$repetition.log
                    flags=("--graph=$name" "--num_threads=$count" "--num_runs=$runs" --min_secs=0 --use_xnnpack=true)
                    [[ $kernel == default ]] || flags+=("--use_${kernel}_bgemm=true")
                    flags+=(${extra_flags[@]+"${extra_flags[@]}"})
                    command="cd $folder && sh rpi4_remote.sh ./lce_benchmark_model $(quote "${flags[@]}")"
                    status=0
                    run_to "$log" ssh "${ssh_options[@]}" "$host" "$command" || status=$?
                    [[ $dry_run == no ]] || continue
                    mean=$(sed -n 's/.*Inference (avg): //p' "$log")
                    [[ $status == 0 && -n $mean ]] || explain "$status" "$log"
                    echo "${log##*/}: $mean us"
                done
            done
            [[ -z $engine ]] || time_engine "${name%.tflite}.onb" "$repetition"
        done
    done
}

time_engine() { # MODEL.onb REPETITION: with 1 and with 4 threads, each `runs` inferences three times
    local log=$output/${1%.onb}.engine.$2.txt
    run_to "$log" ssh "${ssh_options[@]}" "$host" "cd $folder && sh rpi4_remote.sh ./onebnet-run $1 --bench=$runs --threads=4" ||
        fail "onebnet-run gave no result ($(tail -n 1 "$log")); its log is $log."
    [[ $dry_run == yes ]] || grep ' threads [0-9]*, ' "$log"
}

explain() { # STATUS LOG: ends with the reason why a run gave no result
    local last
    last=$(grep -v -e '^after ' -e '^before ' "$2" | grep . | tail -n 1 | tr -d '\r') || true
    case $(<"$2") in
    *GLIBC*)
        fail "The C library on $host is older than LCE's program needs ($last): install a newer 64-bit system," \
            "such as Manjaro ARM."
        ;;
    *"unresolved custom op"*)
        fail "$binary does not know LCE's operators ($last): use lce_benchmark_model_aarch64 of the LCE release that" \
            "converted the model, not TensorFlow's benchmark_model."
        ;;
    *"xec format error"* | *"cannot execute"*)
        fail "$binary is not a program for 64-bit ARM ($last): download lce_benchmark_model_aarch64."
        ;;
    esac
    (($1 != 255)) || fail "The connection to $host was lost ($last); what was measured is in $output."
    fail "lce_benchmark_model gave no result: status $1 ($last); its log is $2."
}

report() {
    run env PYTHONPATH="$root" "$python" -m onebnet_jax benchmark --logs "$output"
    [[ $dry_run == yes ]] || printf '\nRaw logs and benchmark.json: %s\n' "$output"
}

clean_up() {
    if [[ -n ${copied:-} ]]; then
        run ssh "${ssh_options[@]}" "$host" "rm -rf $folder" || true
    fi
    [[ $dry_run == yes ]] || ssh "${ssh_options[@]}" -O exit "$host" 2>/dev/null || true
    rm -rf "$scratch"
}

run_to() { # FILE COMMAND ...: the same, its output into a file
    if [[ $dry_run == yes ]]; then echo "$(quote "${@:2}") > $(quote "$1") 2>&1"; else "${@:2}" >"$1" 2>&1; fi
}

main "$@"
