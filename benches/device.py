#!/usr/bin/env python3
"""Tests and measures vx on a machine with many cores or an NVIDIA GPU, from a self-contained folder.

    PAYLOAD/scripts/device_bench.sh PAYLOAD [SECTION...]

PAYLOAD is a folder that scripts/device_payload.sh filled. Sections (default: all):

  info      processor, GPU, driver, libraries
  bulk      `vx detect` over 64 files on 1, 2, 4, 8 and 16 cores
  decode    keyframes/s on the processor and on NVDEC, and whether the pictures are equal
  clips     every clip of PAYLOAD/clips/real on NVDEC: the same number of pictures as on the processor, and equal ones
  engine    detections and frames/s of the CUDA and TensorRT providers, compared with the CPU provider
  plugins   the same for the plugin providers in PAYLOAD/plugin-providers
  together  NVDEC and CUDA in one process

Needs Python 3.8 and nothing else: no network, no GStreamer, no FFmpeg; pictures are compared where numpy is installed. Without an
NVIDIA driver the sections for NVIDIA's devices say so and measure the processor alone. Figures cover whole processes; "without the start"
subtracts the time that the same process needs for one frame. Each section ends with its tables in Markdown.
"""

import collections
import concurrent.futures
import ctypes.util
import glob
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PAYLOAD = pathlib.Path(os.environ["VX_PAYLOAD"])
# The prefix that starts a program of the payload: empty, or the payload's dynamic loader if this system's libc is too old.
LOADER = os.environ.get("VX_LOADER", "").split()
LIBRARIES = os.environ.get("VX_LIBRARIES", "")
# Seconds for a program, unless a measurement sets its own limit.
TIMEOUT = float(os.environ.get("VX_TIMEOUT", "40"))
CORES = sorted(os.sched_getaffinity(0))
REPORT = collections.defaultdict(list)
MODEL = PAYLOAD / "models/yolov8n_fp32_dynamic.onnx"
BULK = sorted((PAYLOAD / "clips/bulk").glob("*.mp4"))
RUNTIME = next(iter((PAYLOAD / "ort").glob("libonnxruntime.so.*")), None)

# Where a driver can be: the folders that device_bench.sh found it in, and the system's own.
HAS_DRIVER = any((pathlib.Path(folder) / "libcuda.so.1").exists() for folder in LIBRARIES.split(":")) or bool(ctypes.util.find_library("cuda"))
NO_DRIVER = "no NVIDIA driver (libcuda.so.1): not measured"

Result = collections.namedtuple("Result", "seconds cpu_seconds peak_mib code out err")


def run(program, *arguments, cores=None, timeout=TIMEOUT, **environment):
    """Runs a program of the payload on the first `cores` cores."""
    command = [*LOADER, str(PAYLOAD / "bin" / program), *map(str, arguments)]
    # Not for this interpreter itself, which can use other libraries.
    environment.setdefault("LD_LIBRARY_PATH", "" if LOADER else LIBRARIES)
    hold = (lambda: os.sched_setaffinity(0, spread(cores))) if cores else None
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, preexec_fn=hold,
                                   env=dict(os.environ, **{key: str(value) for key, value in environment.items()}))
        code = None
        while code is None and time.monotonic() - started < timeout:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.002)
        seconds = time.monotonic() - started
        if code is None:
            process.kill()
            _, _, usage = os.wait4(process.pid, 0)
            code = "timeout"
        process.returncode = 0
        out.seek(0), err.seek(0)
        return Result(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, code, out.read().decode(errors="replace"),
                      err.read().decode(errors="replace"))


def spread(count):
    """Returns this number of cores, with the second hardware threads of cores last."""
    def siblings(core):
        path = pathlib.Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        return path.read_text() if path.exists() else str(core)
    first, others, seen = [], [], set()
    for core in CORES:
        (others if siblings(core) in seen else first).append(core)
        seen.add(siblings(core))
    return (first + others)[:count]


