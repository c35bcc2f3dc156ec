#!/usr/bin/env bash
# Packs what `make build` built as a Debian package for this release of Debian:
#
#   packaging/debian/build.sh PLUGIN LIBRARIES COMMAND FOLDER
#
# writes FOLDER/vx_VERSION_ARCHITECTURE.deb and prints its path. The files are those of scripts/install.sh with PREFIX=/usr: the plugin in
# GStreamer's folder, the command, manual pages, completions, licences, and ONNX Runtime in vx/ beside the plugin's folder. The package
# contains whatever providers `make setup` downloaded. Dependencies are those of the linked libraries (dpkg-shlibdeps).
#
# Environment: DEBFULLNAME and DEBEMAIL name the maintainer; SOURCE_DATE_EPOCH is the time of the files (default: that of the commit).
set -euo pipefail

plugin=$1 libraries=$2 command=$3 output=$4
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/packaging/debian

fail() {
    echo "deb: $*" >&2
    exit 1
}
for program in dpkg-deb dpkg-shlibdeps dpkg-architecture strip; do
    command -v "$program" >/dev/null || fail "$program is missing: on Debian run 'apt install dpkg-dev binutils'; other systems use Meson"
done
[ -f "$plugin" ] && [ -x "$command" ] || fail "the plugin is not built: run 'make build' first"
[ -s "$root/target/licenses.txt" ] || fail "target/licenses.txt is missing: run 'make build' first"

release=$(. /etc/os-release && echo "$ID${VERSION_ID:-}")
architecture=$(dpkg-architecture -q DEB_HOST_ARCH)
libdir=/usr/lib/$(dpkg-architecture -q DEB_HOST_MULTIARCH)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
# A package of Debian 13 is newer than that of 12, so that an upgrade of the system replaces it.
version=$version-1~${release/debian/deb}
maintainer="${DEBFULLNAME:-The vx developers} <${DEBEMAIL:-vx@vx.example}>"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/vx
# Modes of the files are those of the package, whatever the umask.
umask 022

mkdir "$tree" "$work/stripped"
strip --strip-unneeded -o "$work/stripped/libgstvx.so" "$plugin"
strip --strip-unneeded -o "$work/stripped/vx" "$command"
"$root/scripts/install.sh" install "$work/stripped/libgstvx.so" "$libraries" "$work/stripped/vx" "$libdir/gstreamer-1.0" /usr/bin "$tree"

# dpkg knows the files.
rm "$tree$libdir/vx/installed"
# Libraries need no execute permission in Debian. Only symbolic links have other modes, and the folder with the second ONNX Runtime.
find "$tree$libdir" -type f -exec chmod 644 {} +
# Completions of zsh have another place in Debian.
mkdir -p "$tree/usr/share/zsh/vendor-completions"
mv "$tree/usr/share/zsh/site-functions/_vx" "$tree/usr/share/zsh/vendor-completions/"
rmdir "$tree/usr/share/zsh/site-functions"

documents=$tree/usr/share/doc/vx
# The same texts are in the file copyright.
rm "$documents"/LICENSE-*
install -m 644 "$here/copyright" "$documents/copyright"
python3 "$root/scripts/sbom.py" >"$documents/vx.cdx.json"
gzip -9n <"$root/CHANGELOG.md" >"$documents/changelog.gz"
gzip -9n >"$documents/changelog.Debian.gz" <<CHANGELOG
vx ($version) unstable; urgency=medium

  * Package of this version; changelog.gz lists its changes.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
gzip -9n "$tree"/usr/share/man/man1/*.1
mkdir -p "$tree/usr/share/lintian/overrides"
install -m 644 "$here/lintian-overrides" "$tree/usr/share/lintian/overrides/vx"

# dpkg-shlibdeps reads debian/control of the current folder.
mkdir -p "$work/debian" "$tree/DEBIAN"
printf 'Source: vx\n\nPackage: vx\nArchitecture: any\n' >"$work/debian/control"
# The package's own libraries have no package to depend on.
depends=$(cd "$work" && find vx -type f \( -name '*.so*' -o -path vx/usr/bin/vx \) -print0 |
    xargs -0 dpkg-shlibdeps -O -l"$tree$libdir/vx" -l"$tree$libdir/vx/openvino" --ignore-missing-info 2>"$work/shlibdeps.log" |
    sed -n 's/^shlibs:Depends=//p') || {
    cat "$work/shlibdeps.log" >&2
    fail 'the dependencies could not be computed (above)'
}
[ -n "$depends" ] || fail 'no dependencies were computed'
(cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
cat >"$tree/DEBIAN/control" <<CONTROL
Package: vx
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$tree/usr" | cut -f 1)
Depends: $depends
Recommends: gstreamer1.0-tools, gstreamer1.0-plugins-base, gstreamer1.0-plugins-good
Section: video
Priority: optional
Description: detects objects in the keyframes of media files
 A GStreamer plugin that extracts the keyframes of media files, detects
 objects in them with ONNX models and writes the detections as metadata, JSON
 lines or pictures, and the command vx, which does so for files and folders.
 .
 The package contains ONNX Runtime, the OpenVINO provider where the processor
 has one, and a small model that detects persons.
CONTROL

mkdir -p "$output"
# Modification times are those of the commit, so that the same build gives the same package.
find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0r touch --no-dereference --date="@$SOURCE_DATE_EPOCH"
package=$output/vx_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$tree" "$package" >/dev/null
echo "$package"
