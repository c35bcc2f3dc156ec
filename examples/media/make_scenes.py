#!/usr/bin/env python3
"""Makes scenes.mp4, the clip for the demo and the tests.

    pip install scikit-image==0.25.2 numpy
    python3 make_scenes.py scenes.mp4

The clip shows four photographs from the wheel of scikit-image, each for a few seconds while a virtual camera moves over it, with hard
cuts between them. Needs the ffmpeg command with libx264; downloads nothing.
"""
import argparse
import subprocess

import numpy as np
from skimage import data, img_as_ubyte
from skimage.color import gray2rgb
from skimage.transform import AffineTransform, warp

WIDTH, HEIGHT, RATE = 640, 480, 25
SECONDS = 4
KEYFRAME_INTERVAL = RATE

# Picture, then the camera at the start and at the end of its scene: centre x, centre y and width, as shares of the
# picture's width (the height follows from the clip's shape).
SCENES = (
    (data.astronaut, (0.48, 0.40, 0.92), (0.46, 0.38, 0.87)),
    (data.rocket, (0.50, 0.33, 0.86), (0.50, 0.33, 0.74)),
    (data.camera, (0.50, 0.54, 0.98), (0.485, 0.55, 0.97)),
    (data.chelsea, (0.48, 0.33, 1.30), (0.52, 0.34, 1.22)),
)


def view(picture, camera):
    """What the camera sees, grey beside the picture: uint8 [HEIGHT, WIDTH, 3]."""
    centre_x, centre_y, width = (share * picture.shape[1] for share in camera)
    scale = width / WIDTH
    corner = (centre_x - width / 2, centre_y - scale * HEIGHT / 2)
    window = AffineTransform(scale=scale, translation=corner)
    return img_as_ubyte(warp(picture, window, output_shape=(HEIGHT, WIDTH), order=1, mode="constant", cval=0.85))


def frames():
    for load, start, end in SCENES:
        picture = load()
        picture = gray2rgb(picture) if picture.ndim == 2 else picture
        count = round(SECONDS * RATE)
        for step in range(count):
            share = step / (count - 1)
            camera = np.array(start) * (1 - share) + np.array(end) * share
            yield view(picture, camera)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="the mp4 file to write")
    output = parser.parse_args().output
    encode = subprocess.Popen(
        ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y",
         "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(RATE), "-i", "-",
         "-vf", "scale=out_color_matrix=bt601:out_range=tv",
         "-c:v", "libx264", "-preset", "slow", "-crf", "26", "-pix_fmt", "yuv420p", "-g", str(KEYFRAME_INTERVAL), "-bf", "2",
         "-colorspace", "smpte170m", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv",
         "-threads", "1", "-flags", "+bitexact", "-fflags", "+bitexact",
         "-metadata", "title=vx example scenes", "-movflags", "+faststart", output],
        stdin=subprocess.PIPE)
    for frame in frames():
        encode.stdin.write(frame.tobytes())
    encode.stdin.close()
    if encode.wait() != 0:
        raise SystemExit(f"ffmpeg could not write {output}")


if __name__ == "__main__":
    main()
