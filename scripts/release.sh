#!/usr/bin/env bash
# Builds what is published of a version, from a tag, into target/release-VERSION/:
#
#   scripts/release.sh vVERSION
#
#   vx-VERSION.tar.xz                    the source, as `git archive` writes it
#   vx_VERSION-1~debRELEASE_ARCH.deb     a package for this release of Debian (not on other systems)
#   vx-VERSION-…-linux_ARCH.whl          the Python package, for systems with the same FFmpeg and GStreamer
#   vx-VERSION.cdx.json                  the software bill of materials
#   SHA256SUMS                           of all of these
#
# Everything is built from the unpacked source archive, so that it contains whatever is needed. Takes two whole builds.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tag=${1:-}

fail() {
    echo "release: $*" >&2
    exit 1
}
say() { echo "release: $*"; }
[ -n "$tag" ] || fail 'name a tag: scripts/release.sh v1.2.3'
version=${tag#v}
commit=$(git rev-parse --verify --quiet "refs/tags/$tag^{commit}") || fail "there is no tag $tag: create it with 'git tag -s $tag'"
# The version of the project is the one that everything else is checked against.
[ "$(git show "$commit:Cargo.toml" | sed -n 's/^version = "\(.*\)"/\1/p' | head -n 1)" = "$version" ] ||
    fail "Cargo.toml of $tag has another version: tags are v and that version"
for file in bindings/python/Cargo.toml bindings/node/Cargo.toml bindings/node/package.json; do
    git show "$commit:$file" | grep -q "^ *\"\?version\"\? *[=:] *\"$version\"" || fail "$file of $tag has another version than Cargo.toml"
done
git show "$commit:CHANGELOG.md" | grep -q "^## \[\?$version\]\?\( \|$\)" || fail "CHANGELOG.md of $tag has no section '## $version'"

output=$PWD/target/release-$version
[ ! -e "$output" ] || fail "$output exists: move it away, a release is not built twice"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
mkdir -p "$output.part"
trap 'rm -rf "$output.part"' EXIT

say "source archive of $tag ($commit)"
git archive --format=tar --prefix="vx-$version/" "$commit" | xz -9 >"$output.part/vx-$version.tar.xz"

# Built from the archive.
build=$output.part/build
mkdir "$build"
tar -xJf "$output.part/vx-$version.tar.xz" -C "$build" --strip-components=1
say 'plugin and command'
make -C "$build" --no-print-directory build
say 'bill of materials'
make -C "$build" --no-print-directory sbom
cp "$build/target/vx.cdx.json" "$output.part/vx-$version.cdx.json"
if command -v dpkg-shlibdeps >/dev/null; then
    say 'Debian package'
    make -C "$build" --no-print-directory deb
    cp "$build"/target/deb/vx_*.deb "$output.part/"
else
    say 'no Debian package: dpkg-shlibdeps is missing'
fi
say 'Python package'
make -C "$build" --no-print-directory target/wheels
cp "$build"/target/wheels/vx-*.whl "$output.part/"
rm -rf "$build"

(cd "$output.part" && sha256sum -- * >SHA256SUMS)
mv "$output.part" "$output"
trap - EXIT
say "done: $output"
cat "$output/SHA256SUMS"
