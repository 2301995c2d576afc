#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Boots the on-target tests on several machines, and judges exit status, transcript and, where one crashes, the dump.

Usage: judge.py AFTERIMAGE [DIRECTORY [UNITTEST ARGUMENTS]]

AFTERIMAGE is the host command. DIRECTORY holds the built programs; without it they are built here, with CAPTURE_IMAGE
from the environment.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

# What the reason in the dump says of each test of crashes.rs: kind, and a part of its text.
CRASHES = {
    "panic_is_fatal": ("panic", "on purpose"),
    "trigger_is_fatal": ("api", "asked for"),
    "write_to_null_is_fatal": ("exception", "data abort at 0x0 (translation fault)"),
    "write_to_read_only_data_is_fatal": ("exception", "(permission fault)"),
    "execution_of_data_is_fatal": ("exception", "instruction abort"),
    "stack_overflow_is_fatal": ("stack-overflow", "CPU 0 ran out of its thread stack"),
    "thread_with_unreadable_registers_is_left_out": ("exception", "data abort at 0x0 (translation fault)"),
    "write_to_the_crash_region_is_fatal": ("region-protection", "access to the crash region"),
    "failed_allocation_is_fatal": ("panic", "memory allocation of"),
}
PROGRAMS = ("memory", "crash-region", "marks", "interrupts")
# Entered at EL1, EL2 and EL3, with GICv2 and GICv3.
MACHINES = {
    "el1": (),
    "el2_gicv2_4_cpus": ("-M", "virt,virtualization=on", "-smp", "4"),
    "el2_gicv3_8_cpus": ("-M", "virt,virtualization=on,gic-version=3", "-cpu", "max", "-smp", "8", "-m", "1G"),
    "el3": ("-M", "virt,secure=on", "-cpu", "cortex-a53"),
}
RUN_TIMEOUT = 60

TARGET = "aarch64-unknown-none-softfloat"
AFTERIMAGE = pathlib.Path()
DIRECTORY = pathlib.Path()


class Booted(unittest.TestCase):
    """A test that boots programs."""

    def boot(self, program, append, *qemu, timeout=RUN_TIMEOUT):
        """Boots a program in a folder of its own; returns exit status, console and dumps."""
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        elf = pathlib.Path(place.name) / program
        elf.symlink_to(DIRECTORY / program)
        done = subprocess.run(
            [AFTERIMAGE, "run", elf, "--", *qemu, "-append", append], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "AFTERIMAGE_RUN_TIMEOUT": str(timeout)}, timeout=timeout + 30, check=False)
        text = done.stdout.decode(errors="replace").replace("\r", "")
        return done.returncode, text, sorted(pathlib.Path(place.name).glob("*.vmcore"))

    def crash(self, name, *qemu):
        """Boots a test that should crash; returns its dump and the reason in it."""
        status, text, cores = self.boot("crashes", f"semihosting test={name}", *qemu)
        self.assertEqual((status, len(cores)), (101, 1), text)
        _, announced, after = text.partition(f"\ntest {name} ... should crash\n")
        self.assertTrue(announced, text)
        self.assertIn("this machine has crashed", after)
        self.assertNotIn("test result:", text)
        info = subprocess.run([AFTERIMAGE, "info", "--json", cores[0]], check=True, stdout=subprocess.PIPE)
        return cores[0], json.loads(info.stdout)["reason"]


