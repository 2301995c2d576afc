# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# Fetches arm64 Debian kernels, busybox and kexec into target/linux, and builds initramfs archives. After setup.sh.
#
# The packages come through a private apt root: neither the machine's apt sources nor its dpkg architectures are
# touched, and root is not needed. They are GPL: fetched, never committed.

LINUX=$TARGET_DIR/linux
LINUX_FILES=$LINUX/files
# The same suites for every machine, so that the guests are the same everywhere. Debian 13: Linux 6.12, 52-bit addresses, and the programs.
LINUX_SUITE=trixie
# Debian 12, in target/linux/bookworm: Linux 6.1, 48-bit addresses.
LINUX_OLD_SUITE=bookworm

# apt of a private root: apt_arm64 ROOT apt-get|apt-cache ARGS. The machine's own apt.conf (a proxy, say) stays in force.
apt_arm64() {
    local apt=$1 tool=$2
    shift 2
    "$tool" -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Etc="$apt/etc" \
        -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts="$apt/etc/none" \
        -o Dir::Etc::preferencesparts="$apt/etc/none" -o Dir::State="$apt/state" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
        -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Acquire::Languages=none "$@"
}

# Prints the archive to fetch from: AFTERIMAGE_DEBIAN_ARCHIVE, or on a Debian machine the one it already uses.
linux_archive() {
    local codename key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$key" ] || ensure_packages debian-archive-keyring
    if [ -n "${AFTERIMAGE_DEBIAN_ARCHIVE:-}" ]; then
        echo "$AFTERIMAGE_DEBIAN_ARCHIVE $key"
    elif [ "$(. /etc/os-release && echo "${ID:-}")" = debian ]; then
        codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
        apt_archive_of "$codename" || fail "no apt source of this machine carries '$codename main'" \
            "set AFTERIMAGE_DEBIAN_ARCHIVE to the URI of a Debian archive and run again"
    else
        fail "this machine's own archive has no Debian packages for arm64" \
            "set AFTERIMAGE_DEBIAN_ARCHIVE to the URI of a Debian archive and run again"
    fi
}

# Leaves target/linux/{Image,version}, the same of the older kernel in target/linux/bookworm, the files of the packages in
# files beside them, and the initramfs archives; done once.
ensure_linux() {
    have dpkg-deb || fail "there is no dpkg-deb" "the Linux guest is made of Debian packages; use a Debian or Ubuntu machine"
    mkdir -p "$LINUX"
    # Of guests that start side by side one makes what is missing, and the others wait for it.
    (
        flock 9
        make_linux
    ) 9>"$LINUX/lock"
}

make_linux() {
    # Each package with its dependencies, so that the libraries of kexec come along; nothing is installed.
    [ -s "$LINUX/version" ] || fetch_linux "$LINUX_SUITE" "$LINUX" busybox-static kexec-tools
    [ -s "$LINUX/$LINUX_OLD_SUITE/version" ] || fetch_linux "$LINUX_OLD_SUITE" "$LINUX/$LINUX_OLD_SUITE"
    # What we add may have changed since they were made.
    [ "$LINUX/base.cpio" -nt "$ROOT/scripts/lib/guest_init.sh" ] || build_base_initramfs
    build_capture_initramfs "$LINUX"
    build_capture_initramfs "$LINUX/$LINUX_OLD_SUITE"
}

# apt_root SUITE DIRECTORY: makes the private apt root for arm64 packages of SUITE, and reads the archive's lists.
apt_root() {
    local suite=$1 apt=$2 archive uri key
    archive=$(linux_archive)
    read -r uri key <<<"$archive"
    [ "$key" != - ] || key=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$apt"/etc/none "$apt"/state/lists/partial "$apt"/cache/archives/partial
    : >"$apt/status"
    echo "deb [arch=arm64 signed-by=$key] $uri $suite main" >"$apt/etc/sources.list"
    say "fetching arm64 packages of $suite from $uri"
    apt_arm64 "$apt" apt-get update >&2 || fail "$uri could not be read" "check the network and run again"
}

