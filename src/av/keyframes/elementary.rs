// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decodes the keyframes of an elementary stream, whose access units come one by one from the caller: from demuxers, parsers and
//! cameras.
//!
//! Access units that are not keyframes are dropped before decoding; the parameter sets in them are recorded. FFmpeg's parsers decide
//! what a keyframe is, as in files that are read from front to back, since streams flag too many or too few.
//!
//! Each keyframe is decoded when it comes, so that it leaves at once.
//!
//! Thread rule: one thread at a time. [`Interrupt`] interrupts a call from any other.

use std::sync::Arc;
use std::time::Duration;

use crate::av::decode::decoder::Resources;
use crate::av::decode::hardware;
use crate::av::decode::options::{ThreadOptions, ThreadType};
use crate::av::decode::parallel::Decoders;
use crate::av::error::Error;
use crate::av::frame::Frame;
use crate::av::input::bare_stream::{BareStream, Codec, StreamFormat};
use crate::av::input::field_pairs::{FieldParser, PictureStructure};
use crate::av::input::packet::{KeyframePackets, Packet};
use crate::av::input::parameter_sets::ParameterSets;
use crate::av::input::parser::Parser;
use crate::av::io::Interrupt;
use crate::av::keyframes::keyframe::{Counts, Info, Keyframe};
use crate::av::keyframes::options::Options;
use crate::av::opening_lock;

/// What is known about an access unit before it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitFlags {
    /// It is flagged as a keyframe.
    pub is_key: bool,
    /// The flag comes from a container, which knows better than a parser from where H.264 and H.265 can be decoded.
    pub is_trusted: bool,
    /// Parts of it are missing.
    pub is_corrupt: bool,
}

/// The access units of a keyframe: one, or one for each field. `T` is what the caller knows about the first.
pub struct KeyframeUnits<T> {
    packets: KeyframePackets,
    /// What the caller knows about the first.
    pub origin: T,
}

/// Decodes the keyframes of a stream; see the module.
pub struct ElementaryDecoder<T> {
    // Decoders and parsers are opened for the stream, which is dropped after them.
    decoders: Decoders,
    parser: Option<Parser>,
    fields: Option<FieldParser>,
    stream: BareStream,
    codec: Codec,
    sets: Option<ParameterSets>,
    /// A field that may be followed by the other one of its picture.
    field: Option<(KeyframeUnits<T>, PictureStructure)>,
    resources: Resources,
    interrupt: Interrupt,
    counts: Counts,
    /// The decoder's error for the last keyframe that it could not decode.
    last_damage: String,
    no_device_reason: Option<String>,
    info: Info,
}

impl<T> ElementaryDecoder<T> {
    /// Opens a decoder for a stream of this format, with those of the options that concern decoding. Waits for and holds the opening
    /// lock.
    ///
    /// # Errors
    /// [`Error::UnknownCodec`], [`Error::TooLarge`], [`Error::Hardware`], or a failed call into FFmpeg.
    pub fn open(format: &StreamFormat, options: &Options, interrupt: Interrupt) -> Result<Self, Error> {
        crate::av::check_version()?;
        let _attributed = options.log.enter();
        let lock = opening_lock::acquire();
        let stream = BareStream::new(format)?;
        let video = stream.video();
        video.check_size(options.decoder.max_pixels)?;
        let choice = hardware::choose(&options.decoder.hardware, video.native_decoder(), &hardware::open_shared)?;
        let mut decoder_options = options.decoder.clone();
        // Several keyframes at once would keep each of them until later ones come.
        decoder_options.threads = match decoder_options.threads.kind {
            ThreadType::None => decoder_options.threads,
            _ => ThreadOptions { kind: ThreadType::Slice, ..decoder_options.threads },
        };
        let resources = Resources {
            options: decoder_options,
            memory: options.pool.for_file(),
            device: choice.device,
            log: options.log.clone(),
            x264_build: Arc::default(),
        };
        let decoders = Decoders::open(video, resources.clone())?;
        let counts = Counts { lock_times: lock.release(), ..Counts::default() };
        let info = Info {
            container: "elementary stream".to_owned(),
            codec: video.codec_long_name(),
            decoder: decoders.name().to_owned(),
            threads: decoders.threads(),
            stream_index: 0,
            streams: String::new(),
            title: None,
            is_intra_only: video.is_intra_only(),
            duration_ns: None,
            frame_rate: format.frame_rate,
            is_interlaced: format.is_interlaced,
        };
        Ok(Self {
            parser: if info.is_intra_only { None } else { Parser::new(video)? },
            fields: FieldParser::new(video)?,
            sets: video.syntax().map(|syntax| ParameterSets::new(syntax, video.extradata())),
            decoders,
            stream,
            codec: format.codec,
            field: None,
            resources,
            interrupt,
            counts,
            last_damage: String::new(),
            no_device_reason: choice.reason,
            info,
        })
    }

