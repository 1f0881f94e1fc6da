# shellcheck shell=bash
# What the other scripts source: commands that are printed instead of run with --dry-run, and errors. Takes --dry-run
# and --help, wherever they stand, from the arguments of the script that sources it.
dry_run=no

quote() { # words as a shell reads them
    local word space=
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_@%+=:,./-]* | '') printf "%s'%s'" "$space" "${word//\'/\'\\\'\'}" ;;
        *) printf '%s%s' "$space" "$word" ;;
        esac
        space=' '
    done
}

run() { # runs a command, or prints it
    if [[ $dry_run == yes ]]; then quote "$@" && echo; else "$@"; fi
}

onebnet() { # prints a command as you would type it after `source .venv/bin/activate`, and runs it
    [[ $dry_run == yes ]] || { printf '\n$ onebnet ' && quote "$@" && echo; }
    run .venv/bin/python -m onebnet_jax "$@"
}

fail() {
    echo "error: $*" >&2
    exit 2
}

need() { # TOOL REMEDY: a dry run needs no tools
    [[ $dry_run == yes ]] || command -v "$1" >/dev/null || fail "There is no $1 here: $2."
}

check_trainer_flags() { # what can be seen before a machine is asked for
    local config='' file name
    while (($#)); do
        case $1 in
        --mode=eval) return ;;
        --mode) [[ ${2:-} != eval ]] || return 0 ;;
        --config=*) config=${1#*=} ;;
        --config) config=${2:-} ;;
        esac
        shift
    done
    [[ -n $config ]] || fail "Name a config, such as --config=configs/cifar10_typeII.py."
    file=$config
    [[ $config != *.py:* ]] || file=${config%%.py:*}.py # what follows is an argument of the file's get_config
    name=${file%%:*} name=${name%.py} # of a config that comes with the package, such as imagenet:TypeI
    [[ -f $file || -f configs/$name.py ]] || fail "There is no config $config; the paper's are in configs/."
}

_rest=()
for _argument in "$@"; do
    case $_argument in
    --dry-run) dry_run=yes ;;
    -h | --help)
        sed -n '2,/^[^#]/{/^#SBATCH/d;/^#/s/^# \{0,1\}//p;}' "$(dirname "${BASH_SOURCE[0]}")/$(basename "$0")"
        exit 0
        ;;
    *) _rest+=("$_argument") ;;
    esac
done
set -- ${_rest[@]+"${_rest[@]}"}
