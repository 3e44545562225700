#!/bin/bash
# Inside fresh namespaces: a machine with its own file system view, user and sshd.
# What it writes stays in FOLDER; the host's files are seen and never touched.
#
#   machine.sh FOLDER NAME USER DISK PREFIX
set -euo pipefail
folder=$1 name=$2 user=$3 disk=$4 prefix=$5 root=$1/root

mount --make-rprivate /
mount -t tmpfs -o "size=$disk" tmpfs "$folder/disk"
mkdir "$folder/disk/upper" "$folder/disk/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/disk/upper,workdir=$folder/disk/work" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp" -o mode=1777
mount -t tmpfs tmpfs "$root/run"
# The Python that runs the tests may lie below a folder that is hidden now.
mkdir -p "$root$prefix"
mount --bind "$prefix" "$root$prefix"
mount -o remount,bind,ro "$root$prefix"
hostname "$name"

mkdir -p "$root/run/sshd" "$root/home/$user/.ssh"
echo "$user:x:2001:2001::/home/$user:/bin/bash" >>"$root/etc/passwd"
echo "$user:x:2001:" >>"$root/etc/group"
echo "127.0.0.1 localhost $name" >"$root/etc/hosts"
cp "$folder/authorized_keys" "$root/home/$user/.ssh/authorized_keys"
cp "$folder"/host_key* "$folder/sshd_config" "$root/run/sshd/"
chown -R 2001:2001 "$root/home/$user"
chmod 700 "$root/home/$user/.ssh"
chmod 600 "$root/run/sshd/host_key"
# An ordinary user reaches a Python that lies below root's home.
chmod 711 "$root/root"

# Its root is ours too, and must not reach the kernel that we share.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
# Who writes "off" there powers the machine off, as whoever writes "o" to the kernel's does.
mkfifo -m 622 "$root/run/power"
if [ -e "$root/proc/sysrq-trigger" ]; then
    mount --bind "$root/run/power" "$root/proc/sysrq-trigger"
fi

if [ -d "$folder/seed" ]; then
    cp -r "$folder/seed" "$root/run/seed"
    exec chroot "$root" /bin/bash /run/seed/init
fi
exec chroot "$root" /usr/sbin/sshd -D -e -f /run/sshd/sshd_config
