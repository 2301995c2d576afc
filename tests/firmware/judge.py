#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Crashes the firmware in QEMU at several dump levels, and judges what its dumps hold.

Usage: judge.py AFTERIMAGE [DIRECTORY [UNITTEST ARGUMENTS]]

AFTERIMAGE is the host command. DIRECTORY holds the built programs; without it they are built here, with CAPTURE_IMAGE
from the environment. The dumps are read here and by gdb-multiarch, not by the command that wrote them.
"""

import functools
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import unittest

LEVELS = (0, 8, 17, 31)
WORDS = 512
# Seeds of memory.rs.
KEYS, PIN, SAMPLES, TRACE = 0x6B657973, 0x70696E21, 0x73616D70, 0x74726163
MASK = (1 << 64) - 1
STACK_LEN = 16 << 10
PT_LOAD, PT_NOTE, NT_PRSTATUS = 1, 4, 1

TARGET = "aarch64-unknown-none-softfloat"
AFTERIMAGE = pathlib.Path()
DIRECTORY = pathlib.Path()


def pattern(seed):
    """Returns the page that memory.rs makes of a seed (SplitMix64)."""
    words = []
    for index in range(WORDS):
        z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        words.append(z ^ (z >> 31))
    return struct.pack(f"<{WORDS}Q", *words)


class Run:
    """One boot of a program: its exit status, its console, its dump."""

    def __init__(self, place, program, append, timeout=60):
        self.place = pathlib.Path(place)
        self.elf = self.place / program
        self.elf.symlink_to(DIRECTORY / program)
        done = subprocess.run(
            [AFTERIMAGE, "run", self.elf, "--", "-append", append], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "AFTERIMAGE_RUN_TIMEOUT": str(timeout)}, timeout=timeout + 30, check=False)
        self.status = done.returncode
        self.text = done.stdout.decode(errors="replace")
        self.cores = sorted(self.place.glob("*.vmcore"))

    def core(self):
        """Returns the path of the one dump."""
        if len(self.cores) != 1:
            raise AssertionError(f"{len(self.cores)} dumps, exit status {self.status}:\n{self.text}")
        return self.cores[0]


    def head(self):
        """Returns the dump's headers and notes: the file up to its first segment of memory."""
        with open(self.core(), "rb") as file:
            first = file.read(1 << 20)
            return first[:min(at for kind, at, _, _ in segments(first) if kind == PT_LOAD)]


def segments(data):
    """Yields (type, offset, physical address, size in the file) of an ELF64 little-endian file's program headers."""
    offset, = struct.unpack_from("<Q", data, 32)
    size, number = struct.unpack_from("<HH", data, 54)
    for index in range(number):
        kind, _, at, _, physical, length, _, _ = struct.unpack_from("<IIQQQQQQ", data, offset + index * size)
        yield kind, at, physical, length


def statuses(data):
    """Returns {pr_pid: pc} of all NT_PRSTATUS notes (arm64: pr_pid at 32, registers at 112)."""
    found = {}
    for kind, at, _, length in segments(data):
        end = at + length
        while kind == PT_NOTE and at + 12 <= end:
            name_len, desc_len, note = struct.unpack_from("<III", data, at)
            name = data[at + 12:at + 12 + name_len].rstrip(b"\0")
            desc = at + 12 + (name_len + 3) // 4 * 4
            if name == b"CORE" and note == NT_PRSTATUS:
                pid, = struct.unpack_from("<I", data, desc + 32)
                found[pid], = struct.unpack_from("<Q", data, desc + 112 + 32 * 8)
            at = desc + (desc_len + 3) // 4 * 4
    return found


def held_pages(path):
    """Returns the pages of a file that are not zero, one after another: a dump is mostly zeros, and they hold nothing."""
    zero = bytes(4096)
    with open(path, "rb") as file:
        return b"".join(page for page in iter(lambda: file.read(4096), b"") if page != zero)


def at_each_level(check):
    """Makes a test of a method that judges one run."""

    @functools.wraps(check)
    def test(self):
        for level in LEVELS:
            with self.subTest(dump_level=level):
                check(self, level, self.runs[level], self.data[level])

    return test


