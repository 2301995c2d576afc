#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tests of the scripts' own readers: python3 -m unittest scripts/lib/test_scripts.py"""

import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import apt_archive  # noqa: E402
import compare_vmcore  # noqa: E402
import console_text  # noqa: E402
import ram_image  # noqa: E402
import same_frames  # noqa: E402
import tally  # noqa: E402

BASE = 0x4000_0000
PAGE = 4096
REGION = 0x20_0000
# 4 MiB of memory: a page of data, one of zeros, one of data; the second 2 MiB are the crash region.
MEMORY = b"\x11" * PAGE + bytes(PAGE) + b"\x22" * PAGE + bytes(REGION - 3 * PAGE) + b"\x33" * REGION


def gaps_note(gaps):
    """Returns a PT_NOTE segment with one GAPS note."""
    payload = struct.pack("<IIIIQ", 1, len(gaps), 0, 24, 0) + b"".join(struct.pack("<QQII", *gap, 0) for gap in gaps)
    return struct.pack("<III", 11, len(payload), 0x41460005) + b"AFTERIMAGE\0\0" + payload


def core(loads, gaps=(), machine=183):
    """Returns a core file of (paddr, bytes) and (start, end, class)."""
    note = gaps_note(gaps)
    offset = 64 + 56 * (len(loads) + 1)
    table = struct.pack("<IIQQQQQQ", 4, 0, offset, 0, 0, len(note), 0, 4)
    body = note
    for paddr, data in loads:
        table += struct.pack("<IIQQQQQQ", 1, 4, offset + len(body), paddr, paddr, len(data), len(data), 0)
        body += data
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, len(loads) + 1, 0, 0, 0)
    return header + table + body


def findings(data, memory=MEMORY):
    """Returns what the comparison finds."""
    with tempfile.TemporaryFile() as file:
        file.write(memory)
        file.flush()
        return compare_vmcore.compare(data, file, BASE, REGION)[0]


class CompareVmcore(unittest.TestCase):
    def test_whole_memory_without_region_is_equal(self):
        self.assertEqual(findings(core([(BASE, MEMORY[:REGION])])), [])

    def test_zero_page_left_out_is_equal(self):
        self.assertEqual(findings(core([(BASE, MEMORY[:PAGE]), (BASE + 2 * PAGE, MEMORY[2 * PAGE : 3 * PAGE])])), [])

    def test_one_changed_byte_is_named_by_its_address(self):
        changed = bytearray(MEMORY[:REGION])
        changed[PAGE + 7] = 1
        self.assertEqual(findings(core([(BASE, bytes(changed))])), [f"differs at physical {BASE + PAGE + 7:#x}"])

    def test_missing_page_is_reported(self):
        found = findings(core([(BASE, MEMORY[:PAGE])]), MEMORY[:REGION] + bytes(REGION))
        # The only silent page lies in an aligned 2 MiB range, as a region would; with the real region it is a stray.
        self.assertEqual(found, [])
        found = findings(core([(BASE, MEMORY[:PAGE])]))
        self.assertTrue(found)

    def test_missing_page_in_a_declared_gap_is_equal(self):
        gap = (BASE + 2 * PAGE, BASE + 3 * PAGE, 2)
        self.assertEqual(findings(core([(BASE, MEMORY[:PAGE])], [gap])), [])

    def test_data_page_declared_zero_is_reported(self):
        gap = (BASE + 2 * PAGE, BASE + 3 * PAGE, 1)
        self.assertTrue(findings(core([(BASE, MEMORY[:PAGE])], [gap])))

    def test_lost_gap_is_reported(self):
        gap = (BASE + 2 * PAGE, BASE + 3 * PAGE, 6)
        self.assertEqual(findings(core([(BASE, MEMORY[:PAGE])], [gap])), [f"gap {gap[0]:#x}..{gap[1]:#x}: lost"])

    def test_load_outside_the_memory_is_reported(self):
        self.assertTrue(findings(core([(BASE, MEMORY[:REGION]), (BASE + 2 * REGION, b"x")])))

    def test_file_of_another_machine_is_refused(self):
        with self.assertRaises(compare_vmcore.Wrong):
            findings(core([], machine=62))

    def test_truncated_file_is_refused(self):
        with self.assertRaises(compare_vmcore.Wrong):
            findings(core([(BASE, MEMORY[:REGION])])[:-1])

    def test_no_load_is_reported(self):
        self.assertIn("the file holds no memory at all: no PT_LOAD", findings(core([])))


