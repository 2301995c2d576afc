#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads all memory of a kdump-compressed dump with libkdumpfile or drgn, page by page.

Usage: read_kdump.py libkdumpfile|drgn DUMP PAGE_BYTES START END OUT

Writes each page that the dump holds to the sparse file OUT, at its physical address less START, and prints what it holds as
lines "FIRST END" of hexadecimal addresses. drgn also prints "release NAME" of the Linux that it takes the dump for.
"""

import sys


def libkdumpfile(path):
    """Returns a function that reads physical memory, and None for a page that is absent."""
    import kdumpfile
    from kdumpfile.exceptions import NoDataException

    dump = kdumpfile.kdumpfile(path)

    def read(address, length):
        try:
            return bytes(dump.read(kdumpfile.KDUMP_MACHPHYSADDR, address, length))
        except NoDataException:
            return None

    return read


def drgn(path):
    """The same with drgn, which takes dumps of Linux only."""
    import drgn

    program = drgn.Program()
    program.set_core_dump(path)
    print("release", program["UTS_RELEASE"].string_().decode())

    def read(address, length):
        try:
            return program.read(address, length, True)
        except drgn.FaultError:
            return None

    return read


def main():
    reader, path, *numbers, out = sys.argv[1:]
    page, start, end = map(int, numbers)
    read = {"libkdumpfile": libkdumpfile, "drgn": drgn}[reader](path)
    first = None
    with open(out, "wb") as file:
        file.truncate(end - start)
        for address in range(start, end, page):
            content = read(address, page)
            if content is None:
                if first is not None:
                    print(f"{first:x} {address:x}")
                first = None
                continue
            first = address if first is None else first
            if any(content):
                file.seek(address - start)
                file.write(content)
    if first is not None:
        print(f"{first:x} {end:x}")


if __name__ == "__main__":
    main()
