#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The init of the Linux guest. With /guest/capture.Image there, it loads that by kexec -p and crashes; with
# /guest/ram-image there, it works for a while and then idles; else a shell.
# /guest/append is the capture kernel's command line, /guest/capture.initrd its initramfs, if there is one; /guest/script runs before the crash.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# What an own part of the initramfs brings runs instead of everything else: a test's own init.
[ ! -x /guest/init ] || exec /guest/init

# Fills RAM as a small system's is after a while: files of text, programs and compressed data, deleted files, caches,
# daemons. No clock in it, no chance. 27 % of 256 MiB is then not zero, and a seventh of that occurs more than once.
work() {
    syslogd -C64
    klogd
    cat /proc/kallsyms >/tmp/symbols
    gzip -c /tmp/symbols >/tmp/symbols.gz
    tar -c -f /tmp/system.tar /bin/busybox /sbin /lib /init
    gzip -c /tmp/system.tar >/tmp/system.tar.gz
    # The devices, as a daemon that names them does at boot.
    find /bin /lib /proc/sys /sys/devices | sort >/tmp/names
    # Deleted again: the pages are free, and keep their bytes.
    mkdir /tmp/old
    cp /bin/busybox /sbin/* /lib/* /tmp/old
    sha256sum /tmp/* /tmp/*/* >/tmp/sums
    rm -r /tmp/old
    # Processes that come and go, and some that stay.
    for count in $(seq 1 200); do
        echo "$count" | sed 's/1/one/g' | awk '{ print length($0) }' >>/tmp/counts
    done
    httpd -p 127.0.0.1:80 -h /tmp
    crond -b -L /tmp/cron
    for seconds in 100001 100002 100003 100004; do
        sleep "$seconds" &
    done
    dmesg >/tmp/dmesg
    cat /proc/meminfo >/tmp/meminfo
}

if [ -f /guest/ram-image ]; then
    work
    # What was put off to later, in the kernel as well, is done by then.
    sleep 5
    echo 'guest: idle'
    while :; do sleep 100000; done
fi
if [ -f /guest/capture.Image ]; then
    echo "guest: crash region of $(cat /sys/kernel/kexec_crash_size) bytes: $(grep 'Crash kernel' /proc/iomem)"
    set --
    [ ! -f /guest/capture.initrd ] || set -- --initrd=/guest/capture.initrd
    if ! kexec -c -p /guest/capture.Image "$@" --command-line="$(cat /guest/append)"; then
        echo 'guest: kexec -p FAILED'
        poweroff -f
    fi
    echo "guest: loaded: $(cat /sys/kernel/kexec_crash_loaded)"
    [ ! -x /guest/script ] || /guest/script
    echo 'guest: crashing'
    echo 1 >/proc/sys/kernel/sysrq
    echo c >/proc/sysrq-trigger
    echo 'guest: still alive after the crash'
    poweroff -f
fi
echo 'guest: no capture Image; a shell (poweroff -f ends it)'
setsid -c sh </dev/console >/dev/console 2>&1
poweroff -f
