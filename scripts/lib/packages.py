#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Answers questions about the workspace from `cargo metadata`, and proves that its arrows point one way.

Usage: packages.py host       names the packages that are tested on the host (default-members without `blackbox`)
       packages.py portable   names the portable packages
       packages.py firmware   names the packages that are linted for the target
       packages.py layering   checks the direction of every dependency, by `cargo tree`; exit status 1 on a wrong one
"""

import json
import os
import subprocess
import sys

# What each crate of ours may use of ours: docs/architecture.md, "Crates and direction". Build scripts add `linker`.
MAY_USE = {
    "boot-config": set(),
    "vmcore": set(),
    "wire": set(),
    "linker": set(),
    "machine": {"boot-config", "vmcore"},
    "kernel": {"machine", "boot-config", "vmcore", "wire"},
    "capture": {"boot-config", "vmcore", "wire"},
    "capture-kernel": {"capture", "machine", "wire"},
    "harness": {"kernel", "machine"},
    "afterimage": {"vmcore", "wire"},
    # Both ends of the link, and what a bench compares them with.
    "simulator": {"capture", "wire", "vmcore", "afterimage", "boot-config", "peers"},
    # The judge of the dumps knows nothing of ours but the built artefacts.
    "blackbox": set(),
    # What others would send; our page classes are compared with theirs.
    "peers": {"vmcore"},
    "codecs": {"wire"},
    "target-tests": {"harness", "kernel", "machine", "linker"},
}
BOARD_MAY_USE = {"kernel", "capture-kernel", "machine", "linker"}
PORTABLE = ["boot-config", "vmcore", "wire"]
# Crates that touch hardware: no portable crate, nor the capture logic or the host command, may reach one.
HARDWARE = {"aarch64-cpu", "arm-gic", "smccc", "safe-mmio", "tock-registers", "buddy_system_allocator"}
FIRMWARE = ["machine", "kernel", "capture", "capture-kernel", "harness"]


def cargo(*arguments):
    """Returns what a cargo command prints."""
    return subprocess.run(["cargo", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def metadata():
    """Returns the workspace's own packages by name, and the names of its default members."""
    data = json.loads(cargo("metadata", "--format-version", "1", "--no-deps"))
    names = {package["id"]: package["name"] for package in data["packages"]}
    return {package["name"]: package for package in data["packages"]}, [names[i] for i in data["workspace_default_members"]]


def reach(package, depth=None):
    """Returns the crates that a package uses, outside tests: directly (depth 1) or at all, on any target."""
    limit = ["--depth", str(depth)] if depth else []
    lines = cargo("tree", "-p", package, "-e", "normal,build", "--target", "all", "--prefix", "none", "--format", "{p}",
                  "--no-dedupe", *limit).splitlines()
    return {line.split()[0] for line in lines if line.strip()} - {package}


def layering():
    """Prints each arrow that points the wrong way; returns the exit status."""
    packages, _ = metadata()
    wrong = []
    for name, package in packages.items():
        board = os.sep + "boards" + os.sep in package["manifest_path"]
        allowed = BOARD_MAY_USE if board else MAY_USE.get(name)
        if allowed is None:
            wrong.append(f"{name}: no rule says what it may use (scripts/lib/packages.py)")
            continue
        for used in sorted(reach(name, 1) & set(packages) - allowed):
            wrong.append(f"{name} -> {used}: this arrow is not in docs/architecture.md")
        if name in (*PORTABLE, "capture", "afterimage"):
            for used in sorted(reach(name) & HARDWARE):
                wrong.append(f"{name} reaches {used}, which touches hardware")
    for line in wrong:
        print(f"layering: {line}", file=sys.stderr)
    if not wrong:
        print(f"layering: {len(packages)} packages, every arrow points one way", file=sys.stderr)
    return 1 if wrong else 0


def main():
    question = sys.argv[1] if len(sys.argv) == 2 else ""
    if question == "host":
        print(*(name for name in metadata()[1] if name != "blackbox"))
    elif question == "portable":
        print(*PORTABLE)
    elif question == "firmware":
        print(*FIRMWARE)
    elif question == "layering":
        return layering()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
