#!/usr/bin/env python3
"""Runs packaging/Dockerfile without Docker, in Debian trees made by debootstrap, and then the image's command on the example clip.

    scripts/test_dockerfile.py [--debian trixie] [--target FOLDER]

Each stage is an overlay on a fresh Debian; the stage that begins with a Rust image gets this machine's Rust. FROM, COPY, RUN, WORKDIR,
ARG, ENV, USER, ENTRYPOINT and CMD are carried out, and any other instruction is an error. It does not test what is Docker's: the official
images, the cache of layers, the size of the image. --debian is the argument DEBIAN of the file. --target seeds the folder target of the
build with an earlier one, to save time.

As root only; skips with a message where that or debootstrap is missing. Building takes as long as `make build`.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import shlex
import shutil
import string
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def run(*command, **options):
    subprocess.run([str(each) for each in command], check=True, **options)


def instructions(text):
    """Returns pairs of an instruction and its argument, with continued lines joined and comments removed."""
    joined = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        joined += line[:-1] if line.endswith("\\") else line + "\n"
    return [tuple(line.strip().split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def debian(codename):
    tree = pathlib.Path(f"/var/tmp/vx-deb-{codename}")
    if not (tree / "etc/debian_version").exists():
        print(f"test_dockerfile: installing Debian ({codename}) in {tree}", flush=True)
        run("debootstrap", "--variant=minbase", codename, tree, MIRROR, stdout=subprocess.DEVNULL)
    return tree


class Stage:
    def __init__(self, image, folder):
        name, _, tag = image.partition(":")
        if name not in ("rust", "debian"):
            sys.exit(f"test_dockerfile: unknown image {image}: Debian and Rust images can be made from debootstrap")
        codename = next(word for word in tag.split("-") if word in ("bookworm", "trixie"))
        self.tree, self.mounts = folder / "tree", []
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
        self.user, self.folder, self.entry, self.command = "root", "/", [], []
        for each in ("upper", "work", "tree"):
            (folder / each).mkdir(parents=True)
        options = f"lowerdir={debian(codename)},upperdir={folder / 'upper'},workdir={folder / 'work'}"
        self.mount("-t", "overlay", "overlay", "-o", options, target=self.tree)
        for each in ("/proc", "/dev", "/sys"):
            self.mount("--bind", each, target=self.path(each))
        shutil.copy("/etc/resolv.conf", self.path("/etc/resolv.conf"))
        if name == "rust":
            for variable, default in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
                place = os.environ.get(variable, str(pathlib.Path.home() / default))
                self.mount("--bind", place, target=self.path(place))
                self.environment[variable] = place
            # Nothing in the tree may update this machine's Rust.
            run("mount", "-o", "remount,bind,ro", self.path(self.environment["RUSTUP_HOME"]))
            self.environment["RUSTUP_AUTO_INSTALL"] = "0"
            self.environment["PATH"] = f"{self.environment['CARGO_HOME']}/bin:{self.environment['PATH']}"
            # The Rust images have these.
            self.run("apt-get update -q && apt-get install -qy --no-install-recommends ca-certificates gcc libc6-dev")
            # Certificates that this machine trusts, for example of a proxy.
            shutil.copy(CERTIFICATES, self.path("/opt/ca-certificates.crt"))
            for variable in ("PIP_CERT", "SSL_CERT_FILE", "CARGO_HTTP_CAINFO"):
                self.environment[variable] = "/opt/ca-certificates.crt"
        self.environment.update((name, os.environ[name]) for name in PASSED_ON if name in os.environ)

    def path(self, inside):
        return self.tree / str(inside).lstrip("/")

    def mount(self, *options, target):
        target.mkdir(parents=True, exist_ok=True)
        run("mount", *options, target)
        self.mounts.append(target)

    def run(self, shell, capture=False):
        assignments = [f"{name}={value}" for name, value in self.environment.items()]
        as_user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if self.user == "nobody" else []
        command = ["chroot", self.tree, *as_user, "env", "-i", *assignments, "sh", "-c", f"cd {shlex.quote(self.folder)} && {shell}"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE if capture else None, text=True).stdout

    def copy(self, sources, target):
        place = self.path(target)
        place.mkdir(parents=True, exist_ok=True)
        for source in sources:
            run("cp", "-a", f"{source}/." if source.is_dir() else source, place)

    def close(self):
        # A failure here prevents the removal of the folders, which would remove what is still mounted in them.
        for each in reversed(self.mounts):
            run("umount", "-l", each)


def context(folder):
    """Copies the files of a build: those of git, without what .dockerignore names."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in listed.splitlines():
        parents = [str(each) for each in (pathlib.PurePath(name), *pathlib.PurePath(name).parents)]
        if any(fnmatch.fnmatch(each, pattern) for each in parents for pattern in ignored) or not (ROOT / name).is_file():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--debian")
    parser.add_argument("--target", type=pathlib.Path)
    arguments = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        print("test_dockerfile: skipped: it needs root and debootstrap")
        return 0
    work = pathlib.Path(tempfile.mkdtemp(prefix="vx-dockerfile-", dir="/var/tmp"))
    stages, names, stage, values = [], {}, None, {}
    try:
        context(work / "context")
        for instruction, argument in instructions((ROOT / "packaging/Dockerfile").read_text()):
            print(f"test_dockerfile: {instruction} {argument}", flush=True)
            if instruction == "ARG":
                name, _, value = argument.partition("=")
                values[name] = arguments.debian or value if name == "DEBIAN" else value
            elif instruction == "FROM":
                image, *name = string.Template(argument).substitute(values).split(" AS ")
                stage = Stage(image, work / f"stage{len(stages)}")
                stages.append(stage)
                names.update((each, stage) for each in name)
            elif instruction == "RUN":
                stage.run(argument)
            elif instruction == "COPY":
                *sources, target = argument.split()
                origin = names[sources.pop(0).removeprefix("--from=")] if sources[0].startswith("--from=") else None
                stage.copy([origin.path(each) if origin else work / "context" / each for each in sources], target)
                if origin is None and arguments.target:
                    run("cp", "-a", arguments.target, stage.path(target) / "target")
            elif instruction == "ENV":
                name, _, value = argument.partition("=")
                stage.environment[name] = value
            elif instruction == "WORKDIR":
                stage.folder = argument
                stage.path(argument).mkdir(parents=True, exist_ok=True)
            elif instruction == "USER":
                stage.user = argument
            elif instruction == "ENTRYPOINT":
                stage.entry = json.loads(argument)
            elif instruction == "CMD":
                stage.command = json.loads(argument)
            else:
                sys.exit(f"test_dockerfile: unknown instruction {instruction}")
        shutil.copy(ROOT / "examples/media/scenes.mp4", stage.path("/media"))
        usage = stage.run(shlex.join(stage.entry + stage.command), capture=True)
        found = stage.run(shlex.join([*stage.entry, "detect", "/media"]), capture=True)
        assert "Usage" in usage, usage
        assert found.count('"label":"person"') > 0, found
        print(f"test_dockerfile: the image's command found {found.count(chr(34) + 'person' + chr(34))} persons")
        return 0
    finally:
        for each in reversed(stages):
            each.close()
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
