// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports: one HTML page about the results of runs, which needs no network and no other file.
//!
//! `data` collects what the page shows, `thumbnails` makes the pictures in it, and `page.html`, `page.css` and `page.js` are the page
//! itself. Texts from outside (file names, labels, reasons) are only in the JSON that the script reads. Any thread.

mod data;
mod thumbnails;

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::data::Page;
use super::error::Error;
use super::journal::unwritten;
use super::part_file::PartFile;
use super::results::Results;

/// What to report on, and how.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReportSettings {
    /// Outputs of runs, as [`Results::open`] takes them.
    pub found: Vec<PathBuf>,
    /// The page. Only a file that is a report itself is replaced.
    pub output: PathBuf,
    /// Longest time between two frames with a class that belong to one stretch; `None`: the [default](super::default_gap) of each
    /// file.
    pub gap: Option<Duration>,
    /// Folder with saved keyframes ([`Settings::save_frames`](super::Settings::save_frames)) to link to, and to make thumbnails of.
    pub pictures: Option<PathBuf>,
    /// Most thumbnails; `None`: up to 1,000, and smaller ones where there are many, so that they have 3.5 MB in all.
    pub thumbnails: Option<usize>,
}

/// What is in a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportCounts {
    /// Files.
    pub files: usize,
    /// Files that could not be read, or not to their end.
    pub failed: usize,
    /// Files with missing or incomplete frames.
    pub damaged: usize,
    /// Events.
    pub events: usize,
    /// Thumbnails.
    pub thumbnails: usize,
    /// Files of which a thumbnail could not be made.
    pub without_thumbnails: usize,
    /// The first of these files, with the reasons.
    pub reasons: Vec<String>,
    /// Length of the page.
    pub bytes: u64,
}

/// Most reasons why a file has no thumbnail.
const MAX_REASONS: usize = 8;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Checks that a report can be written to `output`.
///
/// # Errors
/// Another file is there, or its folder cannot be written.
pub fn check_report(output: &Path) -> Result<(), Error> {
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(unwritten(output, &format!("{} is not a folder", folder.display())));
    }
    if !output.exists() {
        return Ok(());
    }
    let own = PAGE.lines().take(2).collect::<Vec<_>>().join("\n");
    let mut start = Vec::new();
    let read = std::fs::File::open(output).and_then(|file| file.take(own.len() as u64).read_to_end(&mut start));
    if read.is_ok() && start == own.as_bytes() {
        return Ok(());
    }
    Err(Error::setting(format!("{} exists and is not a report of vx: select another file", output.display())))
}

/// Writes a report. The page appears when it is complete.
///
/// # Errors
/// The results cannot be read, are damaged or not complete; the page cannot be written.
pub fn write_report(settings: &ReportSettings) -> Result<ReportCounts, Error> {
    check_report(&settings.output)?;
    let mut page = Page::default();
    let mut results = Results::open(&settings.found)?;
    for file in results.by_ref() {
        page.add(&file?, settings);
    }
    page.describe(&settings.found, results.conditions());
    let reasons = thumbnails::add(&mut page, settings.thumbnails);
    let bytes = write(&page, &settings.output).map_err(|error| unwritten(&settings.output, &error))?;
    let without_thumbnails = reasons.len();
    let reasons = reasons.into_iter().take(MAX_REASONS).collect();
    Ok(ReportCounts { without_thumbnails, reasons, bytes, ..page.counts() })
}

fn write(page: &Page, output: &Path) -> std::io::Result<u64> {
    let data = serde_json::to_string(page)?;
    let mut out = BufWriter::new(PartFile::create(output)?);
    fill(&mut out, &data)?;
    out.into_inner()?.commit()
}

/// Writes the page with style, script and data in the places that it marks with `{{…}}`.
fn fill(out: &mut impl Write, data: &str) -> std::io::Result<()> {
    // The script and the style that run are those that carry this word; it is not known before the data is.
    let nonce = blake3::hash(data.as_bytes()).to_hex();
    for part in PAGE.split("{{") {
        let Some((name, rest)) = part.split_once("}}") else {
            out.write_all(part.as_bytes())?;
            continue;
        };
        match name {
            "style" => out.write_all(STYLE.as_bytes())?,
            "script" => out.write_all(SCRIPT.as_bytes())?,
            "nonce" => out.write_all(nonce[..32].as_bytes())?,
            // Nothing in it can end the element that holds it, or begin a comment.
            _ => out.write_all(data.replace('<', "\\u003c").as_bytes())?,
        }
        out.write_all(rest.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_leave_its_element() {
        let mut out = Vec::new();
        fill(&mut out, "{\"file\":\"</script><script>alert(1)<!-- {{script}}\"}").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#"{"file":"\u003c/script>\u003cscript>alert(1)\u003c!-- {{script}}"}"#));
        assert_eq!(text.matches("</script>").count(), PAGE.matches("</script>").count());
        assert!(!text.contains("{{nonce}}") && text.contains("<script nonce=\""));
    }

    #[test]
    fn only_reports_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        check_report(&path).unwrap();
        write(&Page::default(), &path).unwrap();
        check_report(&path).unwrap();
        std::fs::write(&path, "<!doctype html>\n<p>mine").unwrap();
        assert!(check_report(&path).unwrap_err().to_string().contains("not a report of vx"));
        assert!(
            check_report(&folder.path().join("none/report.html")).unwrap_err().to_string().contains("not a folder")
        );
    }
}
