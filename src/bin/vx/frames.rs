//! Keyframes as JPEG files, what was found on them drawn in where that is wanted.
//!
//! They are taken between detector and encoder of each lane, in the lane's own thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};
use crossbeam_channel::Sender;
use gst::prelude::*;
use gst_video::prelude::*;
use gstvx::meta;
use gstvx::path::name_of;
use parking_lot::Mutex;

use crate::bulk::Event;
use crate::canvas::Canvas;

/// What can be asked for.
#[derive(Args, Clone)]
pub struct Frames {
    /// Folder for keyframes as JPEG files, in a folder for each file read: NUMBER-NANOSECONDS.jpg, numbered as its lines are
    #[arg(long, value_name = "FOLDER")]
    pub save_frames: Option<PathBuf>,

    /// Which keyframes are saved
    #[arg(long, value_enum, default_value = "detections", requires = "save_frames")]
    which_frames: Which,

    /// Draw what was found into the saved keyframes
    #[arg(long, requires = "save_frames")]
    draw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Those on which something was found
    Detections,
    /// All
    All,
}

/// Of 100; 90 keeps small things recognisable.
const QUALITY: u8 = 90;

impl Frames {
    /// Makes the folder, if there is to be one.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub fn prepare(&self) -> Result<(), String> {
        let Some(folder) = &self.save_frames else { return Ok(()) };
        let made = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder).map(|_| ()));
        made.map_err(|error| format!("frames cannot be saved in {}: {error}", folder.display()))
    }

    /// As a worker gets them.
    pub fn for_worker(&self) -> Vec<std::ffi::OsString> {
        let Some(folder) = &self.save_frames else { return Vec::new() };
        let mut arguments = vec!["--save-frames".into(), folder.clone().into()];
        if self.which_frames == Which::All {
            arguments.extend(["--which-frames".into(), "all".into()]);
        }
        if self.draw {
            arguments.push("--draw".into());
        }
        arguments
    }

    /// Saves frames of all lanes of `bin`, of those too that it makes later. What fails ends the run.
    pub fn save_from(&self, bin: &gst::Element, events: &Sender<Event>) {
        let (Some(_), Some(bin)) = (&self.save_frames, bin.downcast_ref::<gst::Bin>()) else { return };
        let has_failed = Arc::new(AtomicBool::new(false));
        let (arguments, events) = (self.clone(), events.clone());
        let watch = move |bin: &gst::Bin, element: &gst::Element| {
            let name = element.name();
            let (Some(lane), Some(pad)) = (name.strip_prefix("detector"), element.static_pad("src")) else { return };
            let saver = Mutex::new(Saver { arguments: arguments.clone(), caps: None, number: 0, folder: None });
            let (bin, source) = (bin.downgrade(), format!("source{lane}"));
            let (events, has_failed) = (events.clone(), Arc::clone(&has_failed));
            let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
            pad.add_probe(kinds, move |pad, info| {
                let location = || {
                    let source = bin.upgrade()?.by_name(&source)?;
                    source.property::<Option<std::path::PathBuf>>("location").map(|path| name_of(&path))
                };
                let segment = || pad.sticky_event::<gst::event::Segment>(0)?.segment().downcast_ref().cloned();
                let saved = match &info.data {
                    Some(gst::PadProbeData::Event(event)) => match event.view() {
                        gst::EventView::StreamStart(_) => {
                            let file = location().unwrap_or_default();
                            saver.lock().begin(&file);
                            Ok(())
                        }
                        gst::EventView::Caps(caps) => saver.lock().announce(caps.caps()),
                        _ => Ok(()),
                    },
                    Some(gst::PadProbeData::Buffer(buffer)) => {
                        let shot = saver.lock().next();
                        shot.map_or(Ok(()), |shot| shot.save(buffer, segment))
                    }
                    _ => Ok(()),
                };
                match saved {
                    Ok(()) => {}
                    _ if has_failed.swap(true, Ordering::Relaxed) => {}
                    Err(Unsaved::Frame(reason)) => {
                        let _ = events.send(Event::Warning(format!("a frame cannot be saved: {reason}")));
                    }
                    Err(Unsaved::All(reason)) => {
                        let text = format!("frames cannot be saved: {reason}; --resume goes on when they can");
                        let _ = events.send(Event::Error(text));
                        bin.upgrade().map(|bin| bin.send_event(gst::event::Eos::new()));
                    }
                }
                gst::PadProbeReturn::Ok
            });
        };
        bin.iterate_elements().into_iter().flatten().for_each(|element| watch(bin, &element));
        bin.connect_element_added(watch);
    }
}

