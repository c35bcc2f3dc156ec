#!/usr/bin/env bash
# Builds and tests this tree in a Debian 13 chroot (FFmpeg 7.1, GStreamer 1.26) with this machine's Rust.
#
#   scripts/test_debian13.sh [ROOT [ARGUMENT...]]
#
# The ARGUMENTs (test) are those of make. ROOT is created with debootstrap if it does not exist. Run as root. Mounts are removed at the end.
set -euo pipefail

root=${1:-/var/tmp/vx-debian13}
shift $(($# > 0))
[ $# -gt 0 ] || set -- test
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
source=$(cd "$(dirname "$0")/.." && pwd)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}

fail() { echo "test_debian13.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "run it as root: it creates a chroot and enters it"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt install debootstrap"
[ -d "$cargo_home" ] && [ -d "$rustup_home" ] || fail "Rust from rustup.rs is missing in $cargo_home and $rustup_home"

if [ ! -e "$root/etc/debian_version" ]; then
    echo "test_debian13.sh: installing Debian 13 in $root"
    debootstrap --variant=minbase trixie "$root" "$mirror"
fi

mounted=()
unmount() {
    for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount -l "${mounted[i]}" || true; done
}
trap unmount EXIT
bind() {
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mounted+=("$root$2")
}
bind /proc /proc
bind /dev /dev
# OpenVINO reads the processor's topology there, and prints a warning where it is missing.
bind /sys /sys
bind "$cargo_home" /opt/cargo
bind "$rustup_home" /opt/rustup
# Nothing in the chroot may update this machine's Rust.
mount -o remount,bind,ro "$root/opt/rustup"
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
# The certificates that this machine trusts (for example of a proxy), in a place that packages do not overwrite.
certificates=/opt/ca-certificates.crt
cp /etc/ssl/certs/ca-certificates.crt "$root$certificates"

# The working tree with uncommitted changes; earlier build results are kept.
mkdir -p "$root/src"
git -C "$source" ls-files -co --exclude-standard -z | tar -C "$source" --null -T - -c | tar -x -C "$root/src"

passed_on=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL; do
    [ -z "${!name:-}" ] || passed_on+=("$name=${!name}")
done
chroot "$root" /usr/bin/env -i HOME=/root LANG=C.UTF-8 \
    PATH=/opt/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CARGO_HOME=/opt/cargo RUSTUP_HOME=/opt/rustup RUSTUP_AUTO_INSTALL=0 \
    SSL_CERT_FILE=$certificates PIP_CERT=$certificates CARGO_HTTP_CAINFO=$certificates GIT_SSL_CAINFO=$certificates \
    "${passed_on[@]}" sh -c '
        set -e
        # install CHECK PACKAGE...: the packages, unless the command CHECK succeeds.
        install() {
            check=$1
            shift
            if ! eval "$check"; then
                apt-get update -q
                apt-get install -qy --no-install-recommends "$@"
            fi
        }
        # The requirements of README.md besides Rust.
        install "command -v make && command -v git && command -v python3" make git python3
        # For GstAnalyticsRelationMeta and the elements that read it.
        install "pkg-config --exists gstreamer-analytics-1.0" pkg-config libgstreamer-plugins-bad1.0-dev gstreamer1.0-plugins-bad
        # The RTSP server of tests/rtp.rs.
        server="import gi; gi.require_version(\"GstRtspServer\", \"1.0\")"
        install "python3 -c \"\$server\"" gir1.2-gst-rtsp-server-1.0 python3-gi
        case $1 in
            deb) install "command -v dpkg-shlibdeps" dpkg-dev ;;
            test-meson) install "command -v meson" meson ninja-build ;;
        esac
        cd /src
        git config --global --add safe.directory /src
        make "$@"' make "$@"
