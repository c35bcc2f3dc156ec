// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures which elements keep the detections on frames, and checks the table of them in docs/elements.md.
//!
//! What an element does depends on its version. The table is that of GStreamer 1.22; with other versions the test prints what it finds.
//! `UPDATE_DOCS=1 cargo test --test meta_survival` updates the table.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{clip, init, pixels, quoted, root, run};
use gst_video::VideoRegionOfInterestMeta;

type Rectangle = [f64; 4];

/// An element, its launch line, and where a box belongs behind it.
struct Case {
    name: &'static str,
    launch: &'static str,
    expected: fn(Rectangle) -> Rectangle,
}

const fn case(name: &'static str, launch: &'static str, expected: fn(Rectangle) -> Rectangle) -> Case {
    Case { name, launch, expected }
}

/// The frames have 640 x 480 pixels.
const CASES: [Case; 17] = [
    case("`queue`", "queue", |place| place),
    case("`tee`", "tee", |place| place),
    case("`identity`, `capsfilter`", "identity ! capsfilter", |place| place),
    case("`videorate`", "videorate ! video/x-raw,framerate=2/1", |place| place),
    case("`videobalance`", "videobalance brightness=0.1", |place| place),
    case("`videoconvert`", "videoconvert ! video/x-raw,format=RGB", |place| place),
    case("`videoscale`", "videoscale ! video/x-raw,width=320,height=240", |place| place.map(|value| value / 2.0)),
    case("`videoconvertscale`", "videoconvertscale ! video/x-raw,format=NV12,width=1280,height=960", |place| {
        place.map(|value| value * 2.0)
    }),
    case("`videocrop`", "videocrop left=40 top=20", |[x, y, w, h]| [(x - 40.0).max(0.0), y - 20.0, w, h]),
    case("`aspectratiocrop`", "aspectratiocrop aspect-ratio=1/1", |[x, y, w, h]| [x - 80.0, y, w, h]),
    case("`videobox`", "videobox left=-20 top=-10", |[x, y, w, h]| [x + 20.0, y + 10.0, w, h]),
    case("`videoflip`", "videoflip method=horizontal-flip", |[x, y, w, h]| [640.0 - x - w, y, w, h]),
    case("`deinterlace`", "deinterlace mode=interlaced", |place| place),
    case("`compositor`", "compositor", |place| place),
    case("`jpegenc ! jpegdec`", "jpegenc ! jpegdec", |place| place),
    case("`vp8enc ! vp8dec`", "vp8enc ! vp8dec", |place| place),
    case("`x264enc ! avdec_h264`", "x264enc tune=zerolatency ! avdec_h264", |place| place),
];

fn outcome(launch: &str) -> common::Outcome {
    let file = quoted(&clip());
    let detector = "vxyolodetect execution-provider=cpu";
    run(&format!("filesrc location={file} ! vxkeyframedec max-frames=1 ! {detector} ! {launch}"))
}

fn place_of(sample: &gst::Sample) -> Option<Rectangle> {
    let meta = sample.buffer().unwrap().meta::<VideoRegionOfInterestMeta>()?;
    let (x, y, width, height) = meta.rect();
    Some([x, y, width, height].map(f64::from))
}

/// Returns the cells of a row; `None` where an element is not installed.
fn row(case: &Case, original: Rectangle) -> Option<[&'static str; 3]> {
    let names = case.launch.split('!').filter_map(|part| part.split_whitespace().next());
    let missing = names.filter(|name| !name.contains('/')).find(|name| gst::ElementFactory::find(name).is_none());
    if let Some(missing) = missing {
        println!("skipped: {missing} is not installed");
        return None;
    }
    let plain = outcome(case.launch);
    assert!(plain.error.is_none(), "{}: {:?}", case.launch, plain.error);
    let sample = &plain.samples[0];
    let place = place_of(sample);
    let wanted = (case.expected)(original);
    let is_right = place.is_some_and(|place| std::iter::zip(place, wanted).all(|(a, b)| (a - b).abs() <= 2.0));
    let boxes = match (place, is_right) {
        (None, _) => "dropped",
        (Some(place), true) if place == original => "kept",
        (Some(_), true) => "moved with the picture",
        (Some(_), false) => "left at the old place",
    };
    let buffer = sample.buffer().unwrap();
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let read = gstvx::meta::read(buffer, info.width(), info.height());
    let has_parameter = buffer
        .meta::<VideoRegionOfInterestMeta>()
        .is_some_and(|meta| meta.params().any(|parameter| parameter.name() == "detection"));
    let details = match (has_parameter, read.found.first().and_then(|found| found.confidence)) {
        (true, _) => "kept",
        (false, Some(_)) => "restored from `GstVxFrameMeta`",
        (false, None) => "dropped",
    };
    let overlaid = outcome(&format!("{} ! vxoverlay", case.launch));
    let is_drawn = pixels(sample) != pixels(&overlaid.samples[0]);
    assert_eq!(is_drawn, place.is_some(), "{}", case.launch);
    let overlay =
        match (is_drawn, is_right, overlaid.warnings.iter().any(|warning| warning.contains("drops detections"))) {
            (true, true, _) => "draws",
            (true, false, _) => "draws at the wrong place",
            (false, _, true) => "draws nothing and warns",
            (false, _, false) => "draws nothing",
        };
    Some([boxes, details, overlay])
}

#[test]
fn the_table_of_elements_that_keep_metas_is_right() {
    init();
    let original = place_of(&outcome("identity").samples[0]).expect("a person on the first keyframe");
    let path = root().join("docs/elements.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- begin survival -->\n\n", "<!-- end survival -->");
    let start = page.find(begin).expect("docs/elements.md has the table") + begin.len();
    let length = page[start..].find(end).expect("the table has an end");
    let documented: Vec<&str> = page[start..start + length].lines().filter(|line| !line.is_empty()).collect();
    let mut table = vec![
        "| element between detector and reader | boxes | confidence, class number, keypoints, masks | `vxoverlay` behind it |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for case in &CASES {
        let line = row(case, original).map(|cells| format!("| {} | {} |", case.name, cells.join(" | ")));
        // Rows of elements that are not installed stay as they are.
        let known = || documented.iter().find(|line| line.starts_with(&format!("| {} |", case.name)));
        table.extend(line.or_else(|| known().map(|line| (*line).to_owned())));
    }
    println!("{}", table.join("\n"));
    let (major, minor, ..) = gst::version();
    if (major, minor) != (1, 22) {
        println!(
            "the table in docs/elements.md is not compared: it is that of GStreamer 1.22, and this is {major}.{minor}"
        );
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let mut page = page.clone();
        page.replace_range(start..start + length, &(table.join("\n") + "\n\n"));
        std::fs::write(path, page).unwrap();
        return;
    }
    assert_eq!(documented, table, "run `UPDATE_DOCS=1 cargo test --test meta_survival`");
}
