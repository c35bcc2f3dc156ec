//! Keyframes as JPEG files, with their detections drawn in where that is wanted.
//!
//! They are taken between detector and encoder of each lane, in the lane's own thread. A picture that cannot be written fails its
//! file, so that the summary says so and the file is read again when failures are retried; other files go on.

pub mod names;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use gst::prelude::*;
use gst_video::prelude::*;
use gstvx::elements::container_time;
use gstvx::meta;
use gstvx::path::name_of;
use parking_lot::Mutex;

use crate::canvas;

/// What can be asked for.
#[derive(Args, Clone, Default)]
pub struct Frames {
    /// Save keyframes as JPEG files in FOLDER, in a folder for each file read: 000012-00h03m07.480s.jpg is its twelfth line, at 3 min 7.48 s
    #[arg(long, value_name = "FOLDER")]
    pub save_frames: Option<PathBuf>,

    /// Select the keyframes to save, with --save-frames or --format yolo [default: detections]
    #[arg(long, value_enum)]
    pub which_frames: Option<Which>,

    /// Draw detections into the saved keyframes
    #[arg(long, requires = "save_frames")]
    draw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Keyframes with detections
    Detections,
    /// All keyframes
    All,
}

/// Of 100; 90 keeps small things recognisable.
const QUALITY: u8 = 90;

impl Frames {
    /// Makes the folder, if there is to be one.
    ///
    /// # Errors
    /// What keeps it from being written, or an argument without a folder.
    pub fn prepare(&self) -> Result<(), String> {
        let Some(folder) = &self.save_frames else {
            return match self.which_frames {
                Some(_) => Err("--which-frames selects the keyframes to save: add --save-frames FOLDER".to_owned()),
                None => Ok(()),
            };
        };
        let made = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder).map(|_| ()));
        made.map_err(|error| format!("frames cannot be saved in {}: {error}", folder.display()))
    }

    /// As a worker gets them.
    pub fn for_worker(&self) -> Vec<std::ffi::OsString> {
        let Some(folder) = &self.save_frames else { return Vec::new() };
        let mut arguments = vec!["--save-frames".into(), folder.clone().into()];
        if self.which_frames == Some(Which::All) {
            arguments.extend(["--which-frames".into(), "all".into()]);
        }
        if self.draw {
            arguments.push("--draw".into());
        }
        arguments
    }

    /// Saves frames of all lanes of `bin`, of those too that it makes later.
    pub fn save_from(&self, bin: &gst::Element) {
        let (Some(folder), Some(bin)) = (&self.save_frames, bin.downcast_ref::<gst::Bin>()) else { return };
        let (arguments, folder) = (self.clone(), folder.clone());
        let watch = move |bin: &gst::Bin, element: &gst::Element| {
            let name = element.name();
            if name.starts_with("source") {
                clear_before_reading(element, &folder);
            }
            let (Some(lane), Some(pad)) = (name.strip_prefix("detector"), element.static_pad("src")) else { return };
            let saver = Saver { arguments: arguments.clone(), folder: folder.clone(), ..Saver::default() };
            let (saver, bin, source) = (Mutex::new(saver), bin.downgrade(), format!("source{lane}"));
            let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
            pad.add_probe(kinds, move |pad, info| {
                let location = || {
                    let source = bin.upgrade()?.by_name(&source)?;
                    source.property::<Option<PathBuf>>("location").map(|path| name_of(&path))
                };
                let unsaved = match &info.data {
                    Some(gst::PadProbeData::Event(event)) => {
                        if event.type_() == gst::EventType::StreamStart {
                            saver.lock().begin(&location().unwrap_or_default());
                        }
                        saver.lock().take(event).err()
                    }
                    Some(gst::PadProbeData::Buffer(buffer)) => {
                        let shot = saver.lock().next(buffer);
                        shot.and_then(|shot| shot.save(buffer).err())
                    }
                    _ => None,
                };
                let (Some(reason), Some(element)) = (unsaved, pad.parent_element()) else {
                    return gst::PadProbeReturn::Ok;
                };
                gst::element_error!(element, gst::ResourceError::Write, ("{reason}"));
                info.flow_res = Err(gst::FlowError::Error);
                gst::PadProbeReturn::Handled
            });
        };
        bin.iterate_elements().into_iter().flatten().for_each(|element| watch(bin, &element));
        bin.connect_element_added(watch);
    }
}

/// Removes a file's pictures of an earlier run before the file is read: `source` is given its path then.
fn clear_before_reading(source: &gst::Element, folder: &Path) {
    let folder = folder.to_owned();
    source.connect_notify(Some("location"), move |source, _| {
        let Some(file) = source.property::<Option<PathBuf>>("location") else { return };
        let folder = folder.join(names::folder(&name_of(&file)));
        if let Err(error) = names::remove_pictures(&folder, |_| false) {
            gst::element_warning!(
                source,
                gst::ResourceError::Write,
                ("pictures of an earlier run stay in {}: {error}", folder.display())
            );
        }
    });
}

