# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# Fetches an arm64 Debian kernel, busybox and kexec into target/linux, and builds initramfs archives. After setup.sh.
# LINUX_SUITE names another suite than trixie, for another kernel: it has a folder of its own, target/linux-SUITE.
#
# The packages come through a private apt root: neither the machine's apt sources nor its dpkg architectures are
# touched, and root is not needed. They are GPL: fetched, never committed.

# One suite for every machine, so that the guest is the same everywhere: Debian 13, Linux 6.12.
LINUX_SUITE=${LINUX_SUITE:-trixie}
LINUX=$TARGET_DIR/linux
[ "$LINUX_SUITE" = trixie ] || LINUX=$TARGET_DIR/linux-$LINUX_SUITE
LINUX_APT=$LINUX/apt
LINUX_FILES=$LINUX/files

# apt of the private root: apt_arm64 apt-get|apt-cache ARGS. The machine's own apt.conf (a proxy, say) stays in force.
apt_arm64() {
    local tool=$1
    shift
    "$tool" -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Etc="$LINUX_APT/etc" \
        -o Dir::Etc::sourcelist="$LINUX_APT/etc/sources.list" -o Dir::Etc::sourceparts="$LINUX_APT/etc/none" \
        -o Dir::Etc::preferencesparts="$LINUX_APT/etc/none" -o Dir::State="$LINUX_APT/state" \
        -o Dir::State::status="$LINUX_APT/status" -o Dir::Cache="$LINUX_APT/cache" \
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

# Leaves {Image,version} in the suite's folder, and the files of the packages below files; done once.
ensure_linux() {
    if [ -s "$LINUX/version" ]; then
        # Fetched before; what we add to it may have changed since.
        [ "$LINUX/base.cpio" -nt "$ROOT/scripts/lib/guest_init.sh" ] || build_base_initramfs
        return 0
    fi
    have dpkg-deb || fail "there is no dpkg-deb" "the Linux guest is made of Debian packages; use a Debian or Ubuntu machine"
    ensure_packages cpio binutils-aarch64-linux-gnu
    local archive uri key kernel deb new=$LINUX/files.new
    archive=$(linux_archive)
    read -r uri key <<<"$archive"
    [ "$key" != - ] || key=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$LINUX_APT"/etc/none "$LINUX_APT"/state/lists/partial "$LINUX_APT"/cache/archives/partial
    : >"$LINUX_APT/status"
    echo "deb [arch=arm64 signed-by=$key] $uri $LINUX_SUITE main" >"$LINUX_APT/etc/sources.list"
    say "fetching the Linux guest: arm64 packages of $LINUX_SUITE from $uri"
    apt_arm64 apt-get update >&2 || fail "$uri could not be read" "check the network and run again"
    kernel=$(apt_arm64 apt-cache depends linux-image-cloud-arm64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    [ -n "$kernel" ] || fail "$LINUX_SUITE has no linux-image-cloud-arm64"
    # Each package with its dependencies, so that the libraries of kexec come along; nothing is installed.
    rm -f "$LINUX_APT"/cache/archives/*.deb
    apt_arm64 apt-get -y --download-only install busybox-static kexec-tools >&2 ||
        fail "could not download busybox-static and kexec-tools" "check the network and run again"
    (cd "$LINUX_APT/cache/archives" && apt_arm64 apt-get download "$kernel" >&2) ||
        fail "could not download $kernel" "check the network and run again"
    rm -rf "$new"
    mkdir -p "$new"
    for deb in "$LINUX_APT"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$new" --keep-directory-symlink
    done
    rm -rf "$LINUX_FILES"
    mv "$new" "$LINUX_FILES"
    # Debian's arm64 vmlinuz is an uncompressed Image.
    cp "$LINUX_FILES/boot/vmlinuz-${kernel#linux-image-}" "$LINUX/Image"
    build_base_initramfs
    rm -f "$LINUX_APT"/cache/archives/*.deb
    echo "${kernel#linux-image-}" >"$LINUX/version"
    say "Linux guest: $(cat "$LINUX/version")"
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

# pack_initramfs DIRECTORY ARCHIVE. Archives may be joined with cat: Linux unpacks one after the other.
pack_initramfs() {
    (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --null -o -H newc -R 0:0 --quiet) >"$2.new"
    mv "$2.new" "$2"
}
