#!/bin/sh
# Runs benches/device.py on a bare x86-64 Linux system: no GStreamer, no FFmpeg, no Python, no network, only a shell with sed, awk and sort.
#
#     PAYLOAD/scripts/device_bench.sh PAYLOAD [SECTION...]
#
# PAYLOAD is a folder that scripts/device_payload.sh filled on a machine where the plugin was built; it contains this script. CUDA's
# libraries and cuDNN come from PyTorch's packages if the system's python3 has them, those of the driver from the system. Comparing
# pictures needs numpy in the system's python3. VX_OWN_LIBC=1 starts programs with the payload's libc even if the system's is new
# enough; VX_REPORT=FILE writes all figures as JSON; VX_TIMEOUT=SECONDS limits each program (40).
set -eu

[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
payload=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)

# Prints the folders that contain a library.
folder_of() {
    ldconfig -p 2>/dev/null | sed -n "s|^[[:space:]]*$1 .*x86-64.* => \(.*\)/[^/]*\$|\1|p" | head -n 1
    for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib /usr/lib/wsl/lib; do
        [ ! -e "$folder/$1" ] || echo "$folder"
    done
}

nvidia=$(! command -v python3 >/dev/null || python3 - <<'PYTHON'
import glob, os, sysconfig
folders = {os.path.dirname(path) for root in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
           for path in glob.glob(os.path.join(root, "nvidia", "**", "lib*.so*"), recursive=True)}
print(":".join(sorted(folders)))
PYTHON
)
driver=$( { folder_of libcuda.so.1; folder_of libnvcuvid.so.1; } | sort -u | tr '\n' ':')

# Programs of Debian 12 need libc 2.36 and libstdc++ of GCC 12.
version=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{print $2}')
newest=$(printf '%s\n2.36\n' "${version:-0}" | sort -V | tail -n 1)
libraries="$payload/lib:$payload/ort:$driver$nvidia"
libraries=${libraries%:}
# Plugin providers find the libraries of their packages here.
for folder in "$payload"/plugin-providers/*/; do
    [ ! -d "$folder" ] || libraries="$libraries:${folder%/}"
done
if [ -z "${VX_OWN_LIBC:-}" ] && [ "$newest" = "${version:-0}" ]; then
    VX_LOADER=
    ldconfig -p 2>/dev/null | grep -q 'libstdc++.so.6' || libraries="$libraries:$payload/libc"
else
    libraries="$payload/libc:$libraries"
    VX_LOADER="$payload/libc/ld-linux-x86-64.so.2 --library-path $libraries"
fi
export VX_LOADER VX_PAYLOAD="$payload" VX_LIBRARIES="$libraries"
export GST_PLUGIN_SYSTEM_PATH_1_0="$payload/gst" GST_PLUGIN_PATH="$payload/plugins" GST_REGISTRY_FORK=no
export GST_REGISTRY="${TMPDIR:-/tmp}/vx-device-registry.bin"
if command -v python3 >/dev/null; then
    exec python3 "$here/../benches/device.py" "$@"
fi
export PYTHONHOME="$payload/python" PYTHONDONTWRITEBYTECODE=1
[ -n "$VX_LOADER" ] || export LD_LIBRARY_PATH="$libraries"
# shellcheck disable=SC2086 # A command with arguments, or nothing.
exec $VX_LOADER "$payload/python/bin/python3" "$here/../benches/device.py" "$@"
