#!/bin/bash
# shutdown, poweroff, halt, reboot and systemctl, as systemd's own behave on an instance
# that boots: https://manpages.ubuntu.com/manpages/noble/man8/shutdown.8.html
name=$(basename "$0")
echo "$name $*" >>/run/power.log 2>/dev/null

tell() {
    if [ "$(id -u)" != 0 ] && [ -z "$DOUBLE_SUDO" ]; then
        echo "Call to $1 failed: Interactive authentication required." >&2
        exit 1
    fi
    echo "$1" >/run/power
    # Who powers a machine off does not see the end of it.
    sleep infinity
}

schedule() {
    if [ ! -e /run/logind ]; then
        # A time is for logind to keep, which is not there early in the boot.
        echo "Failed to connect to bus: No such file or directory" >&2
        exit 1
    fi
    setsid sh -c 'echo $$ >/run/shutdown.pid; sleep "$1"; echo "$2" >/run/power' - \
        "$1" "$2" </dev/null >/dev/null 2>&1 &
    echo "Shutdown scheduled for $(date -d "+$1 seconds"), use 'shutdown -c' to cancel." >&2
}

shut_down() {
    local how=off when=+1
    while [ $# -gt 0 ]; do
        case $1 in
        -P | --poweroff | -h) how=off ;;
        -H | --halt) how=halt ;;
        -r | --reboot) how=reboot ;;
        -c) kill -- "-$(cat /run/shutdown.pid)" 2>/dev/null; exit 0 ;;
        --no-wall) ;;
        -*) echo "shutdown: invalid option $1" >&2; exit 1 ;;
        *) when=$1; break ;;
        esac
        shift
    done
    case $when in
    now | +0) tell $how ;;
    +*) schedule $((${when#+} * 60)) $how ;;
    *:*) schedule $(($(date -d "$when" +%s) - $(date +%s))) $how ;;
    *) echo "Failed to parse time specification: $when" >&2; exit 1 ;;
    esac
}

control() {
    while [ "${1#-}" != "$1" ]; do shift; done
    case $1 in
    poweroff) tell off ;;
    halt | reboot) tell "$1" ;;
    mask | unmask | stop | enable | disable | daemon-reload) ;;
    start | restart | is-system-running)
        echo "System has not been booted with systemd as init system (PID 1). Can't operate." >&2
        echo "Failed to connect to bus: Host is down" >&2
        exit 1
        ;;
    *) echo "Unknown command verb $1." >&2; exit 1 ;;
    esac
}

case $name in
shutdown) shut_down "$@" ;;
poweroff) tell off ;;
halt) case " $* " in *" -p "* | *" --poweroff "*) tell off ;; *) tell halt ;; esac ;;
reboot) tell reboot ;;
systemctl) control "$@" ;;
esac
