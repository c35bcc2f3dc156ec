// SPDX-License-Identifier: MIT OR Apache-2.0
//! Selects the frames, and the parts of them, on which inference runs.
//!
//! Plain decisions over settings and frames; called by the thread that delivers the frames, in order.

use std::str::FromStr;

use super::settings::Settings;
use crate::detect::{self, Area};

/// Columns and rows of the thumbnail that scene changes are detected on.
const THUMBNAIL: (usize, usize) = (48, 27);

/// Decision about a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// Run inference on these parts of it; `None` for all of it.
    Detect(Vec<Option<Area>>),
    /// No inference: the frame gets no detections.
    Skip,
    /// No inference: the frame gets the detections of the one before.
    Repeat,
}

/// A rectangle of the property `region-of-interest`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left, top, width, height.
    sides: [f64; 4],
    /// Whether they are fractions of the frame; else they are pixels.
    is_fraction: bool,
}

impl FromStr for Region {
    type Err = detect::Error;

    fn from_str(text: &str) -> Result<Self, detect::Error> {
        let invalid = || detect::Error::Setting {
            setting: "region-of-interest",
            reason: format!(
                "\"{text}\" is not left,top,width,height in pixels (100,50,640,360) or as fractions of the frame (0.1,0,0.5,1)"
            ),
        };
        let sides: Result<Vec<f64>, _> = text.split(',').map(|side| side.trim().parse()).collect();
        let sides: [f64; 4] = sides.map_err(|_| invalid())?.try_into().map_err(|_| invalid())?;
        let fits = sides.iter().all(|side| side.is_finite() && *side >= 0.0) && sides[2] > 0.0 && sides[3] > 0.0;
        let is_fraction = sides.iter().all(|side| *side <= 1.0);
        if fits { Ok(Self { sides, is_fraction }) } else { Err(invalid()) }
    }
}

impl Region {
    fn area(self, width: u32, height: u32) -> Area {
        let scale = if self.is_fraction { [f64::from(width), f64::from(height)] } else { [1.0; 2] };
        let [x, y, w, h] = self.sides;
        let (left, top) = (x * scale[0], y * scale[1]);
        let pixels = |value: f64| value.round() as usize;
        Area {
            x: pixels(left),
            y: pixels(top),
            width: pixels(left + w * scale[0]).saturating_sub(pixels(left)).max(1),
            height: pixels(top + h * scale[1]).saturating_sub(pixels(top)).max(1),
        }
    }
}

impl Settings {
    /// Whether `region-of-interest` is outside of such frames.
    pub fn region_is_outside_of(&self, info: &gst_video::VideoInfo) -> bool {
        let (width, height) = (info.width(), info.height());
        let area = self.region.map(|region| region.area(width, height));
        area.is_some_and(|area| area.x >= width as usize || area.y >= height as usize)
    }
}

/// Selects frames; remembers the previous ones.
#[derive(Debug, Default)]
pub struct FrameSelector {
    /// Frames since the last inference, that one included; 0 before the first.
    since: u32,
    /// Thumbnail of the last frame with inference.
    thumbnail: Vec<u8>,
}

impl FrameSelector {
    /// Continues from `state`, in which a frame was selected on which inference runs only now, unless another was selected since.
    pub fn resume(&mut self, state: Self) {
        if self.since == 0 {
            *self = state;
        }
    }

