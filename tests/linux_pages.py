#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Goes through the page array of a crashed Linux with drgn, from the lowest page up, and says which pages are what.

Usage: linux_pages.py VMCORE START END

Prints a line "CLASS START END" of physical addresses for each run of free, cache, private-cache or user pages. drgn
translates the addresses by the page tables in the dump; what the structures mean is told here, by makedumpfile's rules.
"""

import itertools
import re
import struct
import sys

import drgn

PAGE = 4096


def vmcoreinfo(path):
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    start = head.index(b"OSRELEASE=")
    text = head[start : head.index(b"\0", start)].decode()
    values = dict(line.split("=", 1) for line in text.splitlines())

    def number(key):
        value = values[key]
        return int(value, 16 if key.startswith("SYMBOL") else 0) if re.match(r"-?[0-9a-fx]+$", value) else value

    return number


def classes(program, info, first, end):
    """Yields (page frame, class) as makedumpfile's walk over the array leaves pages out."""
    size = info("SIZE(page)")
    array = program.read(info("SYMBOL(vmemmap)") + first * size, (end - first) * size)

    def member(frame, name, kind):
        return struct.unpack_from(kind, array, (frame - first) * size + info(f"OFFSET(page.{name})"))[0]

    def bit(name):
        return 1 << info(f"NUMBER(PG_{name})")

    frame = first
    while frame < end:
        flags, mapping = member(frame, "flags", "<Q"), member(frame, "mapping", "<Q")
        kind = member(frame, "_mapcount", "<i")
        is_slab = kind == info("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)")
        is_anonymous = mapping & 1 and not is_slab
        is_cache = flags & bit("lru") or flags & bit("swapcache") and flags & bit("swapbacked")
        count, found = 1, None
        if flags & info("NUMBER(PG_head_mask)"):
            count = 1 << (member(frame + 1, "flags", "<Q") & 0xFF)
        if member(frame, "compound_head", "<Q") & 1:
            count = 1
        elif not is_slab and kind == info("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"):
            count, found = 1 << member(frame, "private", "<Q"), "free"
        elif is_cache and not is_anonymous:
            found = "private-cache" if flags & bit("private") else "cache"
        elif is_anonymous or kind == info("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)"):
            found = "user"
        if found is None:
            count = 1
        for _ in range(count):
            yield frame, found
            frame += 1


def main():
    path, start, end = sys.argv[1], int(sys.argv[2], 0), int(sys.argv[3], 0)
    program = drgn.Program()
    program.set_core_dump(path)
    pages = classes(program, vmcoreinfo(path), start // PAGE, end // PAGE)
    for name, run in itertools.groupby(pages, lambda page: page[1]):
        run = list(run)
        if name is not None:
            print(f"{name} {run[0][0] * PAGE:#x} {(run[-1][0] + 1) * PAGE:#x}")


main()