/// Of one lane.
#[derive(Default)]
struct Saver {
    arguments: Frames,
    folder: PathBuf,
    file: String,
    info: Option<gst_video::VideoInfo>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    /// The container's time at stream time zero.
    origin_ns: i64,
    /// Frames of the file so far.
    number: u64,
}

/// A frame to be saved.
struct Shot {
    which: Which,
    draw: bool,
    info: gst_video::VideoInfo,
    path: PathBuf,
}

impl Saver {
    /// Starts with the frames of `file`.
    fn begin(&mut self, file: &str) {
        self.number = 0;
        self.origin_ns = 0;
        self.file = file.to_owned();
    }

    /// Takes from an event what is to be known of the frames after it.
    fn take(&mut self, event: &gst::Event) -> Result<(), String> {
        match event.view() {
            gst::EventView::Caps(caps) => {
                let info = gst_video::VideoInfo::from_caps(caps.caps());
                self.info = Some(info.map_err(|error| format!("frames cannot be saved: {error}"))?);
            }
            gst::EventView::Segment(segment) => self.segment = segment.segment().downcast_ref().cloned(),
            _ => {
                if let Some(origin_ns) = container_time::from_event(event) {
                    self.origin_ns = origin_ns;
                }
            }
        }
        Ok(())
    }

    /// Counts a frame.
    fn next(&mut self, buffer: &gst::Buffer) -> Option<Shot> {
        self.number += 1;
        let segment = self.segment.as_ref();
        let pts_ns = buffer.pts().and_then(|pts| container_time::container_ns(segment?, pts, self.origin_ns));
        Some(Shot {
            which: self.arguments.which_frames.unwrap_or(Which::Detections),
            draw: self.arguments.draw,
            info: self.info.clone()?,
            path: self.folder.join(names::folder(&self.file)).join(names::picture(self.number, pts_ns)),
        })
    }
}

impl Shot {
    /// Writes the picture; otherwise why there is none.
    fn save(&self, buffer: &gst::Buffer) -> Result<(), String> {
        let (info, path) = (&self.info, &self.path);
        let found = meta::read(buffer, info.width(), info.height()).found;
        if found.is_empty() && self.which == Which::Detections {
            return Ok(());
        }
        let failed =
            |error: &dyn std::fmt::Display| format!("the picture {} cannot be written: {error}", path.display());
        let mut pixels = to_rgb(buffer, info).map_err(|error| failed(&error))?;
        if self.draw {
            canvas::draw(&mut pixels, info.width(), info.height(), &found);
        }
        let side =
            |side: u32| u16::try_from(side).map_err(|_| failed(&"JPEG has at most 65535 pixels in width and height"));
        let (width, height) = (side(info.width())?, side(info.height())?);
        let mut jpeg = Vec::new();
        jpeg_encoder::Encoder::new(&mut jpeg, QUALITY)
            .encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb)
            .map_err(|error| failed(&error))?;
        let write = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, jpeg)
        };
        write().map_err(|error| {
            // Part of a picture is none.
            let _ = std::fs::remove_file(path);
            failed(&error)
        })
    }
}

/// The frame as bytes of red, green and blue, row by row.
fn to_rgb(buffer: &gst::Buffer, info: &gst_video::VideoInfo) -> Result<Vec<u8>, String> {
    let words = |error: gst::glib::BoolError| error.to_string();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(words)?;
    let (width, height) = (info.width(), info.height());
    // The converter changes formats and nothing else.
    let rgb = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .fps(info.fps())
        .par(info.par())
        .interlace_mode(info.interlace_mode())
        .build()
        .map_err(words)?;
    let mut target = gst::Buffer::with_size(rgb.size()).map_err(words)?;
    let writable = target.get_mut().ok_or("the new buffer has another owner")?;
    let mut converted = gst_video::VideoFrameRef::from_buffer_ref_writable(writable, &rgb).map_err(words)?;
    gst_video::VideoConverter::new(info, &rgb, None).map_err(words)?.frame_ref(&frame, &mut converted);
    let (row, stride) = (width as usize * 3, converted.plane_stride()[0] as usize);
    let bytes = converted.plane_data(0).map_err(words)?;
    Ok(bytes.chunks(stride).take(height as usize).flat_map(|line| &line[..row]).copied().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_without_their_padding() {
        gst::init().unwrap();
        // 3 pixels across: rows of nine bytes, which GStreamer rounds up to twelve.
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 3, 2).build().unwrap();
        let bytes: Vec<u8> = (0..2).flat_map(|row| (0..12).map(move |column| row * 100 + column)).collect();
        let pixels = to_rgb(&gst::Buffer::from_slice(bytes), &info).unwrap();
        assert_eq!(pixels, (0..9).chain(100..109).collect::<Vec<u8>>());
    }
}
