//! Which frames are looked at, and which part of them.
//!
//! Plain decisions over settings and frames; the thread that brings the frames asks, one after the other.

use std::str::FromStr;

use super::settings::Settings;
use crate::detect::{self, Area};

/// Columns and rows of the coarse picture that scene changes are told from.
const THUMBNAIL: (usize, usize) = (48, 27);

/// What is done with a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// The model sees these parts of it; `None` for all of it.
    At(Vec<Option<Area>>),
    /// Nothing: the frame gets no detections.
    Away,
    /// Nothing: the frame gets the detections of the one before.
    AsBefore,
}

/// A rectangle as the property `region-of-interest` has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left, top, width, height.
    sides: [f64; 4],
    /// Whether they are shares of the frame; else they are pixels.
    is_shares: bool,
}

impl FromStr for Region {
    type Err = detect::Error;

    fn from_str(text: &str) -> Result<Self, detect::Error> {
        let refuse = || detect::Error::Setting {
            setting: "region-of-interest",
            reason: format!(
                "\"{text}\" is not left,top,width,height in pixels (100,50,640,360) or in shares of the frame (0.1,0,0.5,1)"
            ),
        };
        let sides: Result<Vec<f64>, _> = text.split(',').map(|side| side.trim().parse()).collect();
        let sides: [f64; 4] = sides.map_err(|_| refuse())?.try_into().map_err(|_| refuse())?;
        let fits = sides.iter().all(|side| side.is_finite() && *side >= 0.0) && sides[2] > 0.0 && sides[3] > 0.0;
        let is_shares = sides.iter().all(|side| *side <= 1.0);
        if fits { Ok(Self { sides, is_shares }) } else { Err(refuse()) }
    }
}

impl Region {
    fn area(self, width: u32, height: u32) -> Area {
        let unit = if self.is_shares { [f64::from(width), f64::from(height)] } else { [1.0; 2] };
        let [x, y, w, h] = self.sides;
        let (left, top) = (x * unit[0], y * unit[1]);
        let pixels = |value: f64| value.round() as usize;
        Area {
            x: pixels(left),
            y: pixels(top),
            width: pixels(left + w * unit[0]).saturating_sub(pixels(left)).max(1),
            height: pixels(top + h * unit[1]).saturating_sub(pixels(top)).max(1),
        }
    }
}

