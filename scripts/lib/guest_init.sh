#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The init of the Linux guest. With /guest/capture.Image there, it loads that by kexec -p and crashes; else a shell.
# /guest/append is the capture kernel's command line; /guest/script runs before the crash.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# What an own part of the initramfs brings runs instead of everything else: a test's own init.
[ ! -x /guest/init ] || exec /guest/init

if [ -f /guest/capture.Image ]; then
    echo "guest: crash region of $(cat /sys/kernel/kexec_crash_size) bytes: $(grep 'Crash kernel' /proc/iomem)"
    if ! kexec -c -p /guest/capture.Image --command-line="$(cat /guest/append)"; then
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
