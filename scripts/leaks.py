#!/usr/bin/env python3
"""Runs every test of some programs in a process of its own with GStreamer's tracer `leaks`: a test also fails if an element, pad, buffer,
event or message is alive at its end.

    scripts/leaks.py TEST...

TEST is a name as in tests/. tests/common/alive.rs asks the tracer.
"""

import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Types whose objects must not remain. Caps and plugin features are kept by GStreamer itself.
FILTERS = "GstElement,GstPad,GstBuffer,GstBufferList,GstSample,GstEvent,GstMessage,GstQuery,GstBus,GstBufferPool"
LONGEST = 600


def cargo_test(name, *arguments, **options):
    """Runs `cargo test` for one program, with the environment that .cargo/config.toml sets."""
    command = [os.environ.get("CARGO", "cargo"), "test", "--quiet", "--test", name, *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace", **options)


def failure(name, test):
    """Runs a test in a process of its own; returns what it prints if it fails."""
    tracer = {"GST_TRACERS": f'leaks(filters="{FILTERS}")'}
    try:
        # With two threads the test has one of its own, which ends with it.
        run = cargo_test(name, "--", "--exact", test, "--test-threads=2", env=os.environ | tracer, timeout=LONGEST, stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return f"takes longer than {LONGEST} s"
    return None if run.returncode == 0 and "1 passed" in run.stdout else run.stdout


def main():
    names = sys.argv[1:]
    if not names or names[0].startswith("-"):
        print(__doc__.strip())
        return 2
    if subprocess.run(["gst-inspect-1.0", "coretracers"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        print("skipped: GStreamer's tracer `leaks` is not installed")
        return 0
    failures = 0
    for name in names:
        listing = cargo_test(name, "--", "--list", "--format=terse", check=True).stdout
        tests = [line.removesuffix(": test") for line in listing.splitlines() if line.endswith(": test")]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            texts = pool.map(lambda test: failure(name, test), tests)
            failed = [(test, text) for test, text in zip(tests, texts) if text is not None]
        print(f"{name}: {len(tests)} tests, {len(failed)} failed", flush=True)
        for test, text in failed:
            print(f"---- {test}\n{text}", flush=True)
        failures += len(failed)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
