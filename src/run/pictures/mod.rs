// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keyframes saved as JPEG files, on request with their detections drawn in.
//!
//! Frames are read between detector and encoder of each lane, in the lane's own thread. A picture that cannot be written fails its
//! file, so that the summary says so and the file is read again when failures are retried; other files continue.

pub(super) mod jpeg;
pub(super) mod names;

use std::path::{Path, PathBuf};

use gst::prelude::*;
use gst_video::prelude::*;
use parking_lot::Mutex;

use super::error::Error;
use super::settings::WhichFrames;
use crate::detect::{Matrix, PixelFormat, Range};
use crate::draw::{self, PlaneMut, Style, Surface};
use crate::elements::container_time;
use crate::meta::{self, Found};
use crate::path::name_of;

/// Of 100; 90 keeps small objects recognisable.
const QUALITY: u8 = 90;

/// Which keyframes are saved, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pictures {
    /// The folder; each file gets a folder within it.
    pub folder: PathBuf,
    /// Which keyframes.
    pub which: WhichFrames,
    /// Draws detections into them.
    pub draw: bool,
}

/// Creates the folder and checks that it can be written.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn prepare(folder: &Path) -> Result<(), Error> {
    let created = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder).map(|_| ()));
    created.map_err(|error| Error::Pictures { path: folder.to_owned(), reason: error.to_string() })
}

/// Saves frames of all lanes of `bin`, including lanes that are added later.
pub(super) fn save_from(bin: &gst::Element, settings: &Pictures) {
    let Some(bin) = bin.downcast_ref::<gst::Bin>() else { return };
    let settings = settings.clone();
    let watch = move |bin: &gst::Bin, element: &gst::Element| {
        let name = element.name();
        if name.starts_with("source") {
            clear_before_reading(element, &settings.folder);
        }
        let (Some(lane), Some(pad)) = (name.strip_prefix("detector"), element.static_pad("src")) else { return };
        let saver = Mutex::new(Saver::new(settings.clone()));
        let (bin, source) = (bin.downgrade(), format!("source{lane}"));
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(kinds, move |pad, info| {
            let location = || {
                let source = bin.upgrade()?.by_name(&source)?;
                source.property::<Option<PathBuf>>("location").map(|path| name_of(&path))
            };
            let failure = match &info.data {
                Some(gst::PadProbeData::Event(event)) => {
                    if event.type_() == gst::EventType::StreamStart {
                        let file = location().unwrap_or_default();
                        saver.lock().begin(&file);
                    }
                    saver.lock().take_event(event).err()
                }
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    let picture = saver.lock().next(buffer);
                    picture.and_then(|picture| picture.save(buffer).err())
                }
                _ => None,
            };
            let (Some(reason), Some(element)) = (failure, pad.parent_element()) else {
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

/// Removes a file's pictures of an earlier run before the file is read, when `source` gets its path.
fn clear_before_reading(source: &gst::Element, folder: &Path) {
    let folder = folder.to_owned();
    source.connect_notify(Some("location"), move |source, _| {
        let Some(file) = source.property::<Option<PathBuf>>("location") else { return };
        let folder = folder.join(names::folder(&name_of(&file)));
        if let Err(error) = names::remove_pictures(&folder, |_| false) {
            gst::element_warning!(
                source,
                gst::ResourceError::Write,
                ("pictures of an earlier run cannot be removed from {}: {error}", folder.display())
            );
        }
    });
}

/// Saves the frames of one lane.
struct Saver {
    settings: Pictures,
    file: String,
    info: Option<gst_video::VideoInfo>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    /// The container's time at stream time zero.
    origin_ns: i64,
    /// Frames of the file so far.
    number: u64,
}

/// A picture to be saved.
struct Picture {
    which: WhichFrames,
    draw: bool,
    info: gst_video::VideoInfo,
    path: PathBuf,
}

impl Saver {
    fn new(settings: Pictures) -> Self {
        Self { settings, file: String::new(), info: None, segment: None, origin_ns: 0, number: 0 }
    }

    /// Starts with the frames of `file`.
    fn begin(&mut self, file: &str) {
        self.number = 0;
        self.origin_ns = 0;
        self.file = file.to_owned();
    }

    /// Reads the properties of the following frames from an event.
    fn take_event(&mut self, event: &gst::Event) -> Result<(), String> {
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

    /// Counts a frame and returns its picture.
    fn next(&mut self, buffer: &gst::Buffer) -> Option<Picture> {
        self.number += 1;
        let segment = self.segment.as_ref();
        let pts_ns = buffer.pts().and_then(|pts| container_time::container_ns(segment?, pts, self.origin_ns));
        Some(Picture {
            which: self.settings.which,
            draw: self.settings.draw,
            info: self.info.clone()?,
            path: self.settings.folder.join(names::folder(&self.file)).join(names::picture(self.number, pts_ns)),
        })
    }
}

impl Picture {
    /// Writes the picture; otherwise why there is none.
    fn save(&self, buffer: &gst::Buffer) -> Result<(), String> {
        let (info, path) = (&self.info, &self.path);
        let found = meta::read(buffer, info.width(), info.height()).found;
        if found.is_empty() && self.which == WhichFrames::Detections {
            return Ok(());
        }
        let failed =
            |error: &dyn std::fmt::Display| format!("the picture {} cannot be written: {error}", path.display());
        let mut pixels = to_rgb(buffer, info).map_err(|error| failed(&error))?;
        if self.draw {
            annotate(&mut pixels, info, &found).map_err(|error| failed(&error))?;
        }
        let size = (info.width() as usize, info.height() as usize);
        let jpeg = jpeg::encode(&pixels, size, QUALITY).map_err(|error| failed(&error))?;
        let write = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, jpeg)
        };
        write().map_err(|error| {
            // An incomplete picture is of no use.
            let _ = std::fs::remove_file(path);
            failed(&error)
        })
    }
}

/// Draws detections into rows of red, green and blue bytes.
fn annotate(pixels: &mut [u8], info: &gst_video::VideoInfo, found: &[Found]) -> Result<(), crate::detect::Error> {
    let size = (info.width() as usize, info.height() as usize);
    let planes = vec![PlaneMut { data: pixels, stride: size.0 * 3 }];
    let mut surface = Surface::new(PixelFormat::Rgb, size, planes, Matrix::default(), Range::Full)?;
    draw::draw(&mut surface, found, &Style::default());
    Ok(())
}

/// Converts a frame to red, green and blue bytes, row by row.
fn to_rgb(buffer: &gst::Buffer, info: &gst_video::VideoInfo) -> Result<Vec<u8>, String> {
    let words = |error: gst::glib::BoolError| error.to_string();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(words)?;
    let (width, height) = (info.width(), info.height());
    // The converter only changes the format.
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
    let (row_len, stride) = (width as usize * 3, converted.plane_stride()[0] as usize);
    let bytes = converted.plane_data(0).map_err(words)?;
    Ok(jpeg::without_padding(bytes, stride, row_len, height as usize))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn rows_are_copied_without_their_padding() {
        gst::init().unwrap();
        // 3 pixels across: rows of nine bytes, which GStreamer rounds up to twelve.
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 3, 2).build().unwrap();
        let bytes: Vec<u8> = (0..2).flat_map(|row| (0..12).map(move |column| row * 100 + column)).collect();
        let pixels = to_rgb(&gst::Buffer::from_slice(bytes), &info).unwrap();
        assert_eq!(pixels, (0..9).chain(100..109).collect::<Vec<u8>>());
    }
}
