# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# Fetches what Linux's own debuggers need for the guests' kernels: Debian's debug packages, and crash for arm64, which
# runs under qemu-user. After linux.sh. Everything goes under target/linux; neither root nor binfmt is needed.

# Leaves target/linux/debug/vmlinux, the same of the older kernel in target/linux/bookworm/debug, and crash with its libraries in
# target/linux/crash; done once.
ensure_debuginfo() {
    ensure_packages gdb-multiarch qemu-user-static
    fetch_vmlinux "$LINUX_SUITE" "$LINUX"
    fetch_vmlinux "$LINUX_OLD_SUITE" "$LINUX/$LINUX_OLD_SUITE"
    [ -x "$LINUX/crash/usr/bin/crash" ] || fetch_crash
}

# apt_field ROOT PACKAGE FIELD: prints a field of the newest version in the archive; nothing when there is none.
apt_field() {
    apt_arm64 "$1" apt-cache --no-all-versions show "$2" 2>/dev/null | sed -n "s/^$3: //p" | head -1
}

# Prints the GNU build ID of an ELF.
build_id_of() {
    aarch64-linux-gnu-readelf -n "$1" 2>/dev/null | sed -n 's/.*Build ID: //p' | head -1
}

# has_build_id FILE ID: whether the note is anywhere in the file; an Image is no ELF.
has_build_id() {
    python3 -c 'import sys
note = bytes([4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0]) + b"GNU\0" + bytes.fromhex(sys.argv[2])
sys.exit(note not in open(sys.argv[1], "rb").read())' "$1" "$2"
}

# add_index VMLINUX: gdb's index of its debug information. The gdb inside crash would make one each time, under emulation, which takes
# many minutes.
add_index() {
    local index
    index=$(mktemp -d "$1.XXXXXX")
    gdb-multiarch -nx -batch -ex "save gdb-index $index" "$1" >&2 || fail "gdb-multiarch makes no index of $1"
    aarch64-linux-gnu-objcopy --add-section ".gdb_index=$(echo "$index"/*.gdb-index)" \
        --set-section-flags .gdb_index=readonly "$1" || fail "the index does not fit $1"
    rm -r "$index"
}

# fetch_vmlinux SUITE DIRECTORY: DIRECTORY/debug/vmlinux, with the debug information of exactly the kernel in DIRECTORY/Image.
fetch_vmlinux() {
    local suite=$1 to=$2 apt=$2/apt version package size free vmlinux id
    version=$(cat "$to/version")
    package=linux-image-$version-dbg
    if [ -s "$to/debug/vmlinux" ] && [ "$(cat "$to/debug/version" 2>/dev/null)" = "$version" ]; then return 0; fi
    apt_arm64 "$apt" apt-get update >&2 || fail "the archive of $suite could not be read" "check the network and run again"
    size=$(apt_field "$apt" "$package" Size)
    [ -n "$size" ] || fail "the archive of $suite no longer has $package" \
        "it keeps the newest kernel only: rm -r ${to#"$ROOT"/} fetches that as the guest's, then run again"
    [ "$(apt_field "$apt" "$package" Version)" = "$(apt_field "$apt" "linux-image-$version" Version)" ] ||
        fail "$package in the archive of $suite is of another build than linux-image-$version" "run again later"
    # The package, its vmlinux of 0.5 GB, and some room.
    free=$(df --output=avail -B1 "$to" | tail -1)
    [ "$free" -gt $((size + 1500000000)) ] || fail "$to has $((free / 1000000)) MB left" "$package needs $((size / 1000000 + 1500))"
    say "fetching $package: $((size / 1000000)) MB"
    mkdir -p "$to/debug"
    (cd "$to/debug" && apt_arm64 "$apt" apt-get download "$package" >&2) ||
        fail "could not download $package" "check the network and run again"
    vmlinux=./usr/lib/debug/boot/vmlinux-$version
    dpkg-deb --fsys-tarfile "$to/debug/$package"_*.deb | tar -x -O "$vmlinux" >"$to/debug/vmlinux.new" ||
        fail "$package has no $vmlinux"
    rm -f "$to/debug/$package"_*.deb
    id=$(build_id_of "$to/debug/vmlinux.new")
    [[ $id =~ ^[0-9a-f]{40}$ ]] || fail "vmlinux of $package has no build ID, but '$id'"
    has_build_id "$to/Image" "$id" ||
        fail "$package is of another build than the guest's kernel" "rm -r ${to#"$ROOT"/} and run again"
    add_index "$to/debug/vmlinux.new"
    mv "$to/debug/vmlinux.new" "$to/debug/vmlinux"
    echo "$version" >"$to/debug/version"
    say "debug information: $to/debug/vmlinux, $(($(stat -c %s "$to/debug/vmlinux") / 1000000)) MB, build ID $id"
}

# target/linux/crash: Debian's crash for arm64 and the libraries it depends on, as the root of qemu-user's -L.
fetch_crash() {
    local apt=$LINUX/apt root=$LINUX/crash deb
    say 'fetching crash for arm64, with its libraries'
    rm -f "$apt"/cache/archives/*.deb
    apt_arm64 "$apt" apt-get -y --download-only install crash >&2 || fail 'could not download crash' 'check the network and run again'
    rm -rf "$root.new"
    mkdir -p "$root.new/usr/lib"
    # The program interpreter is looked up as /lib/ld-linux-aarch64.so.1.
    ln -s usr/lib "$root.new/lib"
    for deb in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root.new" --keep-directory-symlink
    done
    rm -f "$apt"/cache/archives/*.deb
    qemu-aarch64-static -L "$root.new" "$root.new/usr/bin/crash" --version >&2 || fail 'crash does not run under qemu-user'
    rm -rf "$root"
    mv "$root.new" "$root"
}
