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
