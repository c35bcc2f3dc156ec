//! A file's lines, from its first frame to its summary: what is written, kept and counted as one.

use gstvx::elements::bulkbin::Summary;

/// All lines of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// With the summary's.
    pub lines: Vec<u8>,
    pub summary: Summary,
}

impl Unit {
    /// The header line that the lines begin with, if they do, and the rest.
    pub fn split_header(&self) -> (&[u8], &[u8]) {
        let end = self.lines.iter().position(|byte| *byte == b'\n').map_or(self.lines.len(), |newline| newline + 1);
        if is_header(&self.lines) { self.lines.split_at(end) } else { (&[], &self.lines) }
    }

    /// Removes the first line if it is one to be removed.
    pub fn remove_line_if(&mut self, is_unwanted: impl FnOnce(&[u8]) -> bool) {
        let end = self.lines.iter().position(|byte| *byte == b'\n').map_or(self.lines.len(), |newline| newline + 1);
        if is_unwanted(&self.lines[..end]) {
            self.lines.drain(..end);
        }
    }

    /// One that consists of its summary.
    pub fn bare(summary: Summary) -> Self {
        Self { lines: summary.to_line(), summary }
    }
}

/// Puts a stream of bytes together to units.
#[derive(Debug, Default)]
pub struct Units {
    bytes: Vec<u8>,
    /// Up to here there are complete lines that end no unit.
    seen: usize,
    /// Only summaries are kept.
    is_bare: bool,
}

impl Units {
    /// Of units only their summaries.
    pub fn bare() -> Self {
        Self { is_bare: true, ..Self::default() }
    }

    /// Adds bytes and takes out what they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Unit> {
        self.bytes.extend_from_slice(bytes);
        let mut units = Vec::new();
        while let Some(length) = self.bytes[self.seen..].iter().position(|byte| *byte == b'\n') {
            let end = self.seen + length + 1;
            let summary = summary_in(&self.bytes[self.seen..end]);
            self.seen = end;
            if let Some(summary) = summary {
                let rest = self.bytes.split_off(end);
                units.push(Unit { lines: std::mem::replace(&mut self.bytes, rest), summary });
                self.seen = 0;
            } else if self.is_bare {
                self.bytes.drain(..end);
                self.seen = 0;
            }
        }
        units
    }
}

/// Whether a line is the header that a file's lines may begin with.
pub fn is_header(line: &[u8]) -> bool {
    // As `vxjsonenc` writes it; no other line has it there.
    let schema = line.strip_prefix(br#"{"schema":"#.as_slice()).unwrap_or_default();
    let digits = schema.iter().take_while(|byte| byte.is_ascii_digit()).count();
    schema[digits..].starts_with(br#","header":"#)
}

/// The summary that a line is, if it is one.
pub fn summary_in(line: &[u8]) -> Option<Summary> {
    // Parsing every line of every frame would take as long as writing them.
    const FIELD: &[u8] = br#""status":"#;
    memchr::memmem::find(line, FIELD).and_then(|_| Summary::from_line(line))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_split_off() {
        let header = b"{\"schema\":2,\"header\":{\"file\":\"a\",\"detector\":null}}\n";
        let bare = Unit::bare(Summary::new("a"));
        let unit = Unit { lines: [header.as_slice(), &bare.lines].concat(), summary: bare.summary.clone() };
        assert_eq!(unit.split_header(), (header.as_slice(), &*bare.lines));
        assert_eq!(bare.split_header(), (b"".as_slice(), &*bare.lines));
        assert!(!is_header(br#"{"schema":2,"file":"\"header\":","pts_ns":0}"#) && !is_header(b""));
    }

    #[test]
    fn units_end_with_their_summary_however_bytes_come() {
        let frame = br#"{"schema":2,"file":"\"status\":","pts_ns":0,"width":1,"height":1,"detections":[]}"#;
        let mut all = Vec::new();
        for (file, frames) in [("a", 2), ("b", 0), ("c", 1)] {
            (0..frames).for_each(|_| {
                all.extend_from_slice(frame);
                all.push(b'\n');
            });
            all.extend(Summary::new(file).to_line());
        }
        for step in [1, 7, 100, 100_000] {
            let mut units = Units::default();
            let found: Vec<Unit> = all.chunks(step).flat_map(|bytes| units.push(bytes)).collect();
            assert_eq!(found.iter().map(|unit| &*unit.summary.file).collect::<Vec<_>>(), ["a", "b", "c"]);
            assert_eq!(found.iter().flat_map(|unit| unit.lines.clone()).collect::<Vec<_>>(), all);
            assert_eq!(found[1], Unit::bare(Summary::new("b")));
            let mut units = Units::bare();
            let found: Vec<Unit> = all.chunks(step).flat_map(|bytes| units.push(bytes)).collect();
            assert_eq!(found, ["a", "b", "c"].map(|file| Unit::bare(Summary::new(file))));
        }
    }
}