class AptArchive(unittest.TestCase):
    def test_one_line_source_gives_uri_and_key(self):
        text = "# a comment\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n"
        self.assertEqual(list(apt_archive.one_line(text)),
                         [("http://mirror.example/debian", ["bookworm"], ["main", "contrib"], "/k.gpg")])

    def test_source_package_line_is_ignored(self):
        self.assertEqual(list(apt_archive.one_line("deb-src http://mirror.example/debian bookworm main")), [])

    def test_deb822_stanza_gives_each_uri(self):
        text = "Types: deb\n# c\nURIs: http://a.example http://b.example\nSuites: bookworm bookworm-updates\nComponents: main\n"
        self.assertEqual([source[0] for source in apt_archive.deb822(text)], ["http://a.example", "http://b.example"])

    def test_disabled_stanza_is_ignored(self):
        text = "Enabled: no\nTypes: deb\nURIs: http://a.example\nSuites: bookworm\nComponents: main\n"
        self.assertEqual(list(apt_archive.deb822(text)), [])

    def test_embedded_key_counts_as_none(self):
        text = "Types: deb\nURIs: http://a.example\nSuites: s\nComponents: main\nSigned-By:\n -----BEGIN\n .\n -----END\n"
        self.assertEqual([source[3] for source in apt_archive.deb822(text)], ["-"])


class ConsoleText(unittest.TestCase):
    def test_frames_between_zero_bytes_are_left_out(self):
        self.assertEqual(console_text.console_text(b"panic\r\n\0\x05\xff\x01\0\0done\r\n"), "panic\ndone\n")

    def test_frame_of_control_bytes_is_left_out(self):
        self.assertEqual(console_text.console_text(b"a\0\x01\x02\0b"), "ab")


class SameFrames(unittest.TestCase):
    GDB = "#0 f () at src/kernel/a.rs:1\n#1 g () at b.rs:2\n#2 h () at c.rs:3\n#3 i () at d.rs:4\n#4 x at e.rs:9\n"

    def test_same_lines_in_order_agree(self):
        self.assertIsNone(same_frames.missing(self.GDB, "CPU 2\n a.rs:1\n inlined b.rs:2\n c.rs:3\n d.rs:4\n"))

    def test_frame_printed_on_loading_is_not_counted(self):
        self.assertIsNone(same_frames.missing("#0 f () at a.rs:1\n1 code\n" + self.GDB, "a.rs:1 b.rs:2 c.rs:3 d.rs:4"))

    def test_missing_line_is_named(self):
        self.assertIn("b.rs:2", same_frames.missing(self.GDB, "a.rs:1 c.rs:3 d.rs:4"))

    def test_other_order_is_reported(self):
        self.assertIsNotNone(same_frames.missing(self.GDB, "b.rs:2 a.rs:1 c.rs:3 d.rs:4"))

    def test_short_backtrace_of_gdb_is_reported(self):
        self.assertIsNotNone(same_frames.missing("#0 f () at a.rs:1", "a.rs:1"))


