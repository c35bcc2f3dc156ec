// SPDX-License-Identifier: MIT OR Apache-2.0
//! A media file: container, streams, keyframes and their spacing, what would be read.

use std::fmt;

use gstvx::av::{Error, KeyframeEntry, Step};
use gstvx::path::path_of;
use gstvx::run::open_media;
use serde::Serialize;

/// Keyframes farther apart than this are reported as sparse.
const SPARSE_SECONDS: f64 = 5.0;

/// What is printed about a media file.
#[derive(Debug, Serialize)]
pub struct Media {
    file: String,
    /// Length of the file; null where a server does not say.
    bytes: Option<u64>,
    container: String,
    title: Option<String>,
    streams: String,
    /// Index of the stream that is decoded.
    stream: i32,
    codec: String,
    decoder: String,
    width: usize,
    height: usize,
    /// FFmpeg's name of the pixel format.
    pixel_format: String,
    /// Whether pictures are rotated or mirrored.
    turned: bool,
    frame_rate: Option<f64>,
    is_interlaced: bool,
    duration_seconds: Option<f64>,
    keyframes: usize,
    /// Keyframes in the container's index; null if it has none.
    indexed_keyframes: Option<u64>,
    /// Whether the file could be read to its end and nothing of it is known to be missing or damaged.
    pub complete: bool,
    /// Seconds from keyframe to keyframe: shortest, median, longest.
    spacing_seconds: Option<[f64; 3]>,
    /// Bytes of all keyframes.
    keyframe_bytes: u64,
    /// Bytes read for all of them.
    bytes_read: u64,
    /// Decoding time of the first keyframe.
    decode_seconds: f64,
    /// Damage, if any.
    damage: Option<String>,
}

fn with_hint(name: &str, reason: String) -> String {
    if path_of(name).is_dir() { format!("{reason}; `vx detect` reads folders") } else { reason }
}

