#!/usr/bin/env python3
"""Prints how often `unsafe` is written in the crates that are linked into the plugin and the command, most first.

    scripts/unsafe_code.py [LEAST]

Lists crates with at least LEAST occurrences (default 100) outside comments in src/. docs/dependencies.md says what they are for.
"""

import pathlib
import re
import sys

import licenses

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def occurrences(package):
    files = (pathlib.Path(package["manifest_path"]).parent / "src").rglob("*.rs")
    return sum(len(re.findall(r"\bunsafe\b", COMMENT.sub("", file.read_text(errors="replace")))) for file in files)


def main():
    least = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    counts = sorted(((occurrences(package), package) for package in licenses.linked(licenses.metadata())), key=lambda one: -one[0])
    for count, package in counts:
        if count >= least:
            print(f"{count:6} {package['name']} {package['version']}")
    without = sum(count == 0 for count, _ in counts)
    print(f"{len(counts)} crates, {without} of them without `unsafe`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