def say(section, line, **figures):
    print(line, flush=True)
    REPORT[section].append({"line": line, **figures})


def title(text):
    print(f"\n== {text}", flush=True)


def table(heads, rows):
    """Prints a table in Markdown."""
    print()
    for row in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(flush=True)


def shorten(text, length=300):
    return re.sub(r"\x1b\[\d*m", "", re.sub(r"\s+", " ", text)).strip()[:length]


def launch(*pipeline, **options):
    """Runs gst-launch-1.0."""
    return run("gst-launch-1.0", "-q", *" ! ".join(pipeline).split(), **options)


def detect(files, *arguments, **options):
    """Runs `vx detect` over `files`; returns the data from its lines and its table."""
    with tempfile.TemporaryDirectory() as folder:
        lines = pathlib.Path(folder) / "lines.jsonl"
        result = run("vx", "detect", *files, "-o", lines, *arguments, **options)
        records = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    summaries = [record for record in records if "status" in record]
    frames = [record for record in records if "status" not in record]
    seconds = {key: sum(summary["seconds"][key] for summary in summaries) for key in ("decode", "prepare", "infer", "queued")}
    model = next((line.split(None, 1)[1] for line in result.err.splitlines() if line.startswith("model ")), "")
    failed = [summary["error"]["message"] for summary in summaries if summary["status"] != "ok"]
    return result, {"frames": frames, "keyframes": sum(summary["keyframes"] for summary in summaries), "seconds": seconds, "model": model,
                    "ok": len(summaries) - len(failed), "failed": failed}


# ---------------------------------------------------------------------------------------------------------------------------------

def info():
    title("machine")
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", cpuinfo)
    flags = re.search(r"flags\s*: (.*)", cpuinfo).group(1).split()
    physical = len(spread(len(CORES)))
    siblings = {pathlib.Path(path).read_text() for path in glob.glob("/sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")}
    say("info", f"processor: {name.group(1) if name else '?'}; {physical} hardware threads on {len(siblings)} cores; "
                f"{[flag for flag in ('avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16') if flag in flags]}")
    # The interpreter of the payload does not know its own file.
    libc = "-".join(platform.libc_ver()) if sys.executable and not LOADER else "the payload's"
    say("info", f"system: {platform.platform()}, libc {libc}, loader {LOADER or 'the system'}")
    smi = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm", "--format=csv,noheader"],
                         capture_output=True, text=True) if shutil.which("nvidia-smi") else None
    say("info", f"gpu: {smi.stdout.strip() if smi else 'no nvidia-smi'}")
    for library in ("libcuda.so.1", "libnvcuvid.so.1", "libcudart.so.13", "libcublasLt.so.13", "libcudnn.so.9", "libcufft.so.12",
                    "libcurand.so.10", "libnvinfer.so.10", "libvulkan.so.1"):
        found = [folder for folder in LIBRARIES.split(":") if (pathlib.Path(folder) / library).exists()]
        say("info", f"  {library}: {found or ctypes.util.find_library(library[3:].split('.so')[0])}")
    doctor = run("vx", "doctor", ORT_DYLIB_PATH=RUNTIME)
    say("info", doctor.out.strip() or shorten(doctor.err))


