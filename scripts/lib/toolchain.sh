# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# Installs what the Rust side needs and the machine lacks: toolchains, components, cargo tools, drgn. After shell.sh.
#
# Toolchains go where rustup keeps them; everything else goes to target/tools, first beside its place and then moved
# there, so that an interrupted installation is never mistaken for a whole one.

# Pinned by date: this nightly is rustc 1.97.0-nightly (e50aa6fba 2026-05-19). Miri and libFuzzer need a nightly.
NIGHTLY=nightly-2026-05-20
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
DRGN_VERSION=0.3.0

need_rustup() {
    have rustup || fail "there is no rustup" "install it from https://rustup.rs, then run this script again"
}

# The toolchain that rust-toolchain.toml pins, with the firmware target and llvm-objcopy.
ensure_rust() {
    need_rustup
    have cc || ensure_packages gcc libc6-dev
    local channel
    channel=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
    [ -n "$channel" ] || fail "rust-toolchain.toml names no channel"
    if ! rustup run "$channel" rustc --version >/dev/null 2>&1; then
        say "installing Rust $channel"
        rustup toolchain install "$channel" --profile minimal -c rustfmt -c clippy -c llvm-tools \
            -t "$FIRMWARE_TARGET" >&2 ||
            fail "rustup could not install Rust $channel" "check the network and run again"
    fi
    ensure_component "$channel" rustfmt clippy llvm-tools
    if ! rustup target list --toolchain "$channel" --installed | grep -qx "$FIRMWARE_TARGET"; then
        rustup target add --toolchain "$channel" "$FIRMWARE_TARGET" >&2 ||
            fail "rustup could not add the target $FIRMWARE_TARGET" "check the network and run again"
    fi
}

# ensure_component TOOLCHAIN NAME...
ensure_component() {
    local toolchain=$1 installed name
    shift
    installed=$(rustup component list --toolchain "$toolchain" --installed)
    for name in "$@"; do
        if ! grep -qE "^$name(-|$)" <<<"$installed"; then
            rustup component add --toolchain "$toolchain" "$name" >&2 ||
                fail "rustup could not add $name to $toolchain" "check the network and run again"
        fi
    done
}

ensure_nightly() {
    need_rustup
    if ! rustup run "$NIGHTLY" rustc --version >/dev/null 2>&1; then
        say "installing $NIGHTLY"
        rustup toolchain install "$NIGHTLY" --profile minimal -c miri -c rust-src >&2 ||
            fail "rustup could not install $NIGHTLY" "check the network and run again"
    fi
    ensure_component "$NIGHTLY" miri rust-src
}

# ensure_cargo_tool NAME VERSION: builds NAME into target/tools unless that version is there.
ensure_cargo_tool() {
    local name=$1 version=$2
    if [ -x "$TOOLS/bin/$name" ] && [ "$(cat "$TOOLS/$name.version" 2>/dev/null)" = "$version" ]; then return 0; fi
    say "building $name $version (some minutes, once)"
    # cargo install moves the binary into place last; the version file says that it did.
    (cd "$ROOT" && cargo install --locked --quiet --root "$TOOLS" --target-dir "$TARGET_DIR/tools-build" --no-track --force \
        --version "$version" "$name") >&2 ||
        fail "could not build $name $version" "check the network and run again; nothing else was changed"
    echo "$version" >"$TOOLS/$name.version"
    rm -rf "$TARGET_DIR/tools-build"
}

ensure_cargo_deny() { ensure_cargo_tool cargo-deny "$CARGO_DENY_VERSION"; }

ensure_cargo_fuzz() {
    # libFuzzer is C++.
    have c++ || ensure_packages g++
    ensure_cargo_tool cargo-fuzz "$CARGO_FUZZ_VERSION"
}

# drgn from PyPI, in a virtual environment of its own: target/tools/venv/bin/drgn.
ensure_drgn() {
    if [ "$(cat "$TOOLS/drgn.version" 2>/dev/null)" = "$DRGN_VERSION" ] && [ -x "$TOOLS/venv/bin/drgn" ]; then return 0; fi
    python3 -c 'import ensurepip' 2>/dev/null || ensure_packages python3-venv
    say "installing drgn $DRGN_VERSION"
    rm -rf "$TOOLS/venv"
    if ! python3 -m venv "$TOOLS/venv" >&2 || ! "$TOOLS/venv/bin/pip" install -q --only-binary :all: \
        "drgn==$DRGN_VERSION" >&2; then
        rm -rf "$TOOLS/venv"
        fail "could not install drgn $DRGN_VERSION from PyPI" "check the network and run again; nothing was left behind"
    fi
    echo "$DRGN_VERSION" >"$TOOLS/drgn.version"
}
