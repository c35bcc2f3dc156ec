/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Detects objects on the keyframes of a file: prints the metas of each frame.
 *
 *   cc detect.c -o detect $(pkg-config --cflags --libs gstreamer-video-1.0)
 *   GST_PLUGIN_PATH=target/plugins ./detect FILE
 */

#include <gst/gst.h>
#include <gst/video/video.h>

static GstPadProbeReturn
on_frame (GstPad * pad, GstPadProbeInfo * info, gpointer user_data)
{
  GstBuffer *frame = GST_PAD_PROBE_INFO_BUFFER (info);
  gpointer state = NULL;
  GstMeta *meta;

  while ((meta = gst_buffer_iterate_meta_filtered (frame, &state,
              GST_VIDEO_REGION_OF_INTEREST_META_API_TYPE))) {
    GstVideoRegionOfInterestMeta *region = (GstVideoRegionOfInterestMeta *) meta;
    GstStructure *detection =
        gst_video_region_of_interest_meta_get_param (region, "detection");
    gdouble confidence = 0.0;

    if (detection)
      gst_structure_get_double (detection, "confidence", &confidence);
    g_print ("%" GST_TIME_FORMAT " %s %.2f %u,%u %ux%u\n",
        GST_TIME_ARGS (GST_BUFFER_PTS (frame)),
        g_quark_to_string (region->roi_type), confidence, region->x, region->y,
        region->w, region->h);
  }
  return GST_PAD_PROBE_OK;
}

int
main (int argc, char **argv)
{
  GstElement *pipeline, *source, *sink;
  GError *error = NULL;
  GstMessage *message;
  GstPad *pad;
  GstBus *bus;
  int status = 0;

  gst_init (&argc, &argv);
  if (argc != 2) {
    g_printerr ("usage: %s FILE\n", argv[0]);
    return 2;
  }
  pipeline = gst_parse_launch ("filesrc name=source ! vxkeyframedec ! "
      "vxyolodetect ! fakesink name=sink sync=false", &error);
  if (error) {
    g_printerr ("%s\n", error->message);
    g_clear_error (&error);
    return 1;
  }
  source = gst_bin_get_by_name (GST_BIN (pipeline), "source");
  g_object_set (source, "location", argv[1], NULL);
  gst_object_unref (source);
  sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  pad = gst_element_get_static_pad (sink, "sink");
  gst_pad_add_probe (pad, GST_PAD_PROBE_TYPE_BUFFER, on_frame, NULL, NULL);
  gst_object_unref (pad);
  gst_object_unref (sink);

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  bus = gst_element_get_bus (pipeline);
  message = gst_bus_timed_pop_filtered (bus, GST_CLOCK_TIME_NONE,
      GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
  if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR) {
    gst_message_parse_error (message, &error, NULL);
    g_printerr ("%s\n", error->message);
    g_clear_error (&error);
    status = 1;
  }
  gst_message_unref (message);
  gst_object_unref (bus);
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (pipeline);
  return status;
}