class RamImage(unittest.TestCase):
    VERSION = "6.12.1-arm64"
    RAM = bytes(PAGE) + b"Linux version 6.12.1-arm64 (builder)".ljust(PAGE, b"\0") + bytes(2 * PAGE)

    class Monitor:
        """A QMP monitor of a guest with `ram`."""

        def __init__(self, ram, size):
            self.ram, self.size, self.asked = ram, size, []

        def ask(self, command, **arguments):
            self.asked.append(command)
            if command == "pmemsave":
                pathlib.Path(arguments["filename"]).write_bytes(self.ram)
            return {"base-memory": self.size}

    def save(self, ram, size):
        """Saves; returns what is at the path, what else is left there, and what was asked."""
        with tempfile.TemporaryDirectory() as directory:
            path, monitor = pathlib.Path(directory) / "image", self.Monitor(ram, size)
            try:
                ram_image.save(monitor, str(path), self.VERSION)
            except ram_image.Wrong:
                self.assertEqual(os.listdir(directory), [])
                raise
            self.assertEqual(os.listdir(directory), ["image"])
            return path.read_bytes(), monitor.asked

    def test_image_has_the_bytes_of_the_stopped_guest(self):
        image, asked = self.save(self.RAM, len(self.RAM))
        self.assertEqual(image, self.RAM)
        self.assertLess(asked.index("stop"), asked.index("pmemsave"))

    def test_image_of_another_size_is_refused_and_not_kept(self):
        with self.assertRaisesRegex(ram_image.Wrong, "16384 bytes, the guest's RAM 20480"):
            self.save(self.RAM, len(self.RAM) + PAGE)

    def test_image_of_zeros_is_refused(self):
        with self.assertRaisesRegex(ram_image.Wrong, "all zero"):
            self.save(bytes(PAGE), PAGE)

    def test_image_without_the_banner_is_refused(self):
        with self.assertRaisesRegex(ram_image.Wrong, "banner"):
            self.save(b"\x11" * PAGE, PAGE)

    def qmp(self, *messages):
        """Returns a monitor that says `messages`; what it is told goes nowhere."""
        stream = io.BytesIO(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        stream.write = len
        return ram_image.Qmp(stream)

    def test_event_before_an_answer_is_passed_over(self):
        monitor = self.qmp({"QMP": {}}, {"return": {}}, {"event": "STOP"}, {"return": {"base-memory": 7}})
        self.assertEqual(monitor.ask("query-memory-size-summary"), {"base-memory": 7})

    def test_refused_command_is_named(self):
        monitor = self.qmp({"QMP": {}}, {"return": {}}, {"error": {"desc": "no space"}})
        with self.assertRaisesRegex(ram_image.Wrong, "pmemsave: no space"):
            monitor.ask("pmemsave")

    def test_connection_that_ends_is_reported(self):
        with self.assertRaises(ram_image.Wrong):
            self.qmp({"QMP": {}})


class LinuxGuestArguments(unittest.TestCase):
    def refused(self, *arguments):
        """Returns what the script says of arguments that it must refuse before it does anything."""
        script = pathlib.Path(__file__).parent.parent / "linux-guest"
        done = subprocess.run([script, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        return done.stderr

    def test_ram_image_without_a_file_is_refused(self):
        self.assertIn("--ram-image needs a value", self.refused("--ram-image"))

    def test_ram_image_with_an_empty_name_is_refused(self):
        self.assertIn("--ram-image needs a file", self.refused("--ram-image", ""))

    def test_ram_image_of_a_crash_is_refused(self):
        self.assertIn("neither --crash nor --append", self.refused("--ram-image", "ram", "--crash", "capture.Image"))

    def test_ram_image_in_a_missing_directory_is_refused(self):
        self.assertIn("there is no directory /nowhere", self.refused("--ram-image", "/nowhere/ram"))

    def test_ram_image_at_a_directory_is_refused(self):
        self.assertIn("is a directory", self.refused("--ram-image", "/"))

    def test_timeout_that_is_no_number_is_refused(self):
        self.assertIn("--timeout takes seconds, not 'soon'", self.refused("--timeout", "soon"))

    def test_unknown_argument_is_refused(self):
        self.assertIn("unknown argument '--ram'", self.refused("--ram"))


class Tally(unittest.TestCase):
    def test_rust_results_are_added(self):
        text = ("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n"
                "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n")
        self.assertEqual(tally.tally(text), (4, 2, 1))

    def test_python_failures_are_not_passes(self):
        self.assertEqual(tally.tally("Ran 7 tests in 0.1s\n\nFAILED (failures=2, errors=1)\n"), (4, 3, 0))

    def test_text_without_results_counts_nothing(self):
        self.assertEqual(tally.tally("error: could not compile"), (0, 0, 0))


if __name__ == "__main__":
    unittest.main()