def bulk():
    title("bulk: vx detect over 64 files of 4 keyframes, 1080p h264 (files/s, keyframes/s, efficiency against one core)")
    counts = [count for count in (1, 2, 4, 8, 16, 32) if count <= len(CORES)]
    for provider, model in (("cpu", MODEL), ("openvino", MODEL), ("cpu", None)):
        runtime = PAYLOAD / "openvino" if provider == "openvino" else RUNTIME
        if provider == "openvino" and not runtime.exists():
            say("bulk", "openvino: not in the payload")
            continue
        common = ["--provider", provider, *(["--model", model] if model else [])]
        library = next(iter(sorted(pathlib.Path(runtime).glob("libonnxruntime.so.*")))) if provider == "openvino" else RUNTIME
        one, rows = None, []
        for cores in counts:
            rounds = 1 if cores < 4 else 3
            start = statistics.median(detect(BULK[:1], *common, "--set", "decoder::max-frames=1", cores=cores,
                                             ORT_DYLIB_PATH=library)[0].seconds for _ in range(rounds))
            runs = [detect(BULK, *common, cores=cores, ORT_DYLIB_PATH=library) for _ in range(rounds)]
            result, told = runs[-1]
            if result.code != 0:
                say("bulk", f"{provider}: FAILED {result.code}: {shorten(result.err)}")
                break
            seconds = statistics.median(run.seconds for run, _ in runs)
            cpu = statistics.median(run.cpu_seconds for run, _ in runs)
            lean = seconds - start
            one = one or (seconds, lean)
            plan = re.search(r"^plan +(.*)$", result.err, re.M)
            say("bulk", f"{provider:8} {model.stem if model else 'built-in model':22} {cores:2} cores: {seconds:6.2f} s, "
                        f"{len(BULK) / seconds:6.1f} files/s, {told['keyframes'] / seconds:6.1f} keyframes/s, "
                        f"efficiency {one[0] / seconds / cores:4.0%}, without the start ({start:.2f} s) {one[1] / lean / cores:4.0%}; "
                        f"{cpu:.1f} s of processor time, {result.peak_mib:.0f} MiB; {told['model'].split(': ', 1)[-1]}; {plan.group(1) if plan else ''}",
                seconds=[run.seconds for run, _ in runs], start=start, cores=cores, provider=provider, cpu_seconds=cpu)
            rows.append([cores, f"{seconds:.2f}", f"{len(BULK) / seconds:.1f}", f"{told['keyframes'] / seconds:.1f}",
                         f"{1000 * cpu / told['keyframes']:.1f}", f"{one[0] / seconds / cores:.0%}", f"{one[1] / lean / cores:.0%}",
                         f"{result.peak_mib:.0f}"])
        table([f"cores, {provider}, {model.stem if model else 'built-in model'}", "seconds", "files/s", "keyframes/s",
               "processor ms/keyframe", "efficiency", "without the start", "MiB"], rows)


def decoded(file, hardware, extra="", sink="fakesink", **options):
    return launch(f"filesrc location={file}", f"vxkeyframedec hardware={hardware} {extra}", sink, **options)


def frames_of(result):
    """Returns frames, decoder and hardware from the element's last log messages."""
    found = re.search(r"vxkeyframedec-stats, frames=\(guint64\)(\d+).*?decode-time=\(guint64\)(\d+).*?hardware=\(string\)([^;,]+)", result.err, re.S)
    return (int(found.group(1)), int(found.group(2)), found.group(3)) if found else (0, 0, "?")


def pictures(file, hardware, folder):
    """Creates a file with all pictures as I420; also returns the run that created it."""
    raw = pathlib.Path(folder) / f"{pathlib.Path(file).name}.{hardware}.raw"
    return raw, decoded(file, hardware, "max-frames=64", f"videoconvert dither=none ! video/x-raw,format=I420 ! filesink location={raw}", timeout=60,
                        GST_DEBUG="vxkeyframedec:4", GST_DEBUG_NO_COLOR=1)


def has_numpy():
    try:
        import numpy  # noqa: F401
    except ImportError:
        return False
    return True


