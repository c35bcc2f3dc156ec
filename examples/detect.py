#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Detects objects on the keyframes of a file with PyGObject: prints the metas of each frame.

Usage: GST_PLUGIN_PATH=target/plugins examples/detect.py FILE

On Debian: apt install python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstVideo


def detections(frame):
    """Yields label, confidence and box (left, top, width, height in pixels) of each detection on a frame."""
    # vxyolodetect numbers its metas from 1.
    number = 1
    while meta := GstVideo.buffer_get_video_region_of_interest_meta_id(frame, number):
        _, confidence = meta.get_param("detection").get_double("confidence")
        yield GLib.quark_to_string(meta.roi_type), confidence, (meta.x, meta.y, meta.w, meta.h)
        number += 1


def on_frame(_pad, info):
    frame = info.get_buffer()
    for label, confidence, box in detections(frame):
        print(f"{frame.pts / Gst.SECOND:.3f} {label} {confidence:.2f} {box}", flush=True)
    return Gst.PadProbeReturn.OK


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Gst.init(None)
    pipeline = Gst.parse_launch("filesrc name=source ! vxkeyframedec ! vxyolodetect ! fakesink name=sink sync=false")
    pipeline.get_by_name("source").set_property("location", sys.argv[1])
    pipeline.get_by_name("sink").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_frame)
    pipeline.set_state(Gst.State.PLAYING)
    types = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, types)
    pipeline.set_state(Gst.State.NULL)
    if message.type == Gst.MessageType.ERROR:
        sys.exit(message.parse_error()[0].message)


main()
