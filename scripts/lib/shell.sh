# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# What every script shares: where things are, how to say things, how to bound and time a command.
# Sourced, never run; the sourcing script has already set `set -euo pipefail`.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TARGET_DIR=$ROOT/target
TOOLS=$TARGET_DIR/tools
export IMAGES=$TARGET_DIR/images
export FIRMWARE_TARGET=aarch64-unknown-none-softfloat
export ASSUME_YES=${ASSUME_YES:-no}
export PATH="$TOOLS/bin:$TOOLS/venv/bin:$PATH"

say() { printf '%s\n' "$*" >&2; }
step() { printf '\n== %s\n' "$*" >&2; }

# Ends the script with a message: what failed, then what to do about it.
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# Asks a yes/no question; --yes and root answer yes, no terminal answers no.
confirm() {
    if [ "$ASSUME_YES" = yes ] || is_root; then return 0; fi
    [ -t 0 ] || fail "$1 needs your consent and there is no terminal to ask on" "run again with --yes"
    local answer
    read -r -p "$1 [y/N] " answer
    [ "$answer" = y ] || [ "$answer" = Y ]
}

# Runs a command as root, by sudo when we are not root (consent was asked for before).
as_root() {
    if is_root; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "'$*' needs root and there is no sudo" "run it as root, then run this script again"
    fi
}

# Runs a named part and notes how long it took and whether it failed; goes on either way (PART_STATUS, PARTS_FAILED).
# Call it as a plain command: behind `||`, `&&`, `if` or `!` bash would switch errexit off inside the part.
PART_TIMES=()
PARTS_FAILED=0
PART_STATUS=0
part() {
    local name=$1 begin=$SECONDS verdict=''
    shift
    step "$name"
    set +e
    (
        set -euo pipefail
        "$@"
    )
    PART_STATUS=$?
    set -e
    if [ $PART_STATUS -ne 0 ]; then
        PARTS_FAILED=$((PARTS_FAILED + 1))
        verdict='  FAILED'
        say "FAILED: $name"
    fi
    PART_TIMES+=("$(printf '%5d s  %s%s' $((SECONDS - begin)) "$name" "$verdict")")
}

# Runs a named part without which the rest makes no sense: a failure ends the script.
must() {
    part "$@"
    [ $PART_STATUS -eq 0 ] || { print_part_times; exit 1; }
}

print_part_times() {
    step 'time of each part'
    [ ${#PART_TIMES[@]} -eq 0 ] || printf '%s\n' "${PART_TIMES[@]}" >&2
}
