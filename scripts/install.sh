#!/usr/bin/env bash
# Installs what was built, or takes it away again:
#
#   scripts/install.sh install|uninstall PLUGIN LIBRARIES COMMAND PLUGINDIR BINDIR
#
# PLUGIN goes into PLUGINDIR; the libraries it loads while running, all of the folder LIBRARIES, go into vx/ beside
# PLUGINDIR, where GStreamer's search for plugins does not come upon them; COMMAND goes into BINDIR, its manual page and its
# completions into share/ beside that.
set -euo pipefail

action=$1 plugin=$2 libraries=$3 command=$4 plugindir=$5 bindir=$6
librarydir=$(dirname "$plugindir")/vx
list=$librarydir/installed
share=$(dirname "$bindir")/share
# What the command prints, and where it belongs.
texts=(
    "man man/man1/vx.1"
    "completions bash bash-completion/completions/vx"
    "completions zsh zsh/site-functions/_vx"
    "completions fish fish/vendor_completions.d/vx.fish"
)

uninstall() {
    while IFS= read -r name; do
        rm -f "$librarydir/$name"
    done <"$list"
    rm -f "$list" "$plugindir/$(basename "$plugin")" "$bindir/vx"
    for text in "${texts[@]}"; do rm -f "$share/${text##* }"; done
    rmdir "$librarydir/openvino" "$librarydir" 2>/dev/null || true
}

case $action in
install)
    # What an earlier version brought and this one may not.
    [ ! -f "$list" ] || uninstall
    install -d "$plugindir" "$librarydir" "$bindir"
    : >"$list"
    for library in "$libraries"/lib* "$libraries"/openvino/lib*; do
        # Not every machine has one of its own for OpenVINO.
        [ -e "$library" ] || [ "$library" != "$libraries/openvino/lib*" ] || continue
        name=${library#"$libraries"/}
        echo "$name" >>"$list"
        install -d "$librarydir/$(dirname "$name")"
        # Links among the libraries stay links.
        if [ -L "$library" ]; then
            ln -sfn "$(readlink "$library")" "$librarydir/$name"
        else
            install -m 755 "$library" "$librarydir/$name"
        fi
    done
    install -m 755 "$plugin" "$plugindir/"
    install -m 755 "$command" "$bindir/vx"
    for text in "${texts[@]}"; do
        target=$share/${text##* }
        install -d "$(dirname "$target")"
        # shellcheck disable=SC2086 # the words of a command
        "$command" ${text% *} >"$target"
        chmod 644 "$target"
    done
    ;;
uninstall)
    if [ ! -f "$list" ]; then
        echo "uninstall: nothing of this project is in $plugindir: give the PREFIX that it was installed with" >&2
        exit 1
    fi
    uninstall
    ;;
*)
    echo "install.sh: unknown action '$action'" >&2
    exit 2
    ;;
esac
