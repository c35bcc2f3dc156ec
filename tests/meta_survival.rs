// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures which elements keep the detections on frames, and checks the tables of them in docs/elements.md.
//!
//! What an element does depends on its version. There is a table for each of [`DOCUMENTED`]; with other versions the test prints what it
//! finds. `UPDATE_DOCS=1 cargo test --test meta_survival` updates the table of the running version.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use common::{clip, init, pixels, quoted, root, run};
use gst_video::VideoRegionOfInterestMeta;
use gstvx::meta::Kinds;

type Rectangle = [f64; 4];

/// Versions of GStreamer with a table: those of Debian 12 and, with GstAnalyticsRelationMeta, of Debian 13.
const DOCUMENTED: [(u32, u32); 2] = [(1, 22), (1, 26)];

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

/// Runs `launch` behind a detector with `properties` on the first keyframe of the clip.
fn outcome(properties: &str, launch: &str) -> common::Outcome {
    let file = quoted(&clip());
    let detector = format!("vxyolodetect execution-provider=cpu {properties}");
    let outcome = run(&format!("filesrc location={file} ! vxkeyframedec max-frames=1 ! {detector} ! {launch}"));
    assert!(outcome.error.is_none(), "{launch}: {:?}", outcome.error);
    outcome
}

fn place_of(sample: &gst::Sample) -> Option<Rectangle> {
    let meta = sample.buffer().unwrap().meta::<VideoRegionOfInterestMeta>()?;
    let (x, y, width, height) = meta.rect();
    Some([x, y, width, height].map(f64::from))
}

/// Returns the detections as the plugin's own elements read them.
fn read(sample: &gst::Sample) -> Vec<gstvx::meta::Found> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    gstvx::meta::read(sample.buffer().unwrap(), info.width(), info.height()).found
}

/// Whether a box is where it belongs, except for rounding.
fn is_right(place: Rectangle, wanted: Rectangle) -> bool {
    std::iter::zip(place, wanted).all(|(a, b)| (a - b).abs() <= 2.0)
}

fn verdict(place: Option<Rectangle>, original: Rectangle, wanted: Rectangle) -> &'static str {
    match place {
        None => "dropped",
        Some(place) if !is_right(place, wanted) => "left at the old place",
        Some(place) if place == original => "kept",
        Some(_) => "moved with the picture",
    }
}

/// Returns the cells of a row; `None` where an element is not installed.
fn row(case: &Case, original: Rectangle) -> Option<Vec<&'static str>> {
    let names = case.launch.split('!').filter_map(|part| part.split_whitespace().next());
    let missing = names.filter(|name| !name.contains('/')).find(|name| gst::ElementFactory::find(name).is_none());
    if let Some(missing) = missing {
        println!("skipped: {missing} is not installed");
        return None;
    }
    let wanted = (case.expected)(original);
    let roi = outcome("meta=roi", case.launch);
    let sample = &roi.samples[0];
    let metas = || sample.buffer().unwrap().iter_meta::<VideoRegionOfInterestMeta>();
    let has_parameter = metas().any(|meta| meta.params().any(|parameter| parameter.name() == "detection"));
    let details = match (has_parameter, read(sample).first().and_then(|found| found.confidence)) {
        (true, _) => "kept",
        (false, Some(_)) => "restored from `GstVxFrameMeta`",
        (false, None) => "dropped",
    };
    let mut cells = vec![verdict(place_of(sample), original, wanted), details];
    if Kinds::HAS_ANALYTICS {
        let analytics = outcome("meta=analytics", case.launch);
        let place = read(&analytics.samples[0]).first().map(|found| found.rectangle);
        cells.push(verdict(place, original, wanted));
    }
    // With the metas that are the default.
    let plain = outcome("", case.launch);
    let place = read(&plain.samples[0]).first().map(|found| found.rectangle);
    let overlaid = outcome("", &format!("{} ! vxoverlay", case.launch));
    let is_drawn = pixels(&plain.samples[0]) != pixels(&overlaid.samples[0]);
    assert_eq!(is_drawn, place.is_some(), "{}", case.launch);
    let has_warned = overlaid.warnings.iter().any(|warning| warning.contains("drops detections"));
    cells.push(match place {
        Some(place) if is_right(place, wanted) => "draws",
        Some(_) => "draws at the wrong place",
        None if has_warned => "draws nothing and warns",
        None => "draws nothing",
    });
    Some(cells)
}

/// Returns the first two lines of a table.
fn head() -> [String; 2] {
    let mut names = vec!["element between detector and reader"];
    if Kinds::HAS_ANALYTICS {
        names.extend(["`GstVideoRegionOfInterestMeta`", "its confidence, class number, keypoints, masks"]);
        names.push("`GstAnalyticsRelationMeta`");
    } else {
        names.extend(["boxes", "confidence, class number, keypoints, masks"]);
    }
    names.push("`vxoverlay` behind it");
    [format!("| {} |", names.join(" | ")), format!("|{}", "---|".repeat(names.len()))]
}

#[test]
fn the_table_of_elements_that_keep_metas_is_right() {
    init();
    let (major, minor, ..) = gst::version();
    let original = place_of(&outcome("", "identity").samples[0]).expect("a person on the first keyframe");
    let path = root().join("docs/elements.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- begin survival {major}.{minor} -->\n\n"), "<!-- end survival -->");
    let is_documented = DOCUMENTED.contains(&(major, minor)) && Kinds::HAS_ANALYTICS == (minor >= 24);
    let place = is_documented.then(|| {
        let start = page.find(&begin).unwrap_or_else(|| panic!("docs/elements.md has no {begin}")) + begin.len();
        start..start + page[start..].find(end).expect("the table has an end")
    });
    let documented: Vec<&str> =
        place.iter().flat_map(|place| page[place.clone()].lines()).filter(|line| !line.is_empty()).collect();
    let mut table = head().to_vec();
    for case in &CASES {
        let line = row(case, original).map(|cells| format!("| {} | {} |", case.name, cells.join(" | ")));
        // Rows of elements that are not installed stay as they are.
        let known = || documented.iter().find(|line| line.starts_with(&format!("| {} |", case.name)));
        table.extend(line.or_else(|| known().map(|line| (*line).to_owned())));
    }
    println!("{}", table.join("\n"));
    let Some(place) = place else {
        println!("docs/elements.md has no table for GStreamer {major}.{minor} and this build's metas: not compared");
        return;
    };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let mut page = page.clone();
        page.replace_range(place, &(table.join("\n") + "\n\n"));
        std::fs::write(path, page).unwrap();
        return;
    }
    assert_eq!(documented, table, "run `UPDATE_DOCS=1 cargo test --test meta_survival`");
}
