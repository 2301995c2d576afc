#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks the conventions of the tree that no compiler knows: heads, sizes, unsafe, folder map, placeholders.

Usage: conventions.py ROOT    Prints each finding as FILE: what is wrong; exit status 1 when there is one.
"""

import pathlib
import re
import subprocess
import sys

SPDX = "SPDX-License-Identifier: MIT OR Apache-2.0"
LINES_MAX = 500
BOARD_LINES_MAX = 99
PORTABLE = ["boot-config", "vmcore", "wire"]
# Crates whose own code holds no unsafe; `machine` is the only library that does.
SAFE = [*PORTABLE, "capture", "capture-kernel", "kernel", "afterimage"]
# What runs after a crash: where it begins with these lints (and what lies below it), and the lints.
CRASH_PATH = [
    "src/capture/lib.rs",
    "src/capture-kernel/lib.rs",
    "src/kernel/crash.rs",
    "src/machine/bcm2835_dma.rs",
    "src/machine/bcm2835_gpio.rs",
    "src/machine/bcm2835_mailbox.rs",
    "src/machine/bcm2835_pm.rs",
    "src/machine/bcm2836.rs",
    "src/machine/cadence.rs",
    "src/machine/capture_entry.rs",
    "src/machine/console.rs",
    "src/machine/exceptions.rs",
    "src/machine/foreign.rs",
    "src/machine/gic_v2.rs",
    "src/machine/gic_v3.rs",
    "src/machine/gic/quiesce.rs",
    "src/machine/gic/state.rs",
    "src/machine/intc.rs",
    "src/machine/mini_uart.rs",
    "src/machine/npcm_watchdog.rs",
    "src/machine/ns16550.rs",
    "src/machine/old_memory.rs",
    "src/machine/own_memory.rs",
    "src/machine/pl011.rs",
    "src/machine/psci.rs",
    "src/machine/region/armed.rs",
    "src/machine/reset.rs",
    "src/machine/restart.rs",
    "src/machine/survivor.rs",
    "src/machine/system_registers.rs",
    "src/machine/uart.rs",
    "src/machine/videocore.rs",
    "src/machine/watchdog.rs",
    "src/machine/way_out.rs",
    "src/vmcore/lib.rs",
    "src/wire/lib.rs",
]
CRASH_PATH_LINTS = ["arithmetic_side_effects", "expect_used", "indexing_slicing", "panic", "unreachable", "unwrap_used"]
# Split, so that this file does not find itself.
PLACEHOLDERS = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X:", "to" + "do!", "unimple" + "mented!", "lorem " + "ipsum"]))


def tracked(root):
    """Returns the files under version control that exist, relative to the root."""
    listing = subprocess.run(["git", "-C", root, "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    return [path for name in listing.split("\0") if name and (path := pathlib.Path(name)) and (root / path).is_file()]


def code_lines(text):
    """Counts lines that are neither blank nor comment."""
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("//"))


def check_files(root, files):
    """Yields findings about single files."""
    for path in files:
        if path.suffix not in (".rs", ".s", ".ld", ".sh", ".py", ".toml", ".md", "") or path.name in ("LICENSE-APACHE", "Cargo.lock"):
            continue
        text = (root / path).read_text(encoding="utf-8")
        head = "\n".join(text.splitlines()[:3])
        script = text.startswith("#!")
        if (path.suffix in (".rs", ".s", ".ld", ".sh", ".py") or script) and SPDX not in head:
            yield f"{path}: no SPDX line at its head"
        if path.suffix == ".rs" and "\n//! " not in f"\n{text}":
            yield f"{path}: no //! line that says what the file is for"
        if path.suffix in (".rs", ".s", ".py", ".sh") and len(text.splitlines()) > LINES_MAX:
            yield f"{path}: {len(text.splitlines())} lines; {LINES_MAX} is the limit"
        for number, line in enumerate(text.splitlines(), 1):
            if PLACEHOLDERS.search(line):
                yield f"{path}:{number}: placeholder: {line.strip()}"


def check_crates(root):
    """Yields findings about whole crates."""
    for name in SAFE:
        entry = root / "src" / name / "lib.rs"
        text = entry.read_text(encoding="utf-8")
        if "#![forbid(unsafe_code)]" not in text:
            yield f"{entry.relative_to(root)}: no #![forbid(unsafe_code)]"
    for name in CRASH_PATH:
        denied = re.search(r"^#!\[cfg_attr\(\s*not\(test\),\s*deny\((.*?)\)\s*\)\]", (root / name).read_text(encoding="utf-8"), re.M | re.S)
        missing = [lint for lint in CRASH_PATH_LINTS if not denied or f"clippy::{lint}" not in denied[1]]
        if missing:
            yield f"{name}: crash path without the lints {', '.join(missing)}"
    for name in PORTABLE:
        for path in sorted((root / "src" / name).rglob("*.rs")):
            if re.search(r"cfg!?\(.*\b(target_os|target_arch)\b", path.read_text(encoding="utf-8")):
                yield f"{path.relative_to(root)}: a portable crate asks for its target"
    for board in sorted((root / "boards").iterdir()):
        lines = sum(code_lines(path.read_text(encoding="utf-8")) for path in board.rglob("*.rs"))
        if lines > BOARD_LINES_MAX:
            yield f"{board.relative_to(root)}: {lines} lines of code; a board stays under {BOARD_LINES_MAX + 1}"


def check_named_tests(root):
    """Yields tests that docs/faults.md names and that do not exist."""
    page = (root / "docs/faults.md").read_text(encoding="utf-8")
    for name, test in sorted(set(re.findall(r"`(\w+)::(\w+)`", page))):
        path = root / "tests" / f"{name}.rs"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not re.search(rf"#\[test\]\n(#\[.*\]\n)*fn {test}\(\)", text):
            yield f"docs/faults.md: there is no test {name}::{test}"


def check_folder_map(root, files):
    """Yields folders that the README's map lacks, and entries of the map that do not exist."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    match = re.search(r"^## Folder map\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    if not match:
        yield "README.md: no section 'Folder map'"
        return
    named = set(re.findall(r"^\| `([^`]+)` \|", match[1], re.MULTILINE))
    for name in sorted(named):
        if not (root / name).exists():
            yield f"README.md: the folder map names {name}, which does not exist"
    present = {path.parts[0] for path in files if len(path.parts) > 1}
    present |= {"/".join(path.parts[:2]) for path in files if path.parts[0] in ("src", "boards") and len(path.parts) > 2}
    present -= {"src", "boards", ".cargo"}
    for name in sorted(present - named):
        yield f"README.md: the folder map lacks {name}"


def main():
    root = pathlib.Path(sys.argv[1])
    files = tracked(root)
    findings = [*check_files(root, files), *check_crates(root), *check_named_tests(root), *check_folder_map(root, files)]
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
