#!/usr/bin/env python3
"""Prints a software bill of materials of the plugin and the command, as CycloneDX 1.6 JSON.

    scripts/sbom.py > target/vx.cdx.json

It lists the Rust crates that are linked into them (as scripts/licenses.py finds them) with the checksums of Cargo.lock, what is embedded
in them (the built-in model, the font), and the libraries that scripts/setup.sh downloaded and `make install` installs beside them, with
the SHA-256 of each file. It does not list libraries of the system (FFmpeg, GStreamer): those are dependencies of packages.

The same commit and the same libraries give the same text. Needs Python 3.11.
"""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone

import licenses

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
REPOSITORY_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://crates.io/crates/gst-plugin-vx")

# The wheels of scripts/setup.sh, by the name of their stamp in .deps. All are licensed MIT.
WHEELS = ("onnxruntime", "openvino", "openvino-built-in")
# Other projects compiled into their libraries: the library, the package URL, the licence, and the text that shows that the project is in
# it, with its version as the group where the library contains that.
CONTAINED = [
    ("libonnxruntime.so.*", "pkg:github/abseil/abseil-cpp", "Apache-2.0", rb"/abseil/src/(\d+\.\d+)-"),
    ("libonnxruntime.so.*", "pkg:github/curl/curl", "curl", rb"libcurl"),
    ("libonnxruntime.so.*", "pkg:github/Mbed-TLS/mbedtls", "Apache-2.0 OR GPL-2.0-or-later", rb"/mbedtls/src/v(\d+\.\d+\.\d+)-"),
    ("libonnxruntime.so.*", "pkg:github/onnx/onnx", "Apache-2.0", rb"/onnx/src/v(\d+\.\d+\.\d+)-"),
    ("libonnxruntime.so.*", "pkg:github/protocolbuffers/protobuf", "BSD-3-Clause", rb"/protobuf/src/v(\d+\.\d+)-"),
    ("libonnxruntime.so.*", "pkg:github/google/re2", "BSD-3-Clause", rb"/re2/src/"),
    ("libonnxruntime.so.*", "pkg:github/sqlite/sqlite", "blessing", rb"SQLite format 3"),
    ("libopenvino.so.*", "pkg:github/openvinotoolkit/openvino", "Apache-2.0", rb"\0(20\d\d\.\d+\.\d+)-\d+-[0-9a-f]+"),
    ("libopenvino_intel_cpu_plugin.so", "pkg:github/uxlfoundation/oneDNN", "Apache-2.0", rb"thirdparty/onednn/"),
    ("libopenvino_onnx_frontend.so.*", "pkg:github/onnx/onnx", "Apache-2.0", rb"thirdparty/onnx/"),
    ("libopenvino_onnx_frontend.so.*", "pkg:github/protocolbuffers/protobuf", "BSD-3-Clause", rb"thirdparty/protobuf/"),
    ("libtbb.so.*", "pkg:github/uxlfoundation/oneTBB", "Apache-2.0", rb"oneTBB: VERSION\s+(\d+\.\d+(?:\.\d+)?)"),
    ("libhwloc.so.*", "pkg:github/open-mpi/hwloc", "BSD-3-Clause", rb"hwloc"),
]


def sha256(path):
    return [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}]


def expression(license):
    """Returns an SPDX expression; crates of before 2018 separate alternatives with a slash."""
    return [{"expression": re.sub(r"\s*/\s*", " OR ", license)}]


def crates(found):
    """Returns the components of the linked crates, and for each (and the project itself) on which of the others it depends."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    checksums = {(each["name"], each["version"]): each.get("checksum") for each in lock["package"]}
    packages = licenses.linked(found)
    names = {package["id"]: reference(package) for package in found["packages"]}
    linked = {package["id"] for package in packages}
    components = []
    for package in packages:
        component = {
            "type": "library",
            "bom-ref": names[package["id"]],
            "name": package["name"],
            "version": package["version"],
            "hashes": [{"alg": "SHA-256", "content": checksums[package["name"], package["version"]]}],
            "purl": names[package["id"]],
        }
        if package["license"]:
            component["licenses"] = expression(package["license"])
        if package["repository"]:
            component["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        components.append(component)
    depends = {}
    for node in found["resolve"]["nodes"]:
        if node["id"] in linked or node["id"] == found["resolve"]["root"]:
            depends[names[node["id"]]] = sorted(names[each["pkg"]] for each in node["deps"] if each["pkg"] in linked)
    return components, depends


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def embedded():
    model = ROOT / "models/person-320.onnx"
    font = ROOT / "src/draw/fonts/DejaVuSans-Bold-subset.ttf"
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": "model:person-320",
            "name": model.name,
            "hashes": sha256(model),
            "licenses": expression("MIT OR Apache-2.0"),
        },
        {
            "type": "data",
            "bom-ref": "font:dejavu-sans-bold",
            "name": "DejaVu Sans Bold",
            "description": "a subset, for labels drawn into pictures",
            "hashes": sha256(font),
            "licenses": [{"license": {"name": "Bitstream Vera"}}],
        },
    ]


def bundled():
    """Returns a component for each downloaded wheel, with its libraries, and the projects compiled into each library."""
    components = []
    for stamp in WHEELS:
        path = DEPS / f"{stamp}.stamp"
        if not path.exists():
            continue
        first, *names = path.read_text().splitlines()
        name, version, wheel = first.split()[:3]
        purl = f"pkg:pypi/{name}@{version}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": wheel}],
                "licenses": expression("MIT"),
                "purl": purl,
                "components": [library(purl, each) for each in sorted(names) if each.startswith("lib/")],
            }
        )
    return components


def library(wheel, name):
    path = DEPS / name
    code = path.read_bytes()
    component = {"type": "file", "bom-ref": f"{wheel}#{name}", "name": path.name, "hashes": sha256(path)}
    parts = []
    for pattern, purl, license, evidence in CONTAINED:
        if not path.match(pattern) or not (found := re.search(evidence, code)):
            continue
        part = {"type": "library", "name": purl.rpartition("/")[2], "licenses": expression(license)}
        if found.groups():
            part["version"] = found[1].decode()
            purl += f"@{part['version']}"
        parts.append({**part, "bom-ref": f"{component['bom-ref']}#{part['name']}", "purl": purl})
    return {**component, "components": parts} if parts else component


def commit_time():
    """Returns SOURCE_DATE_EPOCH, or the time of the commit, so that the text does not change from run to run; now, outside a repository."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if not seconds and (ROOT / ".git").exists():
        seconds = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    time = datetime.fromtimestamp(int(seconds), timezone.utc) if seconds else datetime.now(timezone.utc)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def main():
    found = licenses.metadata()
    root = next(package for package in found["packages"] if package["id"] == found["resolve"]["root"])
    components, depends = crates(found)
    others = embedded() + bundled()
    depends[reference(root)] += [component["bom-ref"] for component in others]
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": commit_time(),
            "component": {
                "type": "library",
                "bom-ref": reference(root),
                "name": root["name"],
                "version": root["version"],
                "description": root["description"],
                "licenses": expression(root["license"]),
                "purl": reference(root),
            },
        },
        "components": components + others,
        "dependencies": [{"ref": name, "dependsOn": needed} for name, needed in sorted(depends.items())],
    }
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(REPOSITORY_NAMESPACE, json.dumps(bom))}"
    json.dump(bom, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
