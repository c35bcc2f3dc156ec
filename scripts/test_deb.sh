#!/usr/bin/env bash
# Tests a Debian package in a fresh Debian of its release: installs it with apt, uses the command and the elements as an unprivileged
# user, removes it, and checks that nothing of it is left.
#
#   scripts/test_deb.sh PACKAGE [ROOT]
#
# ROOT (/var/tmp/vx-deb-CODENAME) is created with debootstrap if it does not exist, and is not changed: the package is installed into an
# overlay on it. As root only; skips with a message where that or debootstrap is missing.
set -euo pipefail

package=$1
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "test_deb: $*" >&2
    exit 1
}
skip() {
    echo "test_deb: skipped: $*"
    exit 0
}
[ -f "$package" ] || fail "$package does not exist: run 'make deb' first"
case $package in
*~deb12_*) codename=bookworm ;;
*~deb13_*) codename=trixie ;;
*) fail "$package is for neither Debian 12 nor Debian 13" ;;
esac
root=${2:-/var/tmp/vx-deb-$codename}
[ "$(id -u)" = 0 ] || skip 'it enters a chroot, which only root may'
command -v debootstrap >/dev/null || skip 'debootstrap is missing: apt install debootstrap'

if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error "$package" || fail 'lintian found errors'
else
    echo 'test_deb: skipped: lintian is missing: apt install lintian'
fi

if [ ! -e "$root/etc/debian_version" ]; then
    echo "test_deb: installing Debian ($codename) in $root"
    debootstrap --variant=minbase "$codename" "$root" "$mirror" >"$root.log" || fail "debootstrap failed: see $root.log"
    rm -f "$root.log"
fi

work=$(mktemp -d --tmpdir=/var/tmp vx-test-deb.XXXXXX)
mounted=()
cleanup() {
    for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount -l "${mounted[i]}" || true; done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
tree=$work/tree
mkdir "$work/upper" "$work/work" "$tree"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$tree" || skip 'overlay mounts are not possible here'
mounted+=("$tree")
for folder in proc dev sys; do
    mount --bind "/$folder" "$tree/$folder"
    mounted+=("$tree/$folder")
done
cp /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
cp "$package" "$tree/var/cache/vx.deb"
install -m 644 "$source/examples/media/scenes.mp4" "$tree/var/tmp/scenes.mp4"

passed_on=()
for name in http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || passed_on+=("$name=${!name}")
done
chroot "$tree" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
    "${passed_on[@]}" bash -s <<'INSIDE'
set -euo pipefail
fail() { echo "test_deb: $*" >&2; exit 1; }
# Runs a command as somebody without rights, whose home is a new folder.
export HOME=/var/tmp/home
mkdir -p $HOME && chown nobody: $HOME
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=$HOME XDG_CACHE_HOME=$HOME/cache "$@"; }
printf 'APT::Install-Recommends "false";\nAPT::Sandbox::User "root";\n' >/etc/apt/apt.conf.d/test
apt-get update -qq

apt-get install -qq -y /var/cache/vx.deb >/var/tmp/apt.log 2>&1 || { cat /var/tmp/apt.log; fail 'apt could not install the package'; }
dpkg --audit | grep . && fail 'dpkg reports a broken package'
cd $HOME
# Without recommended packages: the command alone.
as_user vx detect --output people.csv /var/tmp/scenes.mp4 2>detect.log || { cat detect.log; fail 'vx detect failed'; }
rows=$(grep -c ',person,' people.csv) || fail 'vx detect found no person'
as_user vx doctor >doctor.log 2>&1 || { cat doctor.log; fail 'vx doctor reports problems'; }
grep -q "ok *ONNX Runtime: .*(.*/lib/$(uname -m)-linux-gnu/vx/\(openvino/\)\?libonnxruntime.so[0-9.]*)" doctor.log || { cat doctor.log; fail 'vx does not use the ONNX Runtime of the package'; }

apt-get install -qq -y gstreamer1.0-tools >/var/tmp/apt.log 2>&1
as_user gst-inspect-1.0 vx >inspect.log
for element in vxkeyframedec vxyolodetect vxoverlay vxjsonenc vxbulkbin; do
    grep -q "$element" inspect.log || fail "gst-inspect-1.0 vx does not list $element"
    as_user gst-inspect-1.0 "$element" >/dev/null || fail "$element does not load"
done
as_user gst-launch-1.0 -q filesrc location=/var/tmp/scenes.mp4 ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! filesink location=scenes.jsonl
frames=$(grep -c '"pts_ns"' scenes.jsonl)
[ "$frames" = 16 ] || fail "the launch line of \`make demo\` wrote $frames keyframes, not 16"
[ "$(grep -o '"label":"person"' scenes.jsonl | wc -l)" = "$rows" ] || fail 'the launch line and vx detect found different persons'

for file in man/man1/vx-detect.1.gz bash-completion/completions/vx zsh/vendor-completions/_vx fish/vendor_completions.d/vx.fish \
    doc/vx/copyright doc/vx/licenses.txt doc/vx/onnxruntime/ThirdPartyNotices.txt doc/vx/vx.cdx.json; do
    dpkg -L vx | grep -qx "/usr/share/$file" || fail "/usr/share/$file is not in the package"
done
(cd / && md5sum --quiet -c /var/lib/dpkg/info/vx.md5sums) || fail 'installed files differ from md5sums'

# Removed: files, links and folders.
dpkg -L vx >/var/tmp/files
apt-get purge -qq -y vx >/var/tmp/apt.log 2>&1 || { cat /var/tmp/apt.log; fail 'apt could not remove the package'; }
while IFS= read -r path; do
    if [ -L "$path" ] || { [ -e "$path" ] && ! dpkg -S "$path" >/dev/null 2>&1; }; then
        [ "$path" = /. ] || fail "$path is left after the removal"
    fi
done </var/tmp/files
dpkg -s vx >/dev/null 2>&1 && fail 'dpkg still lists the package'
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /var/tmp -o -path /var/cache \) -prune -o \
    \( -name 'libgstvx*' -o -name 'libonnxruntime*' -o -name 'vx*.1.gz' \) -print | grep . && fail 'files are left (above)'
echo "test_deb: $(. /etc/os-release && echo "$PRETTY_NAME"): installed, $frames keyframes with $rows persons, removed without a rest"
INSIDE
