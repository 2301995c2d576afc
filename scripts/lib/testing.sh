# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# The parts of the test suite, and how their results are counted. Sourced after shell.sh, setup.sh, toolchain.sh,
# images.sh and linux.sh; the caller is in the root of the tree.

TEST_LOGS=$TARGET_DIR/test-logs
TEST_PASSED=0
TEST_FAILED=0
TEST_IGNORED=0

# tests NAME COMMAND...: runs a part that prints test results, and adds them up. A part that fails without a failed
# test (it did not compile, say) counts as one failure.
tests() {
    local name=$1 log passed failed ignored
    log=$TEST_LOGS/${name//[^a-z0-9]/-}.log
    shift
    mkdir -p "$TEST_LOGS"
    part "$name" logged "$log" "$@"
    read -r passed failed ignored < <(python3 "$ROOT/scripts/lib/tally.py" "$log")
    if [ "$PART_STATUS" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
    if [ "$PART_STATUS" -eq 0 ] && [ "$((passed + failed))" -eq 0 ]; then
        say "FAILED: $name ran no test at all"
        failed=1
    fi
    TEST_PASSED=$((TEST_PASSED + passed))
    TEST_FAILED=$((TEST_FAILED + failed))
    TEST_IGNORED=$((TEST_IGNORED + ignored))
}

# needed NAME COMMAND...: runs a part that the tests after it stand on; its failure counts as one.
needed() {
    part "$@"
    [ "$PART_STATUS" -eq 0 ] || TEST_FAILED=$((TEST_FAILED + 1))
}

# one_test NAME COMMAND...: runs a part that is a single test.
one_test() {
    needed "$@"
    [ "$PART_STATUS" -ne 0 ] || TEST_PASSED=$((TEST_PASSED + 1))
}

# Runs a command with its output both on the terminal and in a file. The function runs in a subshell of its own, so that
# errexit stays on inside it.
logged() {
    local log=$1
    shift
    (
        set -euo pipefail
        "$@"
    ) 2>&1 | tee "$log"
}

# Prints the tally as the last line and returns 1 when something failed.
report_tests() {
    print_part_times
    [ "$TEST_IGNORED" -eq 0 ] || say "$TEST_IGNORED tests are marked ignored and did not run"
    echo "$TEST_PASSED passed, $TEST_FAILED failed"
    [ "$TEST_FAILED" -eq 0 ]
}

setup_tests() {
    ensure_rust
    ensure_qemu
    ensure_tools
    ensure_drgn
    # What scripts/flash makes is read back by these.
    ensure_packages fdisk dosfstools mtools
}

script_tests() { python3 -m unittest scripts/lib/test_scripts.py; }

host_tests() {
    local names packages=() name
    names=$(python3 scripts/lib/packages.py host)
    for name in $names; do packages+=(-p "$name"); done
    cargo test --no-fail-fast "${packages[@]}"
}

# The line simulator over a hundred seeds of each kind of bad line.
simulator_soak() { AFTERIMAGE_SOAK=1 cargo test --release --no-fail-fast -p simulator -- --nocapture; }

blackbox_tests() { cargo test --no-fail-fast -p blackbox -- --nocapture; }

# The host command, which boots an ELF in QEMU and passes its exit status on: cargo's runner, and the judges' tool.
host_command() { printf '%s/release/afterimage' "${CARGO_TARGET_DIR:-$TARGET_DIR}"; }

# On-target tests: by cargo with its runner, then booted on more machines and judged, with the ones that crash.
target_tests() {
    [ -f tests/target/Cargo.toml ] || fail "tests/target/Cargo.toml is missing: there are no on-target tests to run"
    local host program
    host=$(host_command)
    export CAPTURE_IMAGE=$IMAGES/qemu-virt/capture.Image
    export CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_RUNNER="$host run"
    for program in memory crash-region marks interrupts; do
        timeout 300 cargo run --release --target "$FIRMWARE_TARGET" -p target-tests --bin "$program"
    done
    timeout 600 tests/target/judge.py "$host"
}

# The stranger's crate, copied to a place outside the tree, where only what it says itself is in force.
firmware_tests() {
    [ -f tests/firmware/Cargo.toml ] || fail "tests/firmware/Cargo.toml is missing: there is no stranger's crate to build"
    local away channel host status=0
    away=$(mktemp -d)
    channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
    host=$(host_command)
    cp -R tests/firmware/. "$away"
    rm -rf "$away/target"
    # In the tree its dependencies are relative paths; elsewhere they are where the tree is.
    find "$away" -name Cargo.toml -exec sed -i "s|\"\.\./\.\./|\"$ROOT/|g" {} +
    (
        cd "$away"
        export RUSTUP_TOOLCHAIN=$channel CARGO_TARGET_DIR=$TARGET_DIR/firmware
        export CAPTURE_IMAGE=$IMAGES/qemu-virt/capture.Image
        timeout 600 ./judge.py "$host"
    ) || status=$?
    rm -rf "$away"
    return $status
}
