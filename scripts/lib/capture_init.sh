#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The init of a Linux that is the capture kernel: copies /proc/vmcore to the file system on the first virtio disk, if there is
# one, or to the disk itself (vmcore_raw on the command line), and over the network to a TCP port of the host (vmcore_port=),
# and switches the machine off. guest_init.sh has mounted what is needed.
fail() {
    echo "capture: FAILED: $1"
    poweroff -f
}
while read -r module; do
    insmod "/lib/modules/$module.ko" || fail "insmod $module"
done </lib/modules/order
echo "capture: Linux $(uname -r), $(nproc) CPUs, $(sed -n 's/MemTotal: *//p' /proc/meminfo) of memory"
[ -r /proc/vmcore ] || fail 'there is no /proc/vmcore'
echo "capture: /proc/vmcore of $(stat -c %s /proc/vmcore) bytes"
if grep -q vmcore_raw /proc/cmdline; then
    # Past the page cache, so that the host has each part at once.
    dd if=/proc/vmcore of=/dev/vda bs=1M oflag=direct || fail 'dd to /dev/vda'
    echo 'capture: copied to the disk'
elif [ -b /dev/vda ]; then
    mkdir -p /mnt
    mount -t ext4 /dev/vda /mnt || fail 'mount /dev/vda'
    cp /proc/vmcore /mnt/vmcore || fail 'cp /proc/vmcore'
    umount /mnt || fail 'umount /dev/vda'
    echo 'capture: copied to the disk'
fi
port=$(sed -n 's/.*vmcore_port=\([0-9]*\).*/\1/p' /proc/cmdline)
if [ -n "$port" ]; then
    # The first guest, and the host, of QEMU's user network.
    ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 || fail 'eth0'
    nc 10.0.2.2 "$port" </proc/vmcore || fail "nc to port $port"
    echo 'capture: copied over the network'
fi
echo 'capture: done'
poweroff -f
