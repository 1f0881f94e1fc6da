#!/bin/sh
# Runs on the Raspberry Pi, copied there by rpi4_benchmark.sh: prints the state of the machine, runs a command, prints
# the state again, and exits as the command did. onebnet_jax/paper/pi_log.py reads what it prints.
#
# usage: sh rpi4_remote.sh PROGRAM [ARGUMENT ...]
set -eu
PATH=$PATH:/opt/vc/bin # where older systems keep vcgencmd

contents() {
    cat "$1" 2>/dev/null || true
}

firmware() {
    vcgencmd "$@" 2>/dev/null || true
}

mhz() { # from a number and how many of it make a MHz
    [ -z "$1" ] || echo $(($1 / $2))
}

state() {
    cpu=/sys/devices/system/cpu/cpu0/cpufreq
    # The firmware lowers the clock without telling the kernel, so ask it first.
    clock=$(mhz "$(firmware measure_clock arm | sed -n 's/^frequency([0-9]*)=//p')" 1000000)
    throttled=$(firmware get_throttled | sed -n 's/^throttled=//p')
    kernel_says=$(contents /sys/devices/platform/soc/soc:firmware/get_throttled)
    millidegrees=$(contents /sys/class/thermal/thermal_zone0/temp)
    while read -r name value; do
        echo "$1 $name=${value:-unknown}"
    done <<END
time $(date -u +%Y-%m-%dT%H:%M:%SZ)
device $(contents /proc/device-tree/model | tr -d '\000')
os $(sed -n 's/^PRETTY_NAME=//p' /etc/os-release | tr -d '"')
kernel $(uname -r) $(uname -m)
libc $(getconf GNU_LIBC_VERSION 2>/dev/null || true)
clock_limit_mhz $(mhz "$(contents $cpu/scaling_max_freq)" 1000)
clock_mhz ${clock:-$(mhz "$(contents $cpu/scaling_cur_freq)" 1000)}
governor $(contents $cpu/scaling_governor)
temperature_c ${millidegrees:+$(echo "$millidegrees" | awk '{ printf "%.1f", $1 / 1000 }')}
throttled ${throttled:-${kernel_says:+0x$kernel_says}}
END
}

state before
echo "command=$*"
status=0
"$@" || status=$?
state after
exit "$status"