impl Settings {
    /// Whether `region-of-interest` leaves nothing to be seen of such frames.
    pub fn region_is_outside_of(&self, info: &gst_video::VideoInfo) -> bool {
        let (width, height) = (info.width(), info.height());
        let area = self.region.map(|region| region.area(width, height));
        area.is_some_and(|area| area.x >= width as usize || area.y >= height as usize)
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Scope {
    /// Frames since the model last looked at one, that one included; 0 before the first.
    since: u32,
    /// The last frame that it looked at.
    thumbnail: Vec<u8>,
}

impl Scope {
    /// Decides about the next frame. `picture` is asked only where it is needed.
    pub fn look(
        &mut self,
        settings: &Settings,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        picture: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Look {
        // The picture before once more: videorate's copies, cameras with nothing new.
        if self.since > 0 && buffer.flags().contains(gst::BufferFlags::GAP) {
            return Look::AsBefore;
        }
        let unseen = if settings.carry_over { Look::AsBefore } else { Look::Away };
        if self.since > 0 && self.since < settings.inference_interval {
            self.since += 1;
            return unseen;
        }
        if settings.scene_change > 0.0
            && let Some(thumbnail) = picture()
        {
            if self.since > 0 && difference(&self.thumbnail, &thumbnail) < settings.scene_change {
                return Look::AsBefore;
            }
            self.thumbnail = thumbnail;
        }
        self.since = 1;
        let format = detect::PixelFormat::from_name(info.format().to_str());
        let within = |area: Area| area.within(format?, info.width() as usize, info.height() as usize);
        if !settings.region_type.is_empty() {
            let metas = buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>();
            let named = metas.filter(|meta| settings.region_type == "*" || meta.roi_type() == settings.region_type);
            let areas: Vec<_> = named
                .filter_map(|meta| {
                    let (x, y, width, height) = meta.rect();
                    within(Area { x: x as usize, y: y as usize, width: width as usize, height: height as usize })
                })
                .map(Some)
                .collect();
            return if areas.is_empty() { Look::Away } else { Look::At(areas) };
        }
        match settings.region {
            Some(region) => {
                within(region.area(info.width(), info.height())).map_or(Look::Away, |area| Look::At(vec![Some(area)]))
            }
            None => Look::At(vec![None]),
        }
    }
}

/// A coarse picture of `picture`.
pub fn thumbnail(picture: &detect::Picture<'_>) -> Vec<u8> {
    picture.thumbnail(THUMBNAIL.0, THUMBNAIL.1)
}

/// How much two coarse pictures differ: the mean over their places, as a share of white.
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
    fn regions_are_pixels_or_shares() {
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
    fn every_nth_frame_is_looked_at() {
        let (info, buffer) = (info(), gst::Buffer::new());
        let settings = Settings { inference_interval: 3, ..Settings::default() };
        let mut scope = Scope::default();
        let looks: Vec<_> = (0..7).map(|_| scope.look(&settings, &buffer, &info, || None) != Look::Away).collect();
        assert_eq!(looks, [true, false, false, true, false, false, true]);
        let settings = Settings { carry_over: true, ..settings };
        assert_eq!(scope.look(&settings, &buffer, &info, || None), Look::AsBefore);
    }

    #[test]
    fn a_gap_has_the_detections_of_the_picture_that_it_repeats() {
        let (info, settings) = (info(), Settings::default());
        let mut gap = gst::Buffer::new();
        gap.make_mut().set_flags(gst::BufferFlags::GAP);
        let mut scope = Scope::default();
        let mut look = |buffer: &gst::BufferRef| scope.look(&settings, buffer, &info, || None);
        assert_eq!(look(&gap), Look::At(vec![None]), "nothing to repeat");
        assert_eq!(look(&gap), Look::AsBefore);
        assert_eq!(look(&gst::Buffer::new()), Look::At(vec![None]));
    }

    #[test]
    fn a_picture_like_the_last_is_skipped_only_where_that_is_wanted() {
        let (info, buffer) = (info(), gst::Buffer::new());
        let settings = Settings { scene_change: 0.02, ..Settings::default() };
        let mut scope = Scope::default();
        let mut look = |level: u8| scope.look(&settings, &buffer, &info, || Some(vec![level; 100]));
        assert_eq!(look(100), Look::At(vec![None]));
        assert_eq!(look(104), Look::AsBefore);
        // Compared with the last that was looked at: slow changes add up.
        assert_eq!(look(106), Look::At(vec![None]));
        let mut scope = Scope::default();
        let settings = Settings::default();
        for _ in 0..3 {
            assert_eq!(scope.look(&settings, &buffer, &info, || panic!("not asked")), Look::At(vec![None]));
        }
    }

    #[test]
    fn regions_of_others_are_looked_at_by_type() {
        let info = info();
        let mut buffer = gst::Buffer::new();
        for (kind, x) in [("person", 10), ("car", 200), ("person", 900)] {
            gst_video::VideoRegionOfInterestMeta::add(buffer.make_mut(), kind, (x, 10, 100, 100));
        }
        let look = |region_type: &str| {
            let settings = Settings { region_type: region_type.into(), ..Settings::default() };
            Scope::default().look(&settings, &buffer, &info, || None)
        };
        assert_eq!(look("person"), Look::At(vec![Some(Area { x: 10, y: 10, width: 100, height: 100 })]));
        assert!(matches!(look("*"), Look::At(areas) if areas.len() == 2));
        assert_eq!(look("dog"), Look::Away);
    }
}
