#!/usr/bin/env bash
# Installs the plugin and the command, or removes them:
#
#   scripts/install.sh install|uninstall PLUGIN LIBRARIES COMMAND PLUGINDIR BINDIR [DESTDIR]
#
# PLUGIN is installed into PLUGINDIR. The libraries that it loads at run time, all of the folder LIBRARIES, are installed into vx/ beside
# PLUGINDIR, where GStreamer does not search for plugins. COMMAND is installed into BINDIR; its manual pages, its completions and all
# licences into share/ beside that. DESTDIR is prepended to all paths, for packages.
#
# vx/installed lists every installed file, and every created folder with a slash at its end. Only these are removed.
set -euo pipefail

action=$1 plugin=$2 libraries=$3 command=$4 plugindir=$5 bindir=$6 destdir=${7:-}
root=$(cd "$(dirname "$0")/.." && pwd)
librarydir=$(dirname "$plugindir")/vx
list=$destdir$librarydir/installed
share=$(dirname "$bindir")/share
# Texts that the command prints, and where each is installed.
texts=(
    "man man/man1/vx.1"
    "man detect man/man1/vx-detect.1"
    "man events man/man1/vx-events.1"
    "man report man/man1/vx-report.1"
    "man inspect man/man1/vx-inspect.1"
    "man doctor man/man1/vx-doctor.1"
    "man completions man/man1/vx-completions.1"
    "man man man/man1/vx-man.1"
    "completions bash bash-completion/completions/vx"
    "completions zsh zsh/site-functions/_vx"
    "completions fish fish/vendor_completions.d/vx.fish"
)

# Creates a folder and lists those that did not exist.
folder() {
    [ ! -d "$destdir$1" ] || return 0
    folder "$(dirname "$1")"
    mkdir "$destdir$1"
    echo "$1/" >>"$made"
}

# MODE FILE TARGET
file() {
    folder "$(dirname "$3")"
    install -m "$1" "$2" "$destdir$3"
    echo "$3" >>"$made"
}

# Removes the files of the list; prints the folders.
remove_files() {
    local name
    while IFS= read -r name; do
        case $name in
        */) echo "$name" ;;
        /*) rm -f "$destdir$name" ;;
        # Early lists of version 0.1.0 have no absolute paths.
        *) rm -f "$destdir$librarydir/$name" "$destdir$plugindir/$(basename "$plugin")" "$destdir$bindir/vx" ;;
        esac
    done <"$list"
    rm -f "$list"
}

case $action in
install)
    made=$(mktemp)
    trap 'rm -f "$made"' EXIT
    # Remove files of an earlier version that this one may not have. The folders that it created still belong to this project.
    [ ! -f "$list" ] || remove_files >"$made"
    for library in "$libraries"/lib* "$libraries"/openvino/lib*; do
        # Only some machines have a second ONNX Runtime for OpenVINO.
        [ -e "$library" ] || [ "$library" != "$libraries/openvino/lib*" ] || continue
        target=$librarydir/${library#"$libraries"/}
        # Links among the libraries stay links.
        if [ -L "$library" ]; then
            folder "$(dirname "$target")"
            ln -sfn "$(readlink "$library")" "$destdir$target"
            echo "$target" >>"$made"
        else
            file 755 "$library" "$target"
        fi
    done
    file 755 "$plugin" "$plugindir/$(basename "$plugin")"
    file 755 "$command" "$bindir/vx"
    for text in "${texts[@]}"; do
        printed=$(mktemp)
        # shellcheck disable=SC2086 # the arguments of a command
        "$command" ${text% *} >"$printed"
        file 644 "$printed" "$share/${text##* }"
        rm -f "$printed"
    done
    # Licences of the project, of the Rust crates, and of the libraries from Python wheels.
    for license in "$root"/LICENSE-* "$root"/target/licenses.txt; do
        [ ! -f "$license" ] || file 644 "$license" "$share/doc/vx/$(basename "$license")"
    done
    if [ -d "$root/.deps/licenses" ]; then
        while IFS= read -r license; do
            file 644 "$root/.deps/licenses/$license" "$share/doc/vx/$license"
        done < <(cd "$root/.deps/licenses" && find . -type f | sed 's|^\./||' | sort)
    fi
    mkdir -p "$destdir$librarydir"
    # Without duplicates: folders of the earlier version are listed twice.
    awk '!seen[$0]++' "$made" >"$list"
    chmod 644 "$list"
    ;;
uninstall)
    if [ ! -f "$list" ]; then
        echo "uninstall: vx is not installed in $destdir$plugindir: use the PREFIX of the installation" >&2
        exit 1
    fi
    # Deepest first. Folders with other files are kept.
    remove_files | sort -r | while IFS= read -r name; do
        rmdir "$destdir$name" 2>/dev/null || true
    done
    ;;
*)
    echo "install.sh: unknown action '$action'" >&2
    exit 2
    ;;
esac