def picture_difference(file, hardware, folder, expected=None):
    """Returns the maximum and mean sample difference between pictures of the processor (reused if present) and the device."""
    import numpy
    (one, first), (two, second) = expected or pictures(file, "none", folder), pictures(file, hardware, folder)
    try:
        if second.code != 0 or first.code != 0:
            failing = second if second.code != 0 else first
            error = re.search(r"^\[.*|ERROR: .*", failing.err, re.M)
            return {"code": (first.code, second.code), "error": shorten(error.group(0) if error else failing.err)}
        a, b = (numpy.fromfile(path, dtype=numpy.uint8) for path in (one, two))
        told = {"code": (0, 0), "frames": (frames_of(first)[0], frames_of(second)[0]), "hardware": frames_of(second)[2], "bytes": (a.size, b.size)}
        if a.size == b.size and a.size:
            worst, total = 0, 0
            for start in range(0, a.size, 1 << 24):
                off = numpy.abs(a[start:start + (1 << 24)].astype(numpy.int16) - b[start:start + (1 << 24)])
                worst, total = max(worst, int(off.max())), total + int(off.sum())
            told.update(worst=worst, mean=total / a.size)
        caps = [re.search(r"caps (video/x-raw.*)", result.err) for result in (first, second)]
        told["caps"] = [shorten(found.group(1)) if found else "?" for found in caps]
        warning = re.search(r"WARN .*vxkeyframedec.*|decoded by the processor.*", second.err)
        told["warning"] = shorten(warning.group(0)[-200:]) if warning else ""
        return told
    finally:
        two.unlink(missing_ok=True)
        if expected is None:
            one.unlink(missing_ok=True)


def shown(told):
    if "error" in told:
        return f"exit {told['code']}: {told['error']}"
    equal = f"largest difference {told['worst']}, mean {told['mean']:.4f}" if "worst" in told else "DIFFERENT SIZES"
    return f"{told['frames'][0]} and {told['frames'][1]} pictures, hardware {told['hardware']}, {equal}"


def decode():
    title("decode: keyframes/s, without the start of the process (with it; seconds of processor time)")
    if not HAS_DRIVER:
        say("decode", f"hardware=cuda: {NO_DRIVER}")
    rows = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        for path in sorted((PAYLOAD / "clips/loops").glob("loop_*")):
            cells = []
            short = PAYLOAD / "clips" / path.name[len("loop_"):]
            ways = (("none", "threads=1", 12, "1 thread"), ("none", "threads=16", 1, "16 threads"), ("cuda", "threads=1", 2, "cuda, 1 at once"),
                    ("cuda", "threads=4", 2, "cuda, 4"), ("auto", "", 2, "auto"))
            starts, row = {}, [path.stem[len("loop_"):].replace("_", " ")]
            for hardware, extra, divisor, label in ways:
                if hardware == "cuda" and not HAS_DRIVER:
                    row.append("")
                    continue
                if hardware not in starts:
                    starts[hardware] = decoded(path, hardware, "max-frames=1")
                start = starts[hardware]
                most = (960 if "1080p" in path.name else 240) // divisor
                result = decoded(path, hardware, f"{extra} max-frames={most}", GST_DEBUG="vxkeyframedec:4", GST_DEBUG_NO_COLOR=1)
                if result.code != 0:
                    error = re.search(r"^\[.*|ERROR: .*", result.err, re.M)
                    cells.append(f"{label}: FAILED {result.code} {shorten(error.group(0) if error else result.err, 200)}")
                    row.append("refused")
                    continue
                frames, nanoseconds, used = frames_of(result)
                lean = max(result.seconds - start.seconds, 1e-9)
                cells.append(f"{label}: {(frames - 1) / lean:.0f} ({frames / result.seconds:.0f}; {result.cpu_seconds:.1f} s)"
                             + (f" by {used}" if hardware == "auto" else ""))
                row.append(f"{(frames - 1) / lean:.0f}" + (f", by {used}" if hardware == "auto" else ""))
                REPORT["decode_figures"].append({"file": path.name, "way": label, "frames": frames, "seconds": result.seconds, "start": start.seconds,
                                                 "cpu": result.cpu_seconds, "decode_ns": nanoseconds, "used": used})
            say("decode", f"{path.name[5:]:16} " + " | ".join(cells))
            rows.append(row)
            if short.exists() and HAS_DRIVER and has_numpy():
                say("decode", f"{'':16} pictures, processor against cuda: {shown(picture_difference(short, 'cuda', folder))}")
    table(["keyframes/s", "`none`, `threads=1`", "`none`, `threads=16`", "`cuda`, `threads=1`", "`cuda`, `threads=4`", "`auto`"], rows)
    title("decode in lanes: vx detect over 64 files, no model, keyframes/s of whole processes")
    nothing = ["--provider", "cpu", "--set", "detector::region-type=none"]
    for hardware, lanes in (("none", 0), ("cuda", 1), ("cuda", 4), ("cuda", 8), ("cuda", 0), ("auto", 0)):
        if hardware == "cuda" and not HAS_DRIVER:
            continue
        result, told = detect(BULK, *nothing, "--set", f"decoder::hardware={hardware}", *(["--lanes", lanes] if lanes else []), ORT_DYLIB_PATH=RUNTIME)
        say("decode", f"hardware={hardware}, {lanes or 'planned'} lanes: {told['keyframes'] / result.seconds:.0f} keyframes/s, {result.seconds:.2f} s, "
                      f"{result.cpu_seconds:.1f} s of processor time, exit {result.code} {shorten(' '.join(told['failed'][:1]))}")


