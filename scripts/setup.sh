#!/usr/bin/env bash
# Installs everything that is needed to build, test and run this project. Does nothing for parts that are present:
#
#   scripts/setup.sh           install what is missing
#   scripts/setup.sh --check   only report what is missing (exit status 1 if anything is)
#
# 1. Rust is checked, never installed.
# 2. Distribution packages: GStreamer, FFmpeg, a C compiler, libclang (used by bindgen to read FFmpeg's headers). With apt they are
#    installed; on other systems the command is printed.
# 3. ONNX Runtime's shared library, and on x86-64 Linux the OpenVINO plugin provider, from their Python wheels, pinned by version
#    and SHA-256, into .deps/lib. Only the libraries are extracted, so the Python version of a wheel does not matter, and nothing
#    is installed into a Python environment.
# 4. The plugin provider supports only Intel devices. On other processors that multiply bf16 (AMD since Zen 4) OpenVINO is faster too
#    (docs/performance.md): an ONNX Runtime with OpenVINO built in, into .deps/lib/openvino.
#
# Environment:
#   ORT_DYLIB_PATH   your own ONNX Runtime library; none is downloaded then
#   VX_OPENVINO      cpu (default): OpenVINO for the CPU; all: also for Intel GPUs and NPUs (50 MB more, without drivers), and step 4
#                    on every processor that is not Intel's; no: without OpenVINO, and an earlier download of it is removed
#   PIP_INDEX_URL    and other settings of pip: where wheels come from
set -euo pipefail

readonly RUST_MINIMUM=1.92
readonly AVFORMAT_MINIMUM=59 # FFmpeg 5
readonly GSTREAMER_MINIMUM=1.20

readonly ORT_VERSION=1.31.1
readonly OPENVINO_VERSION=1.8.1
readonly OPENVINO_PLATFORM=manylinux_2_28_x86_64
readonly OPENVINO_SHA256=3832643158c8c187fcab6db661cde2a8c06a2b3559d95d0f2411ac0e51c5e924

# The last published version with OpenVINO built in.
readonly BUILT_IN_VERSION=1.24.1
readonly BUILT_IN_PLATFORM=manylinux_2_28_x86_64
readonly BUILT_IN_SHA256=d617fac2f59a6ab5ea59a788c3e1592240a129642519aaeaa774761dfe35150e
readonly BUILT_IN_FILES='libonnxruntime.so.* libonnxruntime_providers_openvino.so libonnxruntime_providers_shared.so
  libopenvino.so.???? libopenvino_onnx_frontend.so.???? libopenvino_intel_cpu_plugin.so libtbb.so.*'

# The provider with its CPU device. Without the GPU and NPU devices and their tuning table (cache.json), and without the devices that
# only combine others (auto, hetero, auto_batch); the provider loads and runs without them.
# The IR front end reads compiled models from a cache; tbbbind and hwloc support hybrid and multi-socket processors.
readonly OPENVINO_CPU_FILES='libonnxruntime_providers_openvino_plugin.so libopenvino.so.* libopenvino_intel_cpu_plugin.so
  libopenvino_onnx_frontend.so.* libopenvino_ir_frontend.so.* libtbb.so.* libtbbmalloc.so.* libtbbbind_2_5.so.* libhwloc.so.*'
readonly OPENVINO_ALL_FILES='libonnxruntime_providers_openvino_plugin.so libopenvino* libtbb* libhwloc* cache.json'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/.deps
temporary=
trap '[ -z "$temporary" ] || rm -rf "$temporary"' EXIT

say() { printf 'setup: %s\n' "$*"; }
warn() { printf 'setup: warning: %s\n' "$*" >&2; }
die() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
# Whether any of these paths (globs already expanded by the caller) exists.
any_exists() {
    local path
    for path; do [ -e "$path" ] && return 0; done
    return 1
}
# "1.92" <= "1.95.0"?
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# ------------------------------------------------------------------ checks

