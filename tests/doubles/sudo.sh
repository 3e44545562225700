#!/bin/bash
# As much of sudo as a machine without one can have: the default user may power it off.
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in
shutdown | poweroff | halt | reboot | systemctl) DOUBLE_SUDO=1 exec "$@" ;;
esac
echo "sudo: this double of sudo does not run $1" >&2
exit 1
