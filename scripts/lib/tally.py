#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Adds up what test runs say of themselves: tally.py LOG...    Prints "PASSED FAILED IGNORED".

Reads the result lines of Rust's test harness, ours (which prints the same line) and Python's unittest.
"""

import re
import sys

RUST = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed(?:; (\d+) ignored)?", re.MULTILINE)
RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
BROKEN = re.compile(r"^FAILED \((.*)\)$", re.MULTILINE)
SKIPPED = re.compile(r"^OK \(.*skipped=(\d+).*\)$", re.MULTILINE)


def tally(text):
    """Returns (passed, failed, ignored)."""
    passed = failed = ignored = 0
    for match in RUST.finditer(text):
        passed, failed, ignored = passed + int(match[1]), failed + int(match[2]), ignored + int(match[3] or 0)
    ran = sum(int(match[1]) for match in RAN.finditer(text))
    broken = sum(int(number) for match in BROKEN.finditer(text)
                 for number in re.findall(r"(?:failures|errors)=(\d+)", match[1]))
    skipped = sum(int(match[1]) for match in SKIPPED.finditer(text))
    return passed + ran - broken - skipped, failed + broken, ignored + skipped


def main():
    texts = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    print(*tally("\n".join(texts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