# Prints a sentence if Rust is missing or too old.
rust_trouble() {
    local advice="install it from https://rustup.rs (curl -sSf https://sh.rustup.rs | sh), open a new shell and run this again"
    if ! have cargo || ! have rustc; then
        echo "Rust is missing: $advice."
        return
    fi
    local version
    version=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) || true
    [ -n "$version" ] || echo "rustc does not run: run 'rustup default stable'; without rustup, $advice."
    [ -z "$version" ] || at_least "$RUST_MINIMUM" "${version%%-*}" ||
        echo "Rust $version is too old, $RUST_MINIMUM or newer is required: run 'rustup update stable'; without rustup, $advice."
}

modules_there() { have pkg-config && pkg-config --exists "$@" 2>/dev/null; }

# Whether GStreamer's plugin folder contains this plugin. Running GStreamer would write the user's registry.
gst_plugin_there() {
    local folder
    folder=$(pkg-config --variable=pluginsdir gstreamer-1.0 2>/dev/null) || return 1
    any_exists "$folder/libgst$1".*
}

# bindgen needs the library and the compiler's own headers (stddef.h).
libclang_there() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    if [ "$(uname)" = Darwin ]; then
        any_exists /Library/Developer/CommandLineTools/usr/lib/libclang.dylib /Applications/Xcode*.app \
            /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib
    else
        any_exists /usr/lib/llvm*/lib*/libclang[.-]*so* /usr/lib*/libclang[.-]*so* /usr/lib/*/libclang[.-]*so* &&
            any_exists /usr/lib/llvm*/lib*/clang/*/include/stddef.h /usr/lib*/clang/*/include/stddef.h
    fi
}

# Prints the missing items, one in a line, by the names of the package table below.
missing_items() {
    have cc || echo compiler
    have pkg-config || echo pkg-config
    libclang_there || echo libclang
    modules_there gstreamer-1.0 gstreamer-base-1.0 gstreamer-check-1.0 || echo gstreamer
    modules_there gstreamer-video-1.0 gstreamer-app-1.0 || echo gstreamer-base
    have gst-launch-1.0 && have gst-inspect-1.0 || echo gstreamer-tools
    gst_plugin_there app || echo plugins-base
    gst_plugin_there isomp4 && gst_plugin_there jpeg || echo plugins-good
    modules_there libavformat || echo avformat
    modules_there libavcodec || echo avcodec
    modules_there libavutil || echo avutil
    modules_there libswscale || echo swscale
    have ffmpeg || echo ffmpeg
    have python3 || echo python
    if wheels_wanted && ! pip_command >/dev/null; then echo pip; fi
}

# ------------------------------------------------------------------ distribution packages

package_manager() {
    local name
    for name in apt-get dnf pacman brew; do
        if have "$name"; then
            echo "$name"
            return
        fi
    done
}

# package_of MANAGER ITEM
package_of() {
    case $1:$2 in
    apt-get:compiler) echo build-essential ;;
    apt-get:pkg-config) echo pkg-config ;;
    apt-get:libclang) echo libclang-dev ;;
    apt-get:gstreamer) echo libgstreamer1.0-dev ;;
    apt-get:gstreamer-base) echo libgstreamer-plugins-base1.0-dev ;;
    apt-get:gstreamer-tools) echo gstreamer1.0-tools ;;
    apt-get:plugins-*) echo "gstreamer1.0-$2" ;;
    apt-get:avformat | apt-get:avcodec | apt-get:avutil | apt-get:swscale) echo "lib$2-dev" ;;
    apt-get:python | dnf:python) echo python3 ;;
    apt-get:pip | dnf:pip) echo python3-pip ;;
    dnf:compiler) echo gcc ;;
    dnf:pkg-config) echo pkgconf-pkg-config ;;
    dnf:libclang) echo clang-devel ;;
    dnf:gstreamer) echo gstreamer1-devel ;;
    dnf:gstreamer-base) echo gstreamer1-plugins-base-devel ;;
    dnf:gstreamer-tools) echo gstreamer1 ;;
    dnf:plugins-*) echo "gstreamer1-$2" ;;
    dnf:avformat | dnf:avcodec | dnf:avutil | dnf:swscale) echo "lib$2-free-devel" ;;
    dnf:ffmpeg) echo ffmpeg-free ;;
    pacman:compiler) echo base-devel ;;
    pacman:pkg-config | brew:pkg-config) echo pkgconf ;;
    pacman:libclang) echo clang ;;
    pacman:gstreamer-base | pacman:plugins-base) echo gst-plugins-base ;;
    pacman:plugins-good) echo gst-plugins-good ;;
    pacman:pip) echo python-pip ;;
    brew:compiler | brew:libclang) echo llvm ;;
    pacman:gstreamer* | brew:gstreamer* | brew:plugins-*) echo gstreamer ;;
    *:avformat | *:avcodec | *:avutil | *:swscale) echo ffmpeg ;;
    brew:pip) echo python ;;
    *) echo "$2" ;;
    esac
}

# install_command MANAGER PACKAGE...
install_command() {
    local manager=$1
    shift
    case $manager in
    apt-get) echo "apt-get install --no-install-recommends $*" ;;
    dnf) echo "dnf install $*" ;;
    pacman) echo "pacman -S --needed $*" ;;
    brew) echo "brew install $*" ;;
    esac
}

packages_for() {
    local item
    for item in $2; do package_of "$1" "$item"; done | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# Prefix that runs a command as root: nothing, sudo, or failure.
root_prefix() {
    if [ "$(id -u)" = 0 ]; then
        return 0
    elif have sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        echo sudo
    else
        return 1
    fi
}

install_packages() {
    local items manager packages prefix
    items=$(missing_items)
    [ -n "$items" ] || return 0
    manager=$(package_manager)
    [ -n "$manager" ] || die "missing: $(echo "$items" | tr '\n' ' ')(found none of apt, dnf, pacman and brew); install them by hand;" \
        "on Debian the command is: $(install_command apt-get "$(packages_for apt-get "$items")")"
    packages=$(packages_for "$manager" "$items")
    [ "$manager" = apt-get ] ||
        die "packages are missing; install them, then run this again: $(install_command "$manager" "$packages")"
    prefix=$(root_prefix) ||
        die "packages are missing, and installing them requires root; run this command as root, then try again: $(install_command apt-get "$packages")"

    say "installing with apt: $packages"
    local log=$temporary/apt.log
    # shellcheck disable=SC2086 # both are lists
    if ! { $prefix env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update &&
        $prefix env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --yes \
            --no-install-recommends $packages; } >"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        die "apt could not install the packages (its last messages are above); correct that, then run: apt-get update &&" \
            "$(install_command apt-get "$packages")"
    fi
    hash -r
    items=$(missing_items)
    [ -z "$items" ] || die "installed, but not found: $(echo "$items" | tr '\n' ' ')(check whether PKG_CONFIG_PATH or PATH hide the" \
        "packages of the distribution)"
}

# Prints a sentence for each installed library that is too old.
version_trouble() {
    if have python3 && ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))'; then
        echo "$(python3 --version) is too old: put Python 3.8 or newer first in PATH."
    fi
    modules_there gstreamer-1.0 && ! modules_there "gstreamer-1.0 >= $GSTREAMER_MINIMUM" &&
        echo "GStreamer $(pkg-config --modversion gstreamer-1.0) is too old: $GSTREAMER_MINIMUM or newer is required (Debian 12, Ubuntu 22.04)."
    modules_there libavformat && ! modules_there "libavformat >= $AVFORMAT_MINIMUM" &&
        echo "FFmpeg is too old (libavformat $(pkg-config --modversion libavformat)): FFmpeg 5 or newer is required (Debian 12)."
    true
}

# ------------------------------------------------------------------ wheels

# The platform's wheel of ONNX Runtime: sets ort_platform, ort_sha256 and ort_library; the first two stay empty if there is none.
choose_ort_wheel() {
    ort_platform='' ort_sha256='' ort_library=libonnxruntime.so.$ORT_VERSION
    case $(uname -s)-$(uname -m) in
    Linux-x86_64)
        ort_platform=manylinux_2_28_x86_64
        ort_sha256=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536
        ;;
    Linux-aarch64)
        ort_platform=manylinux_2_28_aarch64
        ort_sha256=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc
        ;;
    Darwin-arm64)
        ort_platform=macosx_14_0_arm64
        ort_sha256=96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c
        ort_library=libonnxruntime.$ORT_VERSION.dylib
        ;;
    esac
}

# The default in .cargo/config.toml is the downloaded library; any other value of ORT_DYLIB_PATH is the user's.
own_ort() {
    [ -n "${ORT_DYLIB_PATH:-}" ] && [ "$ORT_DYLIB_PATH" != "$deps/lib/libonnxruntime.so" ] && [ -e "$ORT_DYLIB_PATH" ]
}

# stamp_holds NAME TEXT: whether the stamp's first line is TEXT and every file that it lists exists.
stamp_holds() {
    local stamp=$deps/$1.stamp line first=
    [ -f "$stamp" ] || return 1
    while IFS= read -r line; do
        if [ -z "$first" ]; then
            [ "$line" = "$2" ] || return 1
            first=$line
        elif [ ! -e "$deps/$line" ]; then
            return 1
        fi
    done <"$stamp"
    [ -n "$first" ]
}

ort_stamp() { echo "onnxruntime $ORT_VERSION $ort_sha256"; }
openvino_stamp() { echo "onnxruntime-ep-openvino $OPENVINO_VERSION $OPENVINO_SHA256 $openvino"; }
ort_wanted() { ! own_ort && ! stamp_holds onnxruntime "$(ort_stamp)"; }
openvino_wanted() {
    [ "$openvino" != no ] && [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] && ! stamp_holds openvino "$(openvino_stamp)"
}
built_in_stamp() { echo "onnxruntime-openvino $BUILT_IN_VERSION $BUILT_IN_SHA256"; }
built_in_wanted() {
    ! own_ort && [ "$openvino" != no ] && [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] &&
        ! grep -qs GenuineIntel /proc/cpuinfo && { [ "$openvino" = all ] || grep -qs avx512_bf16 /proc/cpuinfo; } &&
        ! stamp_holds openvino-built-in "$(built_in_stamp)"
}
wheels_wanted() { ort_wanted || openvino_wanted || built_in_wanted; }

# Prints a Python that has pip: the user's, else the distribution's.
pip_command() {
    local python
    for python in python3 /usr/bin/python3; do
        if have "$python" && "$python" -m pip --version >/dev/null 2>&1; then
            echo "$python"
            return
        fi
    done
    return 1
}

# fetch_wheel NAME VERSION SHA256 PIP-OPTION...: the checked wheel's path in `wheel`; false with a reason in `reason` if not.
fetch_wheel() {
    local name=$1 version=$2 sha256=$3 folder=$temporary/$1 log=$temporary/pip.log python found
    shift 3
    mkdir -p "$folder"
    python=$(pip_command) || {
        reason='pip was not found: install it (Debian: apt-get install python3-pip)'
        return 1
    }
    if ! "$python" -m pip download --quiet --no-input --disable-pip-version-check --no-deps --only-binary=:all: \
        "$@" --dest "$folder" "$name==$version" >"$log" 2>&1 </dev/null; then
        reason="pip reported: $(grep -v -i '^warning' "$log" | tail -n 1)"
        return 1
    fi
    for wheel in "$folder"/*.whl; do break; done
    found=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$wheel")
    [ "$found" = "$sha256" ] || {
        reason="the wheel has an unexpected SHA-256 ($found, expected $sha256) and was not used;"
        reason="$reason a mirror or proxy may have modified it; 'pip config list' shows where wheels come from"
        return 1
    }
}

# unpack_wheel STAMP-NAME STAMP-TEXT FOLDER PATTERN...: the wheel's files that match go to FOLDER, the texts of licences to
# licenses in .deps, whole or not at all: each under its final name only when it is complete, the stamp last.
unpack_wheel() {
    python3 - "$wheel" "$deps" "$@" <<'PYTHON'
import fnmatch, os, shutil, sys, zipfile

wheel, deps, stamp_name, stamp_text, folder, *patterns = sys.argv[1:]
stamp = os.path.join(deps, stamp_name + ".stamp")
notices = ("LICENSE*", "ThirdPartyNotices*", "third-party-programs*", "Privacy*", "METADATA")
if os.path.exists(stamp):                      # files of an earlier version that this one may not contain
    with open(stamp) as file:
        earlier = file.read().splitlines()[1:]
    os.remove(stamp)
    for name in earlier:
        if os.path.lexists(os.path.join(deps, name)):
            os.remove(os.path.join(deps, name))

written = []
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        base = os.path.basename(entry.filename)
        if any(fnmatch.fnmatch(base, p) for p in patterns):
            name = os.path.join(folder, base)
        elif any(fnmatch.fnmatch(base, p) for p in notices):
            name = os.path.join("licenses", stamp_name, base)
        else:
            continue
        target = os.path.join(deps, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with archive.open(entry) as source, open(target + ".part", "wb") as out:
            shutil.copyfileobj(source, out)
        os.chmod(target + ".part", 0o755 if name.startswith("lib") and ".so" in base or base.endswith(".dylib") else 0o644)
        os.replace(target + ".part", target)
        written.append(name)
    for pattern in patterns:
        if not any(fnmatch.fnmatch(os.path.basename(name), pattern) for name in written):
            sys.exit(f"setup: error: the wheel {os.path.basename(wheel)} contains no file named {pattern}")
with open(stamp + ".part", "w") as file:
    file.write("\n".join([stamp_text, *written]) + "\n")
os.replace(stamp + ".part", stamp)
PYTHON
}

bring_ort() {
    if own_ort; then
        say "using the ONNX Runtime in ORT_DYLIB_PATH: $ORT_DYLIB_PATH"
        return
    fi
    ort_wanted || return 0
    if [ -z "$ort_platform" ] || { [ "$(uname)" = Linux ] && ! getconf GNU_LIBC_VERSION >/dev/null 2>&1; }; then
        die "there is no prebuilt ONNX Runtime for this machine ($(uname -s) $(uname -m)): install or build one (1.23 or newer)" \
            "and set ORT_DYLIB_PATH to its libonnxruntime"
    fi
    say "downloading ONNX Runtime $ORT_VERSION (about 24 MB)"
    fetch_wheel onnxruntime "$ORT_VERSION" "$ort_sha256" --python-version 3.12 --implementation cp --abi cp312 \
        --platform "$ort_platform" ||
        die "ONNX Runtime could not be downloaded; $reason. Check the network, or set PIP_INDEX_URL to a mirror, and try again; or set" \
            "ORT_DYLIB_PATH to an installed libonnxruntime (1.23 or newer)"
    case $ort_library in
    *.dylib) unpack_wheel onnxruntime "$(ort_stamp)" lib "$ort_library" ;;
    *) unpack_wheel onnxruntime "$(ort_stamp)" lib "$ort_library" libonnxruntime_providers_shared.so ;;
    esac
    rm -f "$wheel"
}

# The plugin and .cargo/config.toml use the name without a version, on macOS too.
link_ort() {
    local link=$deps/lib/libonnxruntime.so
    if own_ort || [ "$(readlink "$link" 2>/dev/null || true)" = "$ort_library" ]; then
        return
    fi
    ln -sfn "$ort_library" "$link"
}

bring_openvino() {
    openvino_wanted || return 0
    say "downloading the OpenVINO provider $OPENVINO_VERSION (about 53 MB)"
    if ! fetch_wheel onnxruntime-ep-openvino "$OPENVINO_VERSION" "$OPENVINO_SHA256" --platform "$OPENVINO_PLATFORM" \
        --python-version 3.12 --retries 1; then
        warn "the OpenVINO provider could not be downloaded; $reason. Everything works without it, but slower on Intel processors;" \
            "'make setup' tries again, VX_OPENVINO=no leaves it out"
        return
    fi
    set -f # the patterns are the unpacker's
    # shellcheck disable=SC2086 # a list
    case $openvino in
    cpu) unpack_wheel openvino "$(openvino_stamp)" lib $OPENVINO_CPU_FILES ;;
    all) unpack_wheel openvino "$(openvino_stamp)" lib $OPENVINO_ALL_FILES ;;
    esac
    set +f
}

bring_built_in() {
    built_in_wanted || return 0
    say "downloading ONNX Runtime $BUILT_IN_VERSION with OpenVINO built in, for processors that are not Intel's (about 84 MB)"
    if ! fetch_wheel onnxruntime-openvino "$BUILT_IN_VERSION" "$BUILT_IN_SHA256" --python-version 3.12 --implementation cp \
        --abi cp312 --platform "$BUILT_IN_PLATFORM" --retries 1; then
        warn "it could not be downloaded; $reason. Everything works without it, but slower; 'make setup' tries again, VX_OPENVINO=no" \
            "leaves it out"
        return
    fi
    set -f
    # shellcheck disable=SC2086 # a list
    unpack_wheel openvino-built-in "$(built_in_stamp)" lib/openvino $BUILT_IN_FILES
    set +f
}

# remove_fetched STAMP-NAME: removes the files that the stamp lists, and the stamp.
remove_fetched() {
    local stamp=$deps/$1.stamp line
    [ -f "$stamp" ] || return 0
    { read -r line && while IFS= read -r line; do rm -f "$deps/$line"; done; } <"$stamp"
    rm -f "$stamp"
}

# ------------------------------------------------------------------ commands

check() {
    local trouble items manager line
    trouble=$(
        rust_trouble
        version_trouble
        ! ort_wanted || echo "ONNX Runtime $ORT_VERSION is not in .deps/lib."
        ! openvino_wanted || echo "The OpenVINO provider $OPENVINO_VERSION is not in .deps/lib."
        ! built_in_wanted || echo "ONNX Runtime $BUILT_IN_VERSION with OpenVINO is not in .deps/lib/openvino."
    )
    items=$(missing_items)
    if [ -n "$items" ]; then
        manager=$(package_manager)
        trouble="$trouble${trouble:+
}packages are missing: $(install_command "${manager:-apt-get}" "$(packages_for "${manager:-apt-get}" "$items")")"
    fi
    if [ -n "$trouble" ]; then
        while IFS= read -r line; do printf 'setup: %s\n' "$line" >&2; done <<<"$trouble"
        exit 1
    fi
    say 'nothing is missing'
}

setup() {
    local trouble
    trouble=$(rust_trouble)
    [ -z "$trouble" ] || die "$trouble"
    temporary=$(mktemp -d)
    install_packages
    trouble=$(version_trouble)
    [ -z "$trouble" ] || die "$trouble"
    mkdir -p "$deps/lib"
    # Two runs at once (make in two windows) would write the same files.
    if have flock; then
        exec 9>"$deps/.lock"
        flock 9
    fi
    bring_ort
    link_ort
    bring_openvino
    bring_built_in
    if [ "$openvino" = no ]; then
        remove_fetched openvino
        remove_fetched openvino-built-in
    fi
    say 'ready'
}

openvino=${VX_OPENVINO:-cpu}
case $openvino in
cpu | all | no) ;;
*) die "VX_OPENVINO is '$openvino': set it to cpu, all or no" ;;
esac
choose_ort_wheel
case ${1:-} in
'') setup ;;
--check) check ;;
*) die "unknown argument '$1': the only one is --check" ;;
esac
