#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints the console text of a recorded line, without the frames: console_text.py < RECORDING

Frames travel between zero bytes (docs/protocol.md); text holds none.
"""

import sys


def console_text(recording):
    """Returns the pieces between zero bytes that are text."""
    pieces = []
    for piece in recording.split(b"\0"):
        try:
            text = piece.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if all(character.isprintable() or character in "\r\n\t\x1b" for character in text):
            pieces.append(text.replace("\r\n", "\n"))
    return "".join(pieces)


if __name__ == "__main__":
    sys.stdout.write(console_text(sys.stdin.buffer.read()))
