#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Saves the RAM of a QEMU guest as a raw image: what QEMU's own pmemsave writes while the guest is stopped.

Usage: ram_image.py QMP_SOCKET IMAGE VERSION    Stops the guest, saves its RAM and ends QEMU. The image must hold the banner
                                                of Linux VERSION; exit status 1 when it does not, or QEMU refuses.

Zero pages are holes of the file where the file system has holes.
"""

import json
import os
import socket
import sys

# Where QEMU virt has its RAM.
RAM_START = 0x4000_0000
PAGE = 4096
# Longest wait for an answer, in seconds: a quarter of a gigabyte is written meanwhile.
ANSWER_LIMIT = 60


class Wrong(Exception):
    """The guest's RAM could not be saved, or is none."""


class Qmp:
    """A connection to QEMU's monitor."""

    def __init__(self, stream):
        self.stream = stream
        if "QMP" not in self.receive():
            raise Wrong("QMP: no greeting")
        self.ask("qmp_capabilities")

    def receive(self):
        """Returns the next message."""
        line = self.stream.readline()
        if not line:
            raise Wrong("QMP: QEMU ended the connection")
        return json.loads(line)

    def ask(self, command, **arguments):
        """Returns what a command returns; events that come before are passed over."""
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.stream.flush()
        while True:
            answer = self.receive()
            if "error" in answer:
                raise Wrong(f"QMP: {command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]


def copy_sparse(source, target):
    """Copies an image, leaving a hole for each zero page."""
    while chunk := source.read(PAGE):
        if chunk.count(0) == len(chunk):
            target.seek(len(chunk), os.SEEK_CUR)
        else:
            target.write(chunk)
    target.truncate()


def check(image, size, version):
    """Raises Wrong unless `image` holds the `size` bytes of a machine's RAM with Linux `version` in it."""
    if len(image) != size:
        raise Wrong(f"the image has {len(image)} bytes, the guest's RAM {size}")
    if image.count(0) == len(image):
        raise Wrong("the image is all zero")
    if b"Linux version " + version.encode() not in image:
        raise Wrong(f"the image does not hold the banner 'Linux version {version}'")


def save(qmp, path, version):
    """Saves the RAM of the machine behind `qmp` at `path`, whole or not at all; returns its size."""
    qmp.ask("stop")
    size = qmp.ask("query-memory-size-summary")["base-memory"]
    raw, new = path + ".raw", path + ".new"
    try:
        qmp.ask("pmemsave", val=RAM_START, size=size, filename=os.path.abspath(raw))
        with open(raw, "rb") as source, open(new, "wb") as target:
            copy_sparse(source, target)
        with open(new, "rb") as image:
            check(image.read(), size, version)
        os.replace(new, path)
    finally:
        for leftover in (raw, new):
            if os.path.exists(leftover):
                os.remove(leftover)
    return size


def main():
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    _, address, path, version = sys.argv
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_LIMIT)
            connection.connect(address)
            qmp = Qmp(connection.makefile("rwb"))
            size = save(qmp, path, version)
            qmp.ask("quit")
    except (Wrong, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"RAM image: {path}, {size >> 20} MiB of Linux {version}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
