#!/usr/bin/env bash
# Installs the programs that only tests use, where that is possible without asking (Debian, as root):
#
#   nginx                       tests/urls.rs reads files from it
#   strace                      tests/network.rs checks which addresses are contacted
#   chromium, chromium-driver   tests/report.rs opens reports in it
#   GStreamer's RTSP server     tests/rtp.rs receives a stream from it, through tests/rtsp_server.py
#
# Tests whose program is missing print that they are skipped. Nothing is started.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
missing=()
{ command -v nginx || [ -x /usr/sbin/nginx ]; } >/dev/null || missing+=(nginx-light)
command -v strace >/dev/null || missing+=(strace)
for program in chromium:chromium chromedriver:chromium-driver; do
    command -v "${program%:*}" >/dev/null || missing+=("${program#*:}")
done
/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
    missing+=(python3-gi gir1.2-gst-rtsp-server-1.0)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "test_tools: missing: ${missing[*]}; the tests that use them are skipped" >&2
    exit 0
fi
# Debian's packages start their servers, unless this program forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
