#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints "URI SIGNED-BY" of the first apt source, in the files given, that carries a suite with the component main.

Usage: apt_archive.py SUITE FILE...    Reads one-line (.list) and deb822 (.sources) files; exit status 1 when none has it.
"""

import re
import sys


def one_line(text):
    """Yields (uri, suites, components, key) of a .list file."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<rest>\S.*)", line.split("#")[0])
        if not match:
            continue
        words = match["rest"].split()
        key = re.search(r"signed-by=(\S+)", match["options"] or "", re.IGNORECASE)
        if len(words) >= 3:
            yield words[0], [words[1]], words[2:], key[1] if key else "-"


def deb822(text):
    """Yields (uri, suites, components, key) of a .sources file; an embedded key counts as none."""
    for stanza in re.split(r"\n\s*\n", text):
        fields, name = {}, None
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            match = re.match(r"([A-Za-z-]+):\s*(.*)", line)
            if match:
                name = match[1].lower()
                fields[name] = match[2].strip()
            elif name and line[:1].isspace():
                fields[name] = f"{fields[name]} {line.strip()}".strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        key = fields.get("signed-by", "-") or "-"
        key = key if re.fullmatch(r"/\S+", key) else "-"
        for uri in fields.get("uris", "").split():
            yield uri, fields.get("suites", "").split(), fields.get("components", "").split(), key


def main():
    suite, files = sys.argv[1], sys.argv[2:]
    for path in files:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        parse = deb822 if path.endswith(".sources") else one_line
        for uri, suites, components, key in parse(text):
            if suite in suites and "main" in components and re.match(r"(https?|mirror\+\S+|file|ftp):", uri):
                print(uri, key)
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
