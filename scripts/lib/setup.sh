# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# Installs what a script needs and the machine lacks: Debian packages. Sourced after shell.sh.
#
# Works on Debian 12, Debian 13 and Ubuntu 24.04. Nothing is changed without consent (confirm), a failed step undoes
# what it began, and every failure says what to do.

# QEMU's `raspi4b` machine, and nothing else here, needs 9.0.
QEMU_MINIMUM=9

APT_UPDATED=no
BACKPORTS_FILE=/etc/apt/sources.list.d/afterimage-backports.sources

package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

apt_update() {
    [ "$APT_UPDATED" = no ] || return 0
    as_root apt-get update -q >&2 || return 1
    APT_UPDATED=yes
}

# Installs the packages named that are not installed yet: ensure_packages [-t SUITE] NAME...
ensure_packages() {
    local from=() missing=() name
    if [ "$1" = -t ]; then
        from=(-t "$2")
        shift 2
    fi
    for name in "$@"; do
        package_installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    have apt-get || fail "these packages are missing and there is no apt-get: ${missing[*]}" "install them by hand"
    confirm "install the packages: ${missing[*]}?" || fail "not installed: ${missing[*]}" "install them, or answer y"
    apt_update || fail "apt-get update failed" "check the network and the apt sources, then run again"
    say "installing ${missing[*]}"
    # Download first: an unreachable archive then leaves nothing half-installed.
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${from[@]}")
    as_root "${install[@]}" --download-only "${missing[@]}" >&2 ||
        fail "could not download ${missing[*]}" "nothing was installed; check the network and run again"
    as_root "${install[@]}" "${missing[@]}" >&2 ||
        fail "could not install ${missing[*]}" "run 'apt-get -f install' and see what it says, then run again"
}

# Prints "URI SIGNED-BY" of the machine's own archive: the source that carries SUITE with the component main.
# Reads both deb822 (.sources) and one-line (.list) files. SIGNED-BY is "-" when the source names no key.
apt_archive_of() {
    local suite=$1 files=()
    shift
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] && files+=("$file")
    done
    [ ${#files[@]} -gt 0 ] || return 1
    python3 "$ROOT/scripts/lib/apt_archive.py" "$suite" "${files[@]}"
}

# Adds SUITE-backports from the archive that the machine already uses; taken out again when it cannot be read.
add_backports() {
    local suite=$1 archive uri key
    if apt-cache policy 2>/dev/null | grep -q "n=$suite-backports"; then return 0; fi
    archive=$(apt_archive_of "$suite") ||
        fail "no apt source of this machine carries '$suite main'" "add $suite-backports by hand, then run again"
    read -r uri key <<<"$archive"
    confirm "add the apt source $BACKPORTS_FILE ($suite-backports of $uri)?" ||
        fail "QEMU $QEMU_MINIMUM needs $suite-backports" "add it by hand, or answer y"
    {
        printf 'Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n' "$uri" "$suite"
        [ "$key" = - ] || printf 'Signed-By: %s\n' "$key"
    } | as_root tee "$BACKPORTS_FILE" >/dev/null
    APT_UPDATED=no
    if ! apt_update || ! apt-cache policy | grep -q "n=$suite-backports"; then
        as_root rm -f "$BACKPORTS_FILE"
        fail "$uri has no $suite-backports, or is not reachable" "the source was taken out again; add one by hand"
    fi
}

# Prints QEMU's major version, or 0 when there is none.
qemu_major() {
    have qemu-system-aarch64 || { echo 0; return; }
    qemu-system-aarch64 --version | sed -n 's/.*version \([0-9]*\)\..*/\1/p;q'
}

# Installs a QEMU that has raspi4b; where the distribution has none, the older one does for everything else, and says so.
ensure_qemu() {
    [ "$(qemu_major)" -lt "$QEMU_MINIMUM" ] || return 0
    local id codename
    id=$(. /etc/os-release && echo "${ID:-unknown}")
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
    if [ "$id" = debian ] && [ "$codename" = bookworm ]; then
        add_backports bookworm
        # An older QEMU that is installed already is replaced.
        if package_installed qemu-system-arm; then
            confirm "replace QEMU $(qemu_major) by the one of bookworm-backports?" || fail "QEMU is older than $QEMU_MINIMUM"
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
                -t bookworm-backports qemu-system-arm >&2 || fail "could not upgrade QEMU" "run again"
        fi
        ensure_packages -t bookworm-backports qemu-system-arm
    else
        ensure_packages qemu-system-arm
    fi
    local major
    major=$(qemu_major)
    [ "$major" -gt 0 ] || fail "qemu-system-aarch64 does not run" "see what 'qemu-system-aarch64 --version' says"
    [ "$major" -ge "$QEMU_MINIMUM" ] ||
        say "note: QEMU $major has no raspi4b machine (it needs $QEMU_MINIMUM); everything else works"
}

# Debian tools of the tests: independent readers of a dump, an assembler, a DTB compiler.
ensure_tools() {
    # kexec-tools is here for its readers: it must not take over how this machine reboots.
    if have debconf-set-selections && ! package_installed kexec-tools; then
        confirm "install kexec-tools, told not to handle this machine's reboots?" || fail "not installed: kexec-tools"
        echo 'kexec-tools kexec-tools/load_kexec boolean false' | as_root debconf-set-selections
    fi
    ensure_packages python3 gcc libc6-dev git gdb-multiarch device-tree-compiler makedumpfile kexec-tools \
        binutils-aarch64-linux-gnu qemu-user-static cpio shellcheck e2fsprogs python3-libkdumpfile
}