/// Inspects a file or URL: decodes its first keyframe and reads all of them.
pub fn inspect(name: &str) -> Result<Media, String> {
    let mut damage = None;
    let mut reader = open_media(name, 1).map_err(|reason| with_hint(name, reason))?;
    let first = loop {
        match reader.next().map_err(|error| error.to_string())? {
            Step::Keyframe(keyframe) => break Some(keyframe),
            Step::Damaged { reason, .. } => damage = Some(reason),
            Step::Notice(_) => {}
            Step::End => break None,
        }
    };
    drop(reader);
    let mut reader = open_media(name, 0)?;
    let mut listed = Vec::new();
    loop {
        match reader.list_next() {
            Ok(Some(keyframe)) => listed.push(keyframe),
            Ok(None) => break,
            Err(error @ Error::Call { .. }) => {
                damage = Some(format!("reading stopped here: {error}"));
                break;
            }
            Err(Error::Encrypted) if !listed.is_empty() => {
                damage = Some("it is encrypted from there on".to_owned());
                break;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let problems = reader.problems();
    if !problems.is_empty() {
        damage = Some(damage.into_iter().chain(problems).collect::<Vec<_>>().join("; "));
    }
    let bytes = reader.byte_len();
    let info = reader.info();
    let pixel_format = first.as_ref().and_then(|first| first.frame.pixel_format().ok());
    Ok(Media {
        file: name.to_owned(),
        bytes,
        container: info.container.clone(),
        title: info.title.clone(),
        streams: info.streams.clone(),
        stream: info.stream_index,
        codec: info.codec.clone(),
        decoder: info.decoder.clone(),
        width: first.as_ref().map_or(0, |first| first.frame.width()),
        height: first.as_ref().map_or(0, |first| first.frame.height()),
        pixel_format: pixel_format.map_or_else(|| "unknown".to_owned(), |format| format.name().to_owned()),
        turned: first.as_ref().is_some_and(|first| !first.rotation.is_identity()),
        frame_rate: info.frame_rate.map(|(frames, seconds)| f64::from(frames) / f64::from(seconds)),
        is_interlaced: info.is_interlaced,
        duration_seconds: info.duration_ns.map(|ns| ns as f64 / 1e9),
        keyframes: listed.len(),
        indexed_keyframes: reader.indexed_keyframes(),
        complete: damage.is_none(),
        spacing_seconds: spacing(&listed),
        keyframe_bytes: listed.iter().map(|keyframe| keyframe.bytes).sum(),
        bytes_read: reader.bytes_read(),
        decode_seconds: first.map_or(0.0, |first| first.decode_time.as_secs_f64()),
        damage,
    })
}

/// Returns the shortest, median and longest time from keyframe to keyframe.
fn spacing(listed: &[KeyframeEntry]) -> Option<[f64; 3]> {
    let mut times: Vec<i64> = listed.iter().filter_map(|keyframe| keyframe.pts_ns).collect();
    times.sort_unstable();
    let mut gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect();
    gaps.sort_unstable_by(f64::total_cmp);
    Some([*gaps.first()?, gaps[gaps.len() / 2], *gaps.last()?])
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |seconds: Option<f64>| seconds.map_or("unknown".to_owned(), |seconds| format!("{seconds:.3} s"));
        let title = self.title.as_ref().map_or(String::new(), |title| format!(", \"{title}\""));
        writeln!(
            f,
            "  container  {}, {}, {}{title}",
            self.container,
            seconds(self.duration_seconds),
            self.bytes.map_or_else(|| "unknown length".to_owned(), |bytes| format!("{bytes} bytes"))
        )?;
        writeln!(f, "  streams    {}", self.streams)?;
        let rate = self.frame_rate.map_or(String::new(), |rate| format!(", {rate:.2} frames/s"));
        let fields = if self.is_interlaced { ", interlaced" } else { "" };
        let turned = if self.turned { ", rotated upright" } else { "" };
        writeln!(
            f,
            "  video      stream {}, {}, {}x{} {}{rate}{fields}{turned}, decoded by {} in {:.1} ms a keyframe",
            self.stream,
            self.codec,
            self.width,
            self.height,
            self.pixel_format,
            self.decoder,
            self.decode_seconds * 1e3
        )?;
        let spacing = self.spacing_seconds.map_or(String::new(), |[shortest, median, longest]| {
            format!(", every {median:.2} s ({shortest:.2} to {longest:.2})")
        });
        let indexed = self.indexed_keyframes.filter(|indexed| *indexed != self.keyframes as u64);
        let indexed = indexed.map_or(String::new(), |indexed| format!(" of {indexed} in the index"));
        writeln!(f, "  keyframes  {}{indexed}{spacing}, {} bytes", self.keyframes, self.keyframe_bytes)?;
        if let Some([.., median, longest]) = self.spacing_seconds
            && longest > SPARSE_SECONDS
        {
            writeln!(
                f,
                "  sampling   keyframes are {median:.0} s apart, {longest:.0} s at most: `vx detect --every 1s` also analyses frames between"
            )?;
        }
        let share =
            |bytes: u64| format!(", {:.1} % of the file", 100.0 * self.bytes_read as f64 / (bytes as f64).max(1.0));
        write!(
            f,
            "  read       {} bytes for all of them{}",
            self.bytes_read,
            self.bytes.map(share).unwrap_or_default()
        )?;
        self.damage.as_ref().map_or(Ok(()), |damage| write!(f, "\n  incomplete {damage}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_is_in_order_of_time() {
        let listed = |times: &[i64]| -> Vec<KeyframeEntry> {
            times.iter().map(|seconds| KeyframeEntry { pts_ns: Some(seconds * 1_000_000_000), bytes: 1 }).collect()
        };
        assert_eq!(spacing(&listed(&[0, 9, 1, 3])), Some([1.0, 2.0, 6.0]));
        assert_eq!(spacing(&listed(&[4])), None);
        assert_eq!(
            spacing(&[KeyframeEntry { pts_ns: None, bytes: 1 }, KeyframeEntry { pts_ns: Some(1), bytes: 1 }]),
            None
        );
    }
}