/// Why there is no picture of a frame.
enum Unsaved {
    /// It is the frame.
    Frame(String),
    /// It is the disk, so that there will be none of others.
    All(String),
}

/// Of one lane.
struct Saver {
    arguments: Frames,
    caps: Option<gst_video::VideoInfo>,
    /// Frames of the file so far.
    number: u64,
    folder: Option<PathBuf>,
}

/// A frame to be saved. No lock is held while that is done.
struct Shot {
    which: Which,
    draw: bool,
    info: gst_video::VideoInfo,
    number: u64,
    folder: PathBuf,
}

impl Saver {
    /// Starts with the frames of `file`.
    fn begin(&mut self, file: &str) {
        self.number = 0;
        self.folder = self.arguments.save_frames.as_deref().map(|folder| folder.join(folder_for(file)));
    }

    fn announce(&mut self, caps: &gst::CapsRef) -> Result<(), Unsaved> {
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|error| Unsaved::Frame(error.to_string()))?;
        self.caps = Some(info);
        Ok(())
    }

    /// What is known of the next frame.
    fn next(&mut self) -> Option<Shot> {
        self.number += 1;
        Some(Shot {
            which: self.arguments.which_frames,
            draw: self.arguments.draw,
            info: self.caps.clone()?,
            number: self.number,
            folder: self.folder.clone()?,
        })
    }
}

impl Shot {
    fn save(
        &self,
        buffer: &gst::Buffer,
        segment: impl FnOnce() -> Option<gst::FormattedSegment<gst::ClockTime>>,
    ) -> Result<(), Unsaved> {
        let (info, folder) = (&self.info, &self.folder);
        let found = meta::read(buffer, info.width(), info.height()).found;
        if found.is_empty() && self.which == Which::Detections {
            return Ok(());
        }
        let mut pixels = to_rgb(buffer, info).map_err(Unsaved::Frame)?;
        if self.draw {
            let mut canvas = Canvas::new(&mut pixels, info.width(), info.height());
            found.iter().for_each(|found| canvas.draw(found));
        }
        let side = |side: u32| {
            u16::try_from(side).map_err(|_| Unsaved::Frame("JPEG has at most 65535 pixels a side".to_owned()))
        };
        let (width, height) = (side(info.width())?, side(info.height())?);
        let time = buffer.pts().and_then(|pts| segment()?.to_stream_time(pts));
        let name = match time {
            Some(time) => format!("{:06}-{}.jpg", self.number, time.nseconds()),
            None => format!("{:06}.jpg", self.number),
        };
        let text = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let failed = |path: &Path, error: &std::io::Error| Unsaved::All(text(path, error));
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let path = folder.join(name);
        let mut jpeg = Vec::new();
        jpeg_encoder::Encoder::new(&mut jpeg, QUALITY)
            .encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb)
            .map_err(|error| Unsaved::Frame(text(&path, &error)))?;
        std::fs::write(&path, jpeg).map_err(|error| failed(&path, &error))
    }
}

/// A name for a file's folder: its own, and something of its path, since other folders may have a file of that name.
fn folder_for(file: &str) -> String {
    let name = Path::new(file).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
    let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    // Names of files have their limits.
    let name: String = name.chars().take(60).collect();
    format!("{name}-{}", &hash[..8])
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
    fn files_of_one_name_have_folders_of_their_own() {
        let [one, other] = ["/a/clip.mp4", "/b/clip.mp4"].map(folder_for);
        assert!(one.starts_with("clip.mp4-") && one != other);
        assert_eq!(one, folder_for("/a/clip.mp4"));
    }

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