    /// Returns information about the stream.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Returns counts of what came and was decoded so far.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.lock_times += self.decoders.lock_times();
        counts
    }

    /// Returns the name of the device that decodes; `None` for the processor.
    pub fn device(&self) -> Option<&str> {
        self.decoders.device().0
    }

    /// Returns why the processor decodes, where a device was requested.
    pub fn fallback_reason(&self) -> Option<String> {
        self.no_device_reason.clone().or_else(|| self.decoders.device().1.then(|| hardware::REFUSED.into()))
    }

    /// Adds the next access unit. Returns the keyframes that are complete by then, in order: none, one, or after a field two.
    ///
    /// # Errors
    /// When memory is short.
    pub fn add(&mut self, unit: &[u8], flags: UnitFlags, origin: T) -> Result<Vec<KeyframeUnits<T>>, Error> {
        let mut packet = Packet::of(unit)?;
        if let Some(sets) = &mut self.sets {
            sets.remember(packet.data());
        }
        let structure = |fields: &mut Option<FieldParser>, packet: &Packet| {
            fields.as_mut().map_or(PictureStructure::Frame, |fields| fields.structure(packet))
        };
        let mut complete = Vec::new();
        if let Some((mut first, of_first)) = self.field.take() {
            let is_second = of_first.is_paired_with(structure(&mut self.fields, &packet));
            if is_second {
                self.counts.dropped_packets += 1;
                first.packets.push(packet);
                return Ok(vec![first]);
            }
            complete.push(first);
        }
        if !self.is_keyframe(&packet, flags) {
            self.counts.dropped_packets += 1;
            return Ok(complete);
        }
        packet.set_key();
        if flags.is_corrupt {
            packet.set_corrupt();
        }
        let missing = self.sets.as_ref().map(|sets| sets.missing_in(packet.data())).unwrap_or_default();
        if !missing.is_empty() {
            packet.prepend(&missing)?;
        }
        let structure = structure(&mut self.fields, &packet);
        let keyframe = KeyframeUnits { packets: KeyframePackets::new(packet), origin };
        if structure == PictureStructure::Frame {
            complete.push(keyframe);
        } else {
            self.field = Some((keyframe, structure));
        }
        Ok(complete)
    }

    fn is_keyframe(&mut self, packet: &Packet, flags: UnitFlags) -> bool {
        if self.info.is_intra_only {
            return true;
        }
        let Some(parser) = &mut self.parser else { return flags.is_key };
        let is_flagged = flags.is_key && flags.is_trusted && matches!(self.codec, Codec::H264 | Codec::H265);
        parser.parse(packet).is_key || is_flagged
    }

    /// Returns a keyframe of which only one field has come, at the end of the stream or before a break in it.
    pub fn take_field(&mut self) -> Option<KeyframeUnits<T>> {
        self.field.take().map(|(field, _)| field)
    }

    /// Forgets all access units so far, as after a flush.
    pub fn clear(&mut self) {
        self.field = None;
        self.decoders.clear();
    }

    /// Counts a keyframe that is not decoded.
    pub fn skip(&mut self) {
        self.counts.skipped += 1;
    }

    /// Decodes a keyframe: all its pictures, nearly always one, with what the caller knows about it.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; [`Error::Hardware`], which ends the stream; any other error costs this keyframe.
    pub fn decode(&mut self, keyframe: KeyframeUnits<T>) -> Result<(Vec<Keyframe>, T), (Error, T)> {
        let _attributed = self.resources.log.enter();
        let KeyframeUnits { packets, origin } = keyframe;
        self.counts.key_packets += 1;
        self.counts.key_bytes += packets.byte_len();
        let decoded = self.decoders.put(self.stream.video(), packets, Duration::ZERO);
        let decoded = decoded.and_then(|()| self.decoders.take(true, &self.interrupt));
        let decoded = match decoded {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Ok((Vec::new(), origin)),
            Err(error) => {
                self.decoders.clear();
                return Err((error, origin));
            }
        };
        self.counts.decode_time += decoded.took;
        let pictures = match decoded.pictures {
            Ok(pictures) if pictures.is_empty() => {
                Err(Error::Damaged("the decoder returned no picture for this keyframe".into()))
            }
            pictures => pictures,
        };
        match pictures {
            Ok(pictures) => {
                let frames = pictures.into_iter().map(|(_, frame)| frame);
                Ok((frames.map(|frame| self.describe(frame, decoded.bytes, decoded.took)).collect(), origin))
            }
            Err(error) => {
                if !matches!(error, Error::Hardware { .. }) {
                    self.counts.damaged += 1;
                    self.last_damage = error.to_string();
                }
                Err((error, origin))
            }
        }
    }

    fn describe(&mut self, frame: Frame, packet_bytes: u64, decode_time: Duration) -> Keyframe {
        self.counts.frames += 1;
        self.counts.corrupt += u64::from(frame.is_corrupt());
        Keyframe {
            pts_ns: None,
            duration_ns: None,
            pixel_aspect_ratio: self.stream.pixel_aspect_ratio(&frame),
            rotation: frame.rotation().unwrap_or_default(),
            packet_bytes,
            read_time: Duration::ZERO,
            decode_time,
            is_keyframe: true,
            frame,
        }
    }

    /// Returns the error for a stream that ended without a picture; `None` if there were some, or no access unit at all.
    pub fn no_picture_error(&self) -> Option<Error> {
        let counts = &self.counts;
        let has_units = counts.key_packets + counts.dropped_packets > 0;
        let has_none = counts.frames == 0 && counts.skipped == 0 && has_units;
        has_none.then(|| counts.no_picture_error(&self.info.codec, &self.last_damage, None))
    }
}