class Dumps(unittest.TestCase):
    """The firmware, crashed by `firmware_crash`, at each level."""

    @classmethod
    def setUpClass(cls):
        cls.runs, cls.data = {}, {}
        for level in LEVELS:
            place = tempfile.TemporaryDirectory()
            cls.addClassCleanup(place.cleanup)
            cls.runs[level] = Run(place.name, "firmware", f"firmware_crash dump_level={level}")
            cls.data[level] = held_pages(cls.runs[level].core())

    def info(self, run):
        done = subprocess.run([AFTERIMAGE, "info", "--json", run.core()], check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    @at_each_level
    def test_crash_ends_the_run_with_101_and_a_backtrace(self, _level, run, _data):
        self.assertEqual(run.status, 101, run.text)
        self.assertIn("the battery is out of bounds", run.text)
        self.assertRegex(run.text, r"(?s)#\d+ .*firmware::check_battery \(\) at .*#\d+ .*firmware::main \(\) at ")

    @at_each_level
    def test_secret_bytes_are_in_no_dump(self, _level, _run, data):
        # The keys lie on the heap; the PIN in the image, which a dump maps twice.
        for name, secret in (("keys", pattern(KEYS)), ("PIN", pattern(PIN))):
            held = [at for at in range(0, len(secret), 8) if secret[at:at + 8] in data]
            self.assertEqual(held, [], f"offsets of words of the {name} that the dump holds")

    @at_each_level
    def test_secret_pages_are_named_as_left_out(self, _level, run, _data):
        self.assertEqual(self.info(run)["gap_bytes"].get("secret"), 2 * 4096)

    @at_each_level
    def test_own_data_is_left_out_by_bit_8_alone(self, level, run, data):
        samples = pattern(SAMPLES)
        self.assertEqual(samples in data, level & 8 == 0)
        self.assertEqual(self.info(run)["gap_bytes"].get("app-data"), 4096 if level & 8 else None)
        if level & 8:
            self.assertNotIn(samples[:16], data)

    @at_each_level
    def test_extra_memory_is_in_every_dump(self, _level, _run, data):
        self.assertIn(pattern(TRACE), data)

    @at_each_level
    def test_dump_is_whole_but_for_what_was_left_out(self, _level, run, _data):
        info = self.info(run)
        self.assertTrue(info["whole"])
        self.assertEqual(info["missing_bytes"], 0)

    def test_level_0_leaves_out_the_secret_pages_alone(self):
        info = self.info(self.runs[0])
        ram = sum(part["end"] - part["start"] for part in info["ram"])
        # By physical address: the kernel's link mapping shows some RAM a second time.
        covered = set()
        for kind, _, physical, length in segments(self.runs[0].head()):
            if kind == PT_LOAD:
                covered.update(range(physical, physical + length, 4096))
        self.assertEqual(len(covered) * 4096, ram - 2 * 4096)

    @at_each_level
    def test_tasks_are_threads_from_1001_on(self, _level, run, _data):
        self.assertEqual(sorted(statuses(run.head())), [1, 1001, 1002])

    @at_each_level
    def test_stacks_of_tasks_are_in_every_dump(self, _level, _run, data):
        self.assertGreaterEqual(data.count(b"\xa5" * STACK_LEN), 2)

    @at_each_level
    def test_gdb_shows_tasks_where_they_begin(self, _level, run, _data):
        done = subprocess.run(
            ["gdb-multiarch", "-nx", "-batch", "-ex", "thread apply all -q bt 1", "-ex", "info threads", run.elf,
             run.core()], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.assertRegex(done.stdout, r"LWP 1001\s+firmware::tasks::network \(\)")
        self.assertRegex(done.stdout, r"LWP 1002\s+firmware::tasks::sampling \(\)")

    @at_each_level
    def test_bt_all_shows_tasks_by_name(self, _level, run, _data):
        done = subprocess.run([AFTERIMAGE, "bt", run.core(), "--elf", run.elf, "--all"], check=True,
                              stdout=subprocess.PIPE, text=True)
        self.assertRegex(done.stdout, r'"network":\n#0 .*firmware::tasks::network \(\)')
        self.assertRegex(done.stdout, r'"sampling":\n#0 .*firmware::tasks::sampling \(\)')


class Endings(unittest.TestCase):
    """How runs end that are no crash of `firmware_crash`."""

    def run_in_place(self, *arguments, **options):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        return Run(place.name, *arguments, **options)

    def test_firmware_that_is_well_idles(self):
        run = self.run_in_place("firmware", "firmware_crash_not", timeout=5)
        self.assertEqual((run.status, run.cores), (1, []), run.text)
        self.assertIn("a crash would leave a dump: true", run.text)
        self.assertNotIn("has crashed", run.text)

    def test_self_tests_pass(self):
        run = self.run_in_place("self-test", "semihosting")
        self.assertEqual((run.status, run.cores), (0, []), run.text)
        self.assertRegex(run.text, r"(?m)^test result: ok\. \d+ passed; 0 failed; 1 ignored")

    def test_test_that_should_crash_does(self):
        run = self.run_in_place("self-test", "semihosting test=battery_alarm_is_fatal")
        self.assertEqual(run.status, 101, run.text)
        announced = re.search(r"(?m)^test battery_alarm_is_fatal \.\.\. should crash\r?$", run.text)
        self.assertIsNotNone(announced, run.text)
        self.assertIn("the battery is out of bounds", run.text[announced.end():])
        run.core()


def build():
    """Builds the programs of this folder's crate; returns where they are."""
    here = pathlib.Path(__file__).resolve().parent
    subprocess.run(["cargo", "build", "--release", "--target", TARGET], cwd=here, check=True)
    answer = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=here, check=True,
                            stdout=subprocess.PIPE)
    return pathlib.Path(json.loads(answer.stdout)["target_directory"]) / TARGET / "release"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    AFTERIMAGE = pathlib.Path(sys.argv[1]).resolve()
    DIRECTORY = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else build()
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
