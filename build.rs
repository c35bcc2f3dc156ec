// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plugin version from git, and one `cfg` for each FFmpeg release whose API this crate tells apart.

/// FFmpeg releases at which a struct or function used in `src/av/` changed.
const RELEASES: [&str; 3] = ["ffmpeg_6_0", "ffmpeg_6_1", "ffmpeg_7_0"];

fn main() {
    gst_plugin_version_helper::info();
    // ffmpeg-sys-next (`links = "ffmpeg"`) tells which releases the installed headers reach: DEP_FFMPEG_FFMPEG_6_0=true
    for release in RELEASES {
        println!("cargo:rustc-check-cfg=cfg({release})");
        let variable = format!("DEP_FFMPEG_{}", release.to_uppercase());
        if std::env::var(variable).is_ok_and(|value| value == "true") {
            println!("cargo:rustc-cfg={release}");
        }
    }
}