# kernel_package APT_ROOT NAME: prints the package with a version in its name that the meta package NAME stands for.
kernel_package() {
    local kernel
    kernel=$(apt_arm64 "$1" apt-cache depends "$2" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    [ -n "$kernel" ] || fail "the archive has no $2"
    echo "$kernel"
}

# fetch_linux SUITE DIRECTORY [PACKAGE...]: the cloud kernel of SUITE, and PACKAGEs with what they depend on.
fetch_linux() {
    local suite=$1 to=$2 apt=$2/apt kernel deb
    shift 2
    ensure_packages cpio binutils-aarch64-linux-gnu
    apt_root "$suite" "$apt"
    kernel=$(kernel_package "$apt" linux-image-cloud-arm64)
    rm -f "$apt"/cache/archives/*.deb
    [ $# -eq 0 ] || apt_arm64 "$apt" apt-get -y --download-only install "$@" >&2 ||
        fail "could not download $*" "check the network and run again"
    (cd "$apt/cache/archives" && apt_arm64 "$apt" apt-get download "$kernel" >&2) ||
        fail "could not download $kernel" "check the network and run again"
    rm -rf "$to/files.new"
    mkdir -p "$to/files.new"
    for deb in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$to/files.new" --keep-directory-symlink
    done
    rm -rf "$to/files"
    mv "$to/files.new" "$to/files"
    # Debian's arm64 vmlinuz is an uncompressed Image.
    cp "$to/files/boot/vmlinuz-${kernel#linux-image-}" "$to/Image"
    rm -f "$apt"/cache/archives/*.deb
    echo "${kernel#linux-image-}" >"$to/version"
    say "Linux guest: $(cat "$to/version")"
}

# Prints the path, in target/linux/files, of the first file called NAME under a bin or lib directory.
linux_file() {
    local found
    found=$(cd "$LINUX_FILES" && find ./bin ./sbin ./lib ./usr/bin ./usr/sbin ./usr/lib -name "$1" \( -type f -o -type l \) \
        2>/dev/null | head -1)
    [ -n "$found" ] || fail "the arm64 packages hold no $1"
    echo "$LINUX_FILES/$found"
}

# copy_with_libraries ROOT FILE DESTINATION: installs an executable and, breadth first, the libraries it names.
copy_with_libraries() {
    local root=$1 queue=("$2") library path
    install -D -m 755 "$2" "$root/$3"
    while [ ${#queue[@]} -gt 0 ]; do
        path=${queue[0]}
        queue=("${queue[@]:1}")
        while read -r library; do
            [ ! -e "$root/lib/$library" ] || continue
            path=$(linux_file "$library")
            install -D -m 755 "$path" "$root/lib/$library"
            queue+=("$path")
        done < <(aarch64-linux-gnu-readelf -d "$path" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    done
}

# target/linux/base.cpio: busybox, kexec with its libraries, and the init script.
build_base_initramfs() {
    local root=$LINUX/base
    rm -rf "$root"
    mkdir -p "$root"/{bin,sbin,lib,proc,sys,dev,tmp}
    install -m 755 "$(linux_file busybox)" "$root/bin/busybox"
    copy_with_libraries "$root" "$(linux_file kexec)" sbin/kexec
    # The program interpreter is looked up by its full path, which is /lib/ld-linux-aarch64.so.1.
    [ -e "$root/lib/ld-linux-aarch64.so.1" ] ||
        install -m 755 "$(linux_file ld-linux-aarch64.so.1)" "$root/lib/ld-linux-aarch64.so.1"
    install -m 755 "$ROOT/scripts/lib/guest_init.sh" "$root/init"
    pack_initramfs "$root" "$LINUX/base.cpio"
}

# What a virtio disk and network card need, each after what it needs itself; what is no module is built in.
LINUX_MODULES='virtio virtio_ring virtio_mmio virtio_blk failover net_failover virtio_net'

# unpack_module DIRECTORY NAME: prints that module of the kernel in DIRECTORY, packed by xz or not; returns 1 when there is none.
unpack_module() {
    local found
    found=$(find "$1/files" -name "$2.ko*" | head -1)
    [ -n "$found" ] || return 1
    python3 - "$found" <<'END'
import lzma, sys
opened = (lzma.open if sys.argv[1].endswith(".xz") else open)(sys.argv[1], "rb")
sys.stdout.buffer.write(opened.read())
END
}

# build_capture_initramfs DIRECTORY: its capture.cpio, for a Linux that is the capture kernel: the base, its kernel's modules for virtio
# (packed by xz or not), and an init of its own. Made anew when a part of it changed.
build_capture_initramfs() {
    local to=$1 root=$1/capture module found
    if [ "$to/capture.cpio" -nt "$ROOT/scripts/lib/capture_init.sh" ] && [ "$to/capture.cpio" -nt "$LINUX/base.cpio" ] &&
        [ "$to/capture.cpio" -nt "$to/version" ]; then
        return 0
    fi
    rm -rf "$root"
    mkdir -p "$root/lib/modules"
    for module in $LINUX_MODULES; do
        # What is no module is built in.
        unpack_module "$to" "$module" >"$root/lib/modules/$module.ko" || { rm "$root/lib/modules/$module.ko"; continue; }
        echo "$module" >>"$root/lib/modules/order"
    done
    install -D -m 755 "$ROOT/scripts/lib/capture_init.sh" "$root/guest/init"
    pack_initramfs "$root" "$to/capture-own.cpio"
    cat "$LINUX/base.cpio" "$to/capture-own.cpio" >"$to/capture.cpio.new"
    mv "$to/capture.cpio.new" "$to/capture.cpio"
    rm "$to/capture-own.cpio"
}

# pack_initramfs DIRECTORY ARCHIVE. Archives may be joined with cat: Linux unpacks one after the other.
pack_initramfs() {
    (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --null -o -H newc -R 0:0 --quiet) >"$2.new"
    mv "$2.new" "$2"
}

# Where device trees of real boards are kept, by the names that Linux gives them.
BOARD_TREES=$TARGET_DIR/device-trees

# The Raspberry Pis whose trees go on a boot partition: the firmware looks for the one of the board that it finds itself on.
PI_TREES=(bcm2837-rpi-3-a-plus bcm2837-rpi-3-b bcm2837-rpi-3-b-plus bcm2711-rpi-4-b bcm2711-rpi-400 bcm2712-rpi-5-b)

# Leaves Debian's device trees of those and of the other boards that are tested in BOARD_TREES; done once. They are part of the kernel package for real boards, of
# which nothing else is kept.
ensure_board_trees() {
    local apt=$BOARD_TREES/apt kernel tree is_done=yes
    local trees=("${PI_TREES[@]/#/broadcom/}" xilinx/zynqmp-zcu102-rev1.0)
    for tree in "${trees[@]}"; do [ -s "$BOARD_TREES/${tree##*/}.dtb" ] || is_done=no; done
    [ $is_done = no ] || [ ! -s "$BOARD_TREES/version" ] || return 0
    have dpkg-deb || fail "there is no dpkg-deb" "the device trees come in a Debian package; use a Debian or Ubuntu machine"
    apt_root "$LINUX_SUITE" "$apt"
    kernel=$(kernel_package "$apt" linux-image-arm64)
    rm -f "$apt"/cache/archives/*.deb
    (cd "$apt/cache/archives" && apt_arm64 "$apt" apt-get download "$kernel" >&2) ||
        fail "could not download $kernel" "check the network and run again"
    for tree in "${trees[@]}"; do
        dpkg-deb --fsys-tarfile "$apt"/cache/archives/"$kernel"_*.deb |
            tar -x -O --wildcards "*/$tree.dtb" >"$BOARD_TREES/${tree##*/}.dtb" || fail "$kernel has no $tree.dtb"
    done
    rm -rf "$apt"
    echo "${kernel#linux-image-}" >"$BOARD_TREES/version"
    say "device trees of Raspberry Pi 3, 4, 5 and ZCU102: $(cat "$BOARD_TREES/version")"
}
