# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# Builds a board's kernels and the host command. Sourced after shell.sh.

# The largest capture Image that `kexec -p` loads into crashkernel=2M: DTB and core header need the rest.
CAPTURE_SIZE_MAX=$((0x1e0000))

# The llvm-objcopy of the pinned toolchain.
objcopy() {
    local host sysroot
    host=$(cd "$ROOT" && rustc -vV | sed -n 's/^host: //p')
    sysroot=$(cd "$ROOT" && rustc --print sysroot)
    "$sysroot/lib/rustlib/$host/bin/llvm-objcopy" "$@"
}

# Prints the image_size of an arm64 Image; fails when the file is not one (booting.rst: magic at 56, image_size at 16).
image_size() {
    python3 - "$1" <<'PYTHON'
import struct, sys
with open(sys.argv[1], "rb") as file:
    header = file.read(64)
if len(header) < 64 or header[56:60] != b"ARM\x64":
    sys.exit(f"error: {sys.argv[1]} is no arm64 Image")
print(struct.unpack_from("<Q", header, 16)[0])
PYTHON
}

# build_binary BOARD BIN: builds one binary for the target and leaves BIN.elf and BIN.Image in target/images/BOARD, each at once: somebody may be
# reading the ones of before.
build_binary() {
    local board=$1 bin=$2 out=$IMAGES/$1 profile=release new=$IMAGES/$1/$2.new.$$
    [ "$bin" != capture ] || profile=capture
    (cd "$ROOT" && cargo build --profile "$profile" --target "$FIRMWARE_TARGET" -p "$board" --bin "$bin") >&2 &&
        mkdir -p "$out" &&
        cp "${CARGO_TARGET_DIR:-$TARGET_DIR}/$FIRMWARE_TARGET/$profile/$bin" "$new" &&
        mv "$new" "$out/$bin.elf" &&
        objcopy -O binary "$out/$bin.elf" "$new" &&
        mv "$new" "$out/$bin.Image"
}

# Builds the kernels of BOARD; the capture Image comes first because the kernel embeds it.
build_board() {
    local board=$1 out=$IMAGES/$1 size bin
    [ -f "$ROOT/boards/$board/Cargo.toml" ] ||
        fail "there is no board '$board'" "boards: $(cd "$ROOT/boards" && echo *)"
    build_binary "$board" capture || fail "the capture kernel of $board does not build"
    size=$(image_size "$out/capture.Image")
    if [ "$size" -gt "$CAPTURE_SIZE_MAX" ]; then
        fail "the capture kernel takes $size bytes; crashkernel=2M has room for $CAPTURE_SIZE_MAX"
    fi
    CAPTURE_IMAGE=$out/capture.Image build_binary "$board" kernel || fail "the system kernel of $board does not build"
    local bins=(capture kernel)
    if [ -f "$ROOT/boards/$board/both.rs" ]; then
        build_binary "$board" both || fail "the kernel of $board that is both does not build"
        bins+=(both)
    fi
    # The name that the firmware of a Raspberry Pi looks for.
    if [ "$board" = raspberry-pi ]; then
        cp "$out/kernel.Image" "$out/kernel8.new.$$"
        mv "$out/kernel8.new.$$" "$out/kernel8.img"
    fi
    for bin in "${bins[@]}"; do
        printf '%-28s file %8d bytes, image_size %8d bytes\n' "$board/$bin.Image" "$(stat -c %s "$out/$bin.Image")" \
            "$(image_size "$out/$bin.Image")" >&2
    done
    say "capture kernel: $((size * 100 / CAPTURE_SIZE_MAX)) % of its limit of $CAPTURE_SIZE_MAX bytes"
}

# Builds the host command and prints its path.
build_host() {
    (cd "$ROOT" && cargo build --release -p afterimage) >&2 || fail "the host command does not build"
    echo "${CARGO_TARGET_DIR:-$TARGET_DIR}/release/afterimage"
}