def clips():
    title("clips: the device's pictures against the processor's")
    if not HAS_DRIVER or not has_numpy():
        say("clips", NO_DRIVER if not HAS_DRIVER else "numpy is missing: not compared")
        return
    files = sorted(path for path in (PAYLOAD / "clips/real").rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        def differences(file):
            expected = pictures(file, "none", folder)
            return [(file, hardware, picture_difference(file, hardware, folder, expected)) for hardware in ("cuda", "auto")]

        with concurrent.futures.ThreadPoolExecutor(max(1, min(12, len(CORES) - 2))) as pool:
            for file, hardware, told in (each for both in pool.map(differences, files) for each in both):
                both_fail = told["code"][0] != 0 and told["code"][1] != 0
                is_same = both_fail or told.get("worst") == 0 and len(set(told["frames"])) == 1
                line = f"{'same' if is_same else 'DIFFER'} {hardware:4} {file.name}: {shown(told)}"
                if not is_same and "caps" in told and told["caps"][0] != told["caps"][1]:
                    line += f"; caps {told['caps'][0]} / {told['caps'][1]}"
                if told.get("warning"):
                    line += f"; {told['warning']}"
                say("clips", line)


def iou(a, b):
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    over = max(0, min(ax + aw, bx + bw) - max(ax, bx)) * max(0, min(ay + ah, by + bh) - max(ay, by))
    return over / max(aw * ah + bw * bh - over, 1e-9)


def agreement(expected, got):
    """Returns the matching boxes of two runs and their distances."""
    paired, alone, confidence, overlap = 0, 0, 0.0, 1.0
    others = {(frame["file"], frame["pts_ns"]): frame["detections"] for frame in got}
    for frame in expected:
        rest = list(others.get((frame["file"], frame["pts_ns"]), []))
        for box in frame["detections"]:
            best = max((other for other in rest if other["class_id"] == box["class_id"]), key=lambda other: iou(box["box"], other["box"]), default=None)
            if best is None or iou(box["box"], best["box"]) < 0.5:
                alone += 1
                continue
            rest.remove(best)
            paired += 1
            confidence = max(confidence, abs(box["confidence"] - best["confidence"]))
            overlap = min(overlap, iou(box["box"], best["box"]))
        alone += len(rest)
    return f"{paired} boxes pair off, {alone} do not; confidence at most {confidence:.4f} apart, overlap at least {overlap:.4f}"


def speed(provider, model, extra, frames, **options):
    """Returns the frames/s of one pipeline over one picture in memory."""
    def go(count):
        return launch("videotestsrc num-buffers=1", "video/x-raw,format=I420,width=1920,height=1080", f"imagefreeze num-buffers={count}",
                      f"vxyolodetect model-file={model} execution-provider={provider} runtime-library={RUNTIME} {extra}", "fakesink sync=false", **options)
    first, all_of_them = go(1), go(frames + 1)
    if all_of_them.code != 0:
        return None, first.seconds, all_of_them
    return frames / max(all_of_them.seconds - first.seconds, 1e-9), first.seconds, all_of_them


def engine_of(models, providers, section):
    files = [PAYLOAD / "clips/1080p_h264.mp4", *sorted((PAYLOAD / "clips").glob("*person*.mp4"))]

    def lines(model):
        _, expected = detect(files, "--model", model, "--provider", "cpu", ORT_DYLIB_PATH=RUNTIME)
        for provider, extra in providers:
            result, told = detect(files, "--model", model, "--provider", provider, *extra, ORT_DYLIB_PATH=RUNTIME)
            name = f"{model.stem} {pathlib.Path(provider).name} {' '.join(extra[1::2])}"
            if result.code != 0:
                yield f"{name}: exit {result.code}: {shorten(result.err, 500)}"
            else:
                yield f"{name}: {agreement(expected['frames'], told['frames'])}; {result.seconds:.1f} s; {told['model'].split(': ', 1)[-1]}"

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for line in (line for of_model in pool.map(lambda model: list(lines(model)), models) for line in of_model):
            say(section, line)


def engine():
    title("engine: detections beside the CPU provider's")
    if HAS_DRIVER:
        others = sorted(set((PAYLOAD / "models").glob("*.onnx")) - {MODEL})
        engine_of([MODEL], [("cuda", []), ("cuda", ["--set", "detector::precision=fp32"]), ("auto", [])], "engine")
        engine_of(others, [("cuda", []), ("auto", [])], "engine")
        # Building TensorRT's engine takes minutes.
        result, told = detect(BULK[:1], "--model", MODEL, "--provider", "tensorrt", ORT_DYLIB_PATH=RUNTIME, timeout=300)
        say("engine", f"tensorrt: exit {result.code}: {shorten(result.err, 500)}")
    else:
        say("engine", f"cuda and tensorrt: {NO_DRIVER}")
    title("engine: frames/s of yolov8n at 640 from one 1080p picture in memory, without the start (start)")
    # The sessions of CUDA and TensorRT bind their inputs and outputs to pinned memory.
    cases = [("cpu", "", 200)]
    if HAS_DRIVER:
        cases += [("cuda", f"sessions={sessions}", 2000) for sessions in (1, 2, 4, 8)]
        cases += [("cuda", f"sessions=2 batch-size={size} batch-timeout=2000000 max-inflight=64", 2000) for size in (4, 16)]
        cases += [("cuda", "precision=fp32", 1000), ("cuda", "execution-provider-options=cudnn_conv_algo_search=HEURISTIC", 1000),
                  ("cuda", "execution-provider-options=prefer_nhwc=1", 1000)]
        cases += [("tensorrt", "sessions=2", 2000), ("tensorrt", "sessions=2 precision=fp32", 2000)]
    rows = []
    for provider, extra, frames in cases:
        rate, start, result = speed(provider, MODEL, extra, frames, timeout=300 if provider == "tensorrt" else TIMEOUT)
        say("engine", f"{provider:5} {extra or 'as planned'}: " + (f"{rate:.0f} frames/s ({start:.2f} s), {result.cpu_seconds:.1f} s of processor time"
                                                                  if rate else f"exit {result.code}: {shorten(result.err)}"))
        rows.append([provider, extra or "as planned", *([f"{rate:.0f}", f"{start:.2f}", f"{1000 * result.cpu_seconds / frames:.2f}"]
                                                        if rate else ["failed", "", ""])])
    table(["provider", "properties", "frames/s", "start, s", "processor ms/frame"], rows)


def plugins():
    title("plugin providers: detections and frames/s")
    libraries = sorted((PAYLOAD / "plugin-providers").rglob("libonnxruntime_providers_*.so"))
    if not libraries:
        say("plugins", "the payload has no plugin providers")
    for library in libraries:
        engine_of([MODEL], [(str(library), [])], "plugins")
        rate, start, result = speed(library, MODEL, "", 1000)
        say("plugins", f"{library.name}: " + (f"{rate:.0f} frames/s ({start:.2f} s)" if rate else f"exit {result.code}: {shorten(result.err)}"))


def together():
    title("together: vx detect, yolov8n, whole processes over 512 files of 4 keyframes, 1080p h264")
    if not HAS_DRIVER:
        say("together", NO_DRIVER)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(8):
            for file in BULK:
                files.append(pathlib.Path(folder) / f"{number}_{file.name}")
                os.link(file, files[-1]) if os.stat(file).st_dev == os.stat(folder).st_dev else shutil.copy(file, files[-1])
        ways = [("cuda", "none", []), ("cuda", "cuda", []), ("cuda", "auto", []), ("auto", "auto", []),
                ("cuda", "none", ["--set", "detector::sessions=4"]), ("cuda", "cuda", ["--set", "detector::sessions=4"])]
        for provider, hardware, extra in ways:
            result, told = detect([folder], "--model", MODEL, "--provider", provider, "--set", f"decoder::hardware={hardware}", *extra, ORT_DYLIB_PATH=RUNTIME)
            noise = [line for line in result.err.splitlines() if line.startswith("[")]
            say("together", f"provider={provider} hardware={hardware} {' '.join(extra[1::2])}: {told['ok'] / result.seconds:.0f} files/s, "
                            f"{told['keyframes'] / result.seconds:.0f} keyframes/s, {result.seconds:.1f} s, {result.cpu_seconds:.1f} s of processor time, "
                            f"{result.peak_mib:.0f} MiB, exit {result.code}, {len(told['failed'])} failed {shorten(' '.join(told['failed'][:1]))}"
                            f"{'; FFmpeg says ' + noise[0] + f' ({len(noise)} lines)' if noise else ''}")
    title("together: one pipeline whose detector starts before its decoder")
    result = launch(f"filesrc location={PAYLOAD}/clips/1080p_h264.mp4", "vxkeyframedec hardware=cuda",
                    f"vxyolodetect model-file={MODEL} execution-provider=cuda runtime-library={RUNTIME}", "fakesink",
                    GST_DEBUG="vxkeyframedec:4", GST_DEBUG_NO_COLOR=1)
    say("together", f"exit {result.code}, {frames_of(result)[0]} frames by {frames_of(result)[2]}; "
                    f"{shorten(' '.join(line for line in result.err.splitlines() if 'ERROR' in line or line.startswith('[')))}")
    older = PAYLOAD / "plugins-before"
    if older.exists():
        result = launch(f"filesrc location={PAYLOAD}/clips/1080p_h264.mp4", "vxkeyframedec hardware=cuda",
                        f"vxyolodetect model-file={MODEL} execution-provider=cuda runtime-library={RUNTIME}", "fakesink",
                        GST_PLUGIN_PATH=older, GST_REGISTRY=tempfile.gettempdir() + "/vx-before.bin")
        say("together", f"the plugin in plugins-before: exit {result.code}; {shorten(result.err)}")


SECTIONS = {"info": info, "bulk": bulk, "decode": decode, "clips": clips, "engine": engine, "plugins": plugins, "together": together}


def main():
    wanted = sys.argv[1:] or list(SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        sys.exit(f"device.py: there is no section {unknown[0]}; known are {', '.join(SECTIONS)}")
    for name in wanted:
        started = time.monotonic()
        try:
            SECTIONS[name]()
        except Exception as error:  # One section that breaks must not cost the others their time on the machine.
            say(name, f"{name} BROKE: {type(error).__name__}: {error}")
        print(f"-- {name}: {time.monotonic() - started:.0f} s", flush=True)
        if "VX_REPORT" in os.environ:
            pathlib.Path(os.environ["VX_REPORT"]).write_text(json.dumps(REPORT, indent=1))


if __name__ == "__main__":
    main()
