#!/usr/bin/env bash
# Installs what was built, or removes it again:
#
#   scripts/install.sh install|uninstall PLUGIN LIBRARIES COMMAND PLUGINDIR BINDIR [DESTDIR]
#
# PLUGIN goes into PLUGINDIR; the libraries it loads while running, all of the folder LIBRARIES, go into vx/ beside
# PLUGINDIR, where GStreamer's search for plugins does not find them; COMMAND goes into BINDIR, its manual pages, its
# completions and all licences into share/ beside that. Everything goes below DESTDIR, for packages.
#
# vx/installed lists every file, and with a slash at its end every folder that was made: only these are removed.
set -euo pipefail

action=$1 plugin=$2 libraries=$3 command=$4 plugindir=$5 bindir=$6 destdir=${7:-}
root=$(cd "$(dirname "$0")/.." && pwd)
librarydir=$(dirname "$plugindir")/vx
list=$destdir$librarydir/installed
share=$(dirname "$bindir")/share
# What the command prints, and where it belongs.
texts=(
    "man man/man1/vx.1"
    "man detect man/man1/vx-detect.1"
    "man inspect man/man1/vx-inspect.1"
    "man doctor man/man1/vx-doctor.1"
    "man completions man/man1/vx-completions.1"
    "man man man/man1/vx-man.1"
    "completions bash bash-completion/completions/vx"
    "completions zsh zsh/site-functions/_vx"
    "completions fish fish/vendor_completions.d/vx.fish"
)

# Makes a folder and lists those that were not there.
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
        # A list of version 0.1.0 before it had whole paths.
        *) rm -f "$destdir$librarydir/$name" "$destdir$plugindir/$(basename "$plugin")" "$destdir$bindir/vx" ;;
        esac
    done <"$list"
    rm -f "$list"
}

case $action in
install)
    made=$(mktemp)
    trap 'rm -f "$made"' EXIT
    # What an earlier version brought and this one may not. Folders that it made are still those of this project.
    [ ! -f "$list" ] || remove_files >"$made"
    for library in "$libraries"/lib* "$libraries"/openvino/lib*; do
        # Not every machine has one of its own for OpenVINO.
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
        # shellcheck disable=SC2086 # the words of a command
        "$command" ${text% *} >"$printed"
        file 644 "$printed" "$share/${text##* }"
        rm -f "$printed"
    done
    # Of the project, of the libraries from Python wheels, of the Rust crates.
    for license in "$root"/LICENSE-* "$root"/target/licenses.txt; do
        [ ! -f "$license" ] || file 644 "$license" "$share/doc/vx/$(basename "$license")"
    done
    if [ -d "$root/.deps/licenses" ]; then
        while IFS= read -r license; do
            file 644 "$root/.deps/licenses/$license" "$share/doc/vx/$license"
        done < <(cd "$root/.deps/licenses" && find . -type f | sed 's|^\./||' | sort)
    fi
    mkdir -p "$destdir$librarydir"
    # Without the folders that it had before and made again now.
    awk '!seen[$0]++' "$made" >"$list"
    chmod 644 "$list"
    ;;
uninstall)
    if [ ! -f "$list" ]; then
        echo "uninstall: nothing of this project is in $destdir$plugindir: use the PREFIX that it was installed with" >&2
        exit 1
    fi
    # The deepest first; one that has files of others stays.
    remove_files | sort -r | while IFS= read -r name; do
        rmdir "$destdir$name" 2>/dev/null || true
    done
    ;;
*)
    echo "install.sh: unknown action '$action'" >&2
    exit 2
    ;;
esac
