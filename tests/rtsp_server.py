# SPDX-License-Identifier: MIT OR Apache-2.0
"""Serves the H.264 video of an mp4 file with GStreamer's RTSP server, for tests/rtp.rs.

    rtsp_server.py FILE

Prints the URL when it is ready, then a line for each session that a client tears down. Ends when standard input closes.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(f'( filesrc location="{sys.argv[1]}" ! qtdemux ! rtph264pay name=pay0 pt=96 )')
server.get_mount_points().add_factory("/clip", factory)


def on_connected(_server, client):
    client.connect("teardown-request", lambda *_: print("teardown", flush=True))


server.connect("client-connected", on_connected)
server.attach(None)
loop = GLib.MainLoop()


def on_input(_channel, _condition):
    loop.quit()
    return False


GLib.io_add_watch(GLib.IOChannel.unix_new(0), GLib.PRIORITY_DEFAULT, GLib.IOCondition.HUP | GLib.IOCondition.IN, on_input)
print(f"rtsp://127.0.0.1:{server.get_bound_port()}/clip", flush=True)
loop.run()