class Crashes(Booted):
    """What must be fatal is, and the dump says why."""

    def test_idle_cpus_are_woken_by_the_tick(self):
        core, _ = self.crash("crash_after_idle_shows_the_tick_on_all_cpus", "-smp", "4")
        done = subprocess.run(
            ["gdb-multiarch", "-nx", "-batch", "-ex", "output/d kernel::cpus::IDLE_ROUNDS", DIRECTORY / "crashes", core],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        rounds = [int(value) for value in re.findall(r"value: (\d+)", done.stdout)]
        if not rounds:
            self.fail(f"gdb shows no IDLE_ROUNDS: {done.stdout}")
        # The tests' CPU does not idle; the others had twenty ticks.
        self.assertGreater(min(rounds[1:4]), 10, rounds)


def add_crash_test(name, kind, words):
    """Adds a test that boots the crash `name`."""

    def test(self):
        _, reason = self.crash(name)
        self.assertEqual(reason["kind"], kind, reason)
        self.assertIn(words, reason["text"])

    setattr(Crashes, f"test_{name}", test)


for crash_name, (crash_kind, crash_words) in CRASHES.items():
    add_crash_test(crash_name, crash_kind, crash_words)


class Properties(Booted):
    """The programs whose tests all pass, on each machine."""


def add_property_test(program, machine, arguments):
    """Adds a test that boots a program on a machine."""

    def test(self):
        status, text, cores = self.boot(program, "semihosting", *arguments)
        self.assertEqual((status, cores), (0, []), text)
        announced = re.search(r"(?m)^running (\d+) tests$", text)
        self.assertIsNotNone(announced, text)
        number = announced[1]
        self.assertIn(f"\ntest result: ok. {number} passed; 0 failed; 0 ignored; 0 filtered out\n", text)
        self.assertEqual(len(re.findall(r"(?m)^test \w+ \.\.\. ok$", text)), int(number), text)

    setattr(Properties, f"test_{program.replace('-', '_')}_on_{machine}", test)


for test_program in PROGRAMS:
    for machine_name, machine_arguments in MACHINES.items():
        add_property_test(test_program, machine_name, machine_arguments)


class Verdicts(Booted):
    """What the harness says of a test, and the exit status it ends with."""

    def judge(self, append, status, *lines):
        found, text, cores = self.boot("verdicts", append)
        self.assertEqual((found, cores), (status, []), text)
        for line in lines:
            self.assertRegex(text, f"(?m)^{line}$")

    def test_passing_test_exits_0(self):
        self.judge("semihosting test=passes", 0, r"test passes \.\.\. ok",
                   r"test result: ok\. 1 passed; 0 failed; 0 ignored; 4 filtered out")

    def test_failed_check_exits_1_and_says_where(self):
        self.judge("semihosting test=fails_a_check", 1, r"test fails_a_check \.\.\. FAILED",
                   r"  .*verdicts\.rs:\d+:\d+: boot\.cpus\(\) is 1, not 0",
                   r"test result: FAILED\. 0 passed; 1 failed; 0 ignored; 4 filtered out")

    def test_error_exits_1_and_says_which(self):
        self.judge("semihosting test=fails_on_an_error", 1, r"  .*verdicts\.rs:\d+:\d+: invalid digit found in string")

    def test_failure_does_not_end_the_run(self):
        self.judge("semihosting test=fails_a_check,passes", 1, r"test passes \.\.\. ok",
                   r"test result: FAILED\. 1 passed; 1 failed; 0 ignored; 3 filtered out")

    def test_test_that_should_crash_and_returns_fails(self):
        self.judge("semihosting test=does_not_crash", 1, r"test does_not_crash \.\.\. should crash",
                   r"test does_not_crash \.\.\. FAILED", r"  it returned instead")

    def test_unknown_name_runs_nothing_and_fails(self):
        self.judge("semihosting test=pass", 1,
                   r"test result: FAILED\. 0 passed; 0 failed; 0 ignored; 5 filtered out")

    def test_panicking_test_leaves_a_dump_and_exits_101(self):
        status, text, cores = self.boot("verdicts", "semihosting test=panics")
        self.assertEqual((status, len(cores)), (101, 1), text)
        self.assertIn("a test panicked", text)
        self.assertNotIn("test result:", text)

    def test_without_a_word_about_a_host_no_semihosting_call_is_made(self):
        # The CPU halts, so the runner's bound ends it. A call would have ended QEMU with status 0.
        status, text, cores = self.boot("verdicts", "test=passes", timeout=5)
        self.assertEqual((status, cores), (1, []), text)
        self.assertIn("halted: no host takes an exit status", text)
        self.assertIn("test result: ok. 1 passed", text)


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
