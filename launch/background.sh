#!/usr/bin/env bash
# Runs a command that outlives the connection over which it was started, shows its output and ends with its exit status.
# Called again while the command runs, it shows the output of that one.
# usage: launch/background.sh COMMAND [ARGUMENT ...]
#        launch/background.sh --stop     sends SIGTERM to the command and waits for its end
# The command runs in the folder of onebnet_jax: relative paths start there.
set -euo pipefail
cd "$(dirname "$0")/.."
state=runs/background
(($#)) || { echo "error: Name the command to run, or --stop." >&2; exit 2; }
[[ $1 != -h && $1 != --help ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' launch/background.sh; exit; }

mkdir -p "$state"
exec 9>>"$state/lock" # the command holds it until it ends
status=0
flock --nonblock 9 || status=$?
if ((status > 1)); then # 1: another holds it
    echo "error: The file system of $PWD has no locks: keep the folder of onebnet_jax on another disk." >&2
    exit 2
elif ((status == 0)); then
    [[ $1 != --stop ]] || { echo "error: Nothing is running in $PWD." >&2; exit 2; }
    rm -f "$state/pid" "$state/status"
    : >"$state/log" # here, because tail may look for it before the command's shell has begun
    # shellcheck disable=SC2016 # for the inner shell
    setsid bash -c '
        "${@:2}" &
        trap "asked=yes; kill -TERM $! 2>/dev/null" TERM
        echo $$ >"$1/pid" # what --stop waits for, so not before the trap
        while asked=; wait $!; status=$?; [[ -n $asked ]]; do :; done # a signal ends the wait, but not the command
        echo $status >"$1/status"
    ' bash "$state" "$@" </dev/null >>"$state/log" 2>&1 &
    pid=$!
else
    [[ $1 == --stop ]] || echo "a command is running already; this is its output:" >&2
    until [[ -s $state/pid ]]; do sleep 0.1; done
    pid=$(<"$state/pid")
    [[ $1 != --stop ]] || kill -TERM "$pid" || true # it may just have ended
fi
exec 9>&-
tail --pid="$pid" --lines=+1 --follow "$state/log"
exit "$(cat "$state/status" || echo 1)" # there is none where the command was killed together with its shell
