#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks that two backtraces of the crashing CPU go through the same lines: same_frames.py GDB OTHER

From gdb's innermost frames, the faulting one and the three calls above it, each FILE:LINE must be in the other one, in
the same order. Exit status 1 when one is missing, or when gdb names fewer.
"""

import re
import sys

FRAMES = 4
LINE = re.compile(r"([\w.-]+\.rs:\d+)")


def lines_of(text):
    """Returns each FILE:LINE that a backtrace names, without folders, in order."""
    return LINE.findall(text)


def missing(gdb, other, frames=FRAMES):
    """Returns the finding as text, or None when the other backtrace has gdb's innermost lines in order."""
    # On loading a core gdb prints the innermost frame by itself; the backtrace is what begins with the last #0.
    wanted = lines_of(gdb[max(gdb.rfind("#0 "), 0) :])[:frames]
    if len(wanted) < frames:
        return f"gdb names {len(wanted)} source lines; {frames} were expected"
    have = iter(lines_of(other))
    for line in wanted:
        if line not in have:
            return f"{line} is in gdb's backtrace and not, in that order, in the other one"
    return None


def main():
    with open(sys.argv[1], encoding="utf-8") as gdb, open(sys.argv[2], encoding="utf-8") as other:
        finding = missing(gdb.read(), other.read())
    if finding:
        print(f"same_frames: {finding}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
