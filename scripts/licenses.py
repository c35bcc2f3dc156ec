#!/usr/bin/env python3
"""Prints the licence texts of everything linked into the plugin and the command: Rust crates, and the font for drawn labels.

    scripts/licenses.py > target/licenses.txt

The crates are those of `cargo tree` for this machine, without build and development dependencies.
"""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = ("license", "licence", "copying", "notice", "copyright", "unlicense")


def metadata():
    cargo = os.environ.get("CARGO", "cargo")
    rustc = subprocess.run(["rustc", "-vV"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    host = next(line.split()[1] for line in rustc.splitlines() if line.startswith("host:"))
    command = [cargo, "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def linked(found):
    """Returns the packages that are linked, without procedural macros. `cargo metadata` alone also has those that only tests enable."""
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}"]
    tree = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    names = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    packages = (package for package in found["packages"] if package["id"] != found["resolve"]["root"])
    chosen = (package for package in packages if (package["name"], f"v{package['version']}") in names)
    return sorted(chosen, key=lambda package: (package["name"], package["version"]))


def texts_of(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name.lower().startswith(NAMES)]
    return [file.read_text(errors="replace").strip() for file in files]


def main():
    packages = linked(metadata())
    users, without = {}, []
    for package in packages:
        texts = texts_of(package)
        if not texts:
            without.append(package)
        for text in texts:
            users.setdefault(text, []).append(f"{package['name']} {package['version']}")
    print("Rust crates in libgstvx.so and vx, and their licences:\n")
    for package in packages:
        print(f"  {package['name']} {package['version']}: {package['license'] or 'see its text below'}")
    for text, names in users.items():
        print(f"\n{'=' * 100}\n{', '.join(names)}\n{'-' * 100}\n{text}")
    if without:
        print(f"\n{'=' * 100}\nWithout a licence text in the package; the licence is that of the list above, the source:\n")
        for package in without:
            print(f"  {package['name']} {package['version']}: {package['repository'] or 'crates.io'}")
    font = (ROOT / "src/draw/fonts/LICENSE").read_text()
    print(f"\n{'=' * 100}\nDejaVu Sans Bold (in libgstvx.so and vx)\n{'-' * 100}\n{font}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
