#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares a vmcore with the memory of the machine it was taken from; knows nothing of Afterimage's own code.

Usage: compare_vmcore.py --memory FILE [--base ADDRESS] [--region-size BYTES] VMCORE

FILE is QEMU's memory-backend-file (share=on), whose first byte is the physical address --base. Two claims are checked:
every byte of every PT_LOAD equals the memory; and every page that is not zero is in a PT_LOAD, or in a gap that the
file declares and explains, or in the crash region, the one aligned range of --region-size that is left out in silence.
A gap that was lost or unreadable counts as a difference. Exit status 0 equal, 1 different or unreadable.
"""

import argparse
import bisect
import mmap
import os
import struct
import sys

PT_LOAD, PT_NOTE, PN_XNUM = 1, 4, 0xFFFF
EM_AARCH64, ET_CORE = 183, 4
PAGE, CHUNK = 4096, 1 << 20
NOTE_GAPS = 0x41460005
GAP_CLASSES = {1: "zero", 2: "free", 3: "application data", 4: "secret", 5: "unreadable", 6: "lost"}
BAD_GAPS = {5, 6}


class Wrong(Exception):
    """A file that is not what it should be, with the reason."""


def program_headers(core):
    """Returns (type, offset, paddr, filesz, memsz) of each program header of an ELF64 core."""
    if len(core) < 64 or core[:6] != b"\x7fELF\x02\x01":
        raise Wrong("not a little-endian ELF64 file")
    kind, machine = struct.unpack_from("<HH", core, 16)
    if (kind, machine) != (ET_CORE, EM_AARCH64):
        raise Wrong(f"e_type {kind}, e_machine {machine}: not an AArch64 core file")
    phoff, shoff = struct.unpack_from("<QQ", core, 32)
    phentsize, phnum = struct.unpack_from("<HH", core, 54)
    if phnum == PN_XNUM:
        phnum = struct.unpack_from("<I", core, shoff + 44)[0]
    headers = []
    for index in range(phnum):
        kind, _, offset, _, paddr, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", core, phoff + index * phentsize)
        if kind in (PT_LOAD, PT_NOTE) and offset + filesz > len(core):
            raise Wrong(f"program header {index} reaches beyond the end of the file: {offset:#x} + {filesz:#x}")
        headers.append((kind, offset, paddr, filesz, memsz))
    return headers


def notes(data):
    """Yields (name, type, payload) of each note of a PT_NOTE segment."""
    at = 0
    while at + 12 <= len(data):
        namesz, descsz, kind = struct.unpack_from("<III", data, at)
        name_end = at + 12 + namesz
        desc = (name_end + 3) & ~3
        if desc + descsz > len(data):
            raise Wrong(f"note at {at:#x} reaches beyond its segment")
        yield data[at + 12 : name_end].rstrip(b"\0"), kind, data[desc : desc + descsz]
        at = (desc + descsz + 3) & ~3


def declared_gaps(core, headers):
    """Returns (start, end, class) of each gap that the file declares: docs/architecture.md, the GAPS note."""
    gaps = []
    for kind, offset, _, filesz, _ in headers:
        if kind != PT_NOTE:
            continue
        for name, number, payload in notes(core[offset : offset + filesz]):
            if name != b"AFTERIMAGE" or number != NOTE_GAPS:
                continue
            if len(payload) < 24:
                raise Wrong(f"GAPS note of {len(payload)} bytes")
            _, count, _, size = struct.unpack_from("<IIII", payload)
            if size < 20 or 24 + count * size > len(payload):
                raise Wrong(f"GAPS note: {count} entries of {size} bytes do not fit into {len(payload)}")
            gaps += [struct.unpack_from("<QQI", payload, 24 + i * size) for i in range(count)]
    return gaps


def merged(ranges):
    """Returns sorted, disjoint ranges."""
    result = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        elif end > start:
            result.append((start, end))
    return result


def covers(ranges, starts, start, end):
    """Tells whether start..end lies in one of the merged ranges."""
    index = bisect.bisect_right(starts, start) - 1
    return index >= 0 and end <= ranges[index][1]


def data_pages(memory, size):
    """Yields the offset of each page of the memory file that is not zero; holes are not read."""
    zero, at = bytes(PAGE), 0
    while at < size:
        try:
            start = os.lseek(memory.fileno(), at, os.SEEK_DATA) & ~(PAGE - 1)
        except OSError:
            return
        at = min(os.lseek(memory.fileno(), start, os.SEEK_HOLE), size)
        for begin in range(start, at, CHUNK):
            block = os.pread(memory.fileno(), min(CHUNK, at - begin), begin)
            if block.count(0) == len(block):
                continue
            for offset in range(0, len(block), PAGE):
                if block[offset : offset + PAGE] != zero[: len(block) - offset]:
                    yield begin + offset


def first_difference(left, right):
    """Returns the offset of the first byte that differs."""
    return next(index for index, (a, b) in enumerate(zip(left, right)) if a != b)


def compare(core, memory, base, region_size):
    """Returns the findings, and the numbers for the summary."""
    size = os.fstat(memory.fileno()).st_size
    headers = program_headers(core)
    loads = [header for header in headers if header[0] == PT_LOAD]
    findings, compared = [], 0
    if not loads:
        findings.append("the file holds no memory at all: no PT_LOAD")
    for _, offset, paddr, filesz, memsz in loads:
        if memsz != filesz:
            findings.append(f"PT_LOAD at {paddr:#x}: p_memsz {memsz:#x} is not p_filesz {filesz:#x}: gdb would show zeros")
        if paddr < base or paddr + filesz > base + size:
            findings.append(f"PT_LOAD {paddr:#x}..{paddr + filesz:#x} lies outside the memory")
            continue
        for at in range(0, filesz, CHUNK):
            length = min(CHUNK, filesz - at)
            ours = core[offset + at : offset + at + length]
            theirs = os.pread(memory.fileno(), length, paddr - base + at)
            if ours != theirs:
                findings.append(f"differs at physical {paddr + at + first_difference(ours, theirs):#x}")
                break
            compared += length
    gaps = declared_gaps(core, headers)
    for start, end, kind in gaps:
        if kind in BAD_GAPS or kind not in GAP_CLASSES:
            findings.append(f"gap {start:#x}..{end:#x}: {GAP_CLASSES.get(kind, f'class {kind}')}")
    # A gap that says "zero" explains only zeros, so it covers no page that is looked for here.
    explained = merged([(p, p + f) for _, _, p, f, _ in loads] + [(s, e) for s, e, kind in gaps if kind != 1])
    starts = [start for start, _ in explained]
    pages = [base + at for at in data_pages(memory, size)]
    silent = [page for page in pages if not covers(explained, starts, page, page + PAGE)]
    if silent:
        region = silent[0] // region_size * region_size
        strays = [page for page in silent if not region <= page < region + region_size]
        findings += [f"page {page:#x} is not zero, and neither in the file nor in a declared gap" for page in strays[:10]]
        if len(strays) > 10:
            findings.append(f"and {len(strays) - 10} more such pages")
    return findings, {"compared": compared, "pages": len(pages), "left": len(silent), "gaps": len(gaps)}


def main():
    parser = argparse.ArgumentParser(description="Compares a vmcore with the memory it was taken from.")
    parser.add_argument("vmcore")
    parser.add_argument("--memory", required=True)
    parser.add_argument("--base", type=lambda text: int(text, 0), default=0x4000_0000)
    parser.add_argument("--region-size", type=lambda text: int(text, 0), default=0x20_0000)
    arguments = parser.parse_args()
    try:
        with open(arguments.vmcore, "rb") as file, open(arguments.memory, "rb") as memory:
            if os.fstat(file.fileno()).st_size == 0:
                raise Wrong("empty file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as core:
                findings, numbers = compare(core, memory, arguments.base, arguments.region_size)
    except (OSError, Wrong, struct.error) as error:
        print(f"compare_vmcore: {arguments.vmcore}: {error}", file=sys.stderr)
        return 1
    for finding in findings:
        print(f"compare_vmcore: {finding}", file=sys.stderr)
    verdict = "DIFFERENT" if findings else "equal"
    print(f"{verdict}: {numbers['compared']} bytes compared with the machine's memory; {numbers['pages']} of its pages are "
          f"not zero, {numbers['left']} of them in the crash region, {numbers['gaps']} gaps declared")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