    /// Decides about the next frame. `picture` is called only where needed.
    pub fn select(
        &mut self,
        settings: &Settings,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        picture: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Selection {
        // A repeated picture: videorate's copies, cameras with nothing new.
        if self.since > 0 && buffer.flags().contains(gst::BufferFlags::GAP) {
            return Selection::Repeat;
        }
        let skipped = if settings.carry_over { Selection::Repeat } else { Selection::Skip };
        if self.since > 0 && self.since < settings.inference_interval {
            self.since += 1;
            return skipped;
        }
        if settings.scene_change > 0.0
            && let Some(thumbnail) = picture()
        {
            if self.since > 0 && difference(&self.thumbnail, &thumbnail) < settings.scene_change {
                return Selection::Repeat;
            }
            self.thumbnail = thumbnail;
        }
        self.since = 1;
        let format = detect::PixelFormat::from_name(info.format().to_str());
        let within = |area: Area| area.within(format?, info.width() as usize, info.height() as usize);
        if !settings.region_type.is_empty() {
            let metas = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>();
            let selected = metas.filter(|meta| settings.region_type == "*" || meta.roi_type() == settings.region_type);
            let areas: Vec<_> = selected
                .filter_map(|meta| {
                    let (x, y, width, height) = meta.rect();
                    within(Area { x: x as usize, y: y as usize, width: width as usize, height: height as usize })
                })
                .map(Some)
                .collect();
            return if areas.is_empty() { Selection::Skip } else { Selection::Detect(areas) };
        }
        match settings.region {
            Some(region) => within(region.area(info.width(), info.height()))
                .map_or(Selection::Skip, |area| Selection::Detect(vec![Some(area)])),
            None => Selection::Detect(vec![None]),
        }
    }
}

/// Returns a thumbnail of `picture`.
pub fn thumbnail(picture: &detect::Picture<'_>) -> Vec<u8> {
    picture.thumbnail(THUMBNAIL.0, THUMBNAIL.1)
}

/// Returns the difference of two thumbnails: the mean over their pixels, as a fraction of white.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    if a.len() != b.len() || a.is_empty() {
        return 1.0;
    }
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / (255.0 * a.len() as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn info() -> gst_video::VideoInfo {
        gst::init().unwrap();
        gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 640, 360).build().unwrap()
    }

    #[test]
    fn regions_are_pixels_or_fractions() {
        let area = |text: &str| text.parse::<Region>().unwrap().area(640, 360);
        assert_eq!(area("10, 20, 300, 200"), Area { x: 10, y: 20, width: 300, height: 200 });
        assert_eq!(area("0.5,0,0.5,1"), Area { x: 320, y: 0, width: 320, height: 360 });
        for wrong in ["", "1,2,3", "a,b,c,d", "0,0,0,5", "-1,0,5,5", "1,2,3,4,5"] {
            assert!(wrong.parse::<Region>().unwrap_err().to_string().contains("left,top,width,height"), "{wrong}");
        }
    }

    #[test]
    fn a_region_may_lie_outside_of_the_frame() {
        let is_outside = |text: &str| {
            let settings = Settings { region: Some(text.parse().unwrap()), ..Settings::default() };
            settings.region_is_outside_of(&info())
        };
        assert!(is_outside("640,0,10,10") && is_outside("0,5000,10,10"));
        assert!(!is_outside("639,359,10,10") && !is_outside("0.5,0.5,1,1"));
        assert!(!Settings::default().region_is_outside_of(&info()));
    }

    #[test]
    fn inference_runs_on_every_nth_frame() {
        let (info, buffer) = (info(), gst::Buffer::new());
        let settings = Settings { inference_interval: 3, ..Settings::default() };
        let mut frame_selector = FrameSelector::default();
        let selections: Vec<_> =
            (0..7).map(|_| frame_selector.select(&settings, &buffer, &info, || None) != Selection::Skip).collect();
        assert_eq!(selections, [true, false, false, true, false, false, true]);
        let settings = Settings { carry_over: true, ..settings };
        assert_eq!(frame_selector.select(&settings, &buffer, &info, || None), Selection::Repeat);
    }

    #[test]
    fn a_gap_has_the_detections_of_the_picture_that_it_repeats() {
        let (info, settings) = (info(), Settings::default());
        let mut gap = gst::Buffer::new();
        gap.make_mut().set_flags(gst::BufferFlags::GAP);
        let mut frame_selector = FrameSelector::default();
        let mut select = |buffer: &gst::BufferRef| frame_selector.select(&settings, buffer, &info, || None);
        assert_eq!(select(&gap), Selection::Detect(vec![None]), "nothing to repeat");
        assert_eq!(select(&gap), Selection::Repeat);
        assert_eq!(select(&gst::Buffer::new()), Selection::Detect(vec![None]));
    }

    #[test]
    fn a_picture_like_the_last_is_skipped_only_if_requested() {
        let (info, buffer) = (info(), gst::Buffer::new());
        let settings = Settings { scene_change: 0.02, ..Settings::default() };
        let mut frame_selector = FrameSelector::default();
        let mut select = |level: u8| frame_selector.select(&settings, &buffer, &info, || Some(vec![level; 100]));
        assert_eq!(select(100), Selection::Detect(vec![None]));
        assert_eq!(select(104), Selection::Repeat);
        // Compared with the last one with inference: slow changes add up.
        assert_eq!(select(106), Selection::Detect(vec![None]));
        let mut frame_selector = FrameSelector::default();
        let settings = Settings::default();
        for _ in 0..3 {
            assert_eq!(
                frame_selector.select(&settings, &buffer, &info, || panic!("not asked")),
                Selection::Detect(vec![None])
            );
        }
    }

    #[test]
    fn inference_runs_on_metas_of_the_selected_type() {
        let info = info();
        let mut buffer = gst::Buffer::new();
        for (kind, x) in [("person", 10), ("car", 200), ("person", 900)] {
            gst_video::VideoRegionOfInterestMeta::add(buffer.make_mut(), kind, (x, 10, 100, 100));
        }
        let select = |region_type: &str| {
            let settings = Settings { region_type: region_type.into(), ..Settings::default() };
            FrameSelector::default().select(&settings, &buffer, &info, || None)
        };
        assert_eq!(select("person"), Selection::Detect(vec![Some(Area { x: 10, y: 10, width: 100, height: 100 })]));
        assert!(matches!(select("*"), Selection::Detect(areas) if areas.len() == 2));
        assert_eq!(select("dog"), Selection::Skip);
    }
}
