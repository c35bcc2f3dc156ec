// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of saved pictures: a folder for each file, and in it `NUMBER-TIME.jpg`. Tables that refer to pictures use the same names.

use std::path::Path;

use crate::path::{is_http, path_of};

/// Most characters of a file's own name in the name of its folder: file systems limit names.
const MAX_CHARACTERS: usize = 60;

/// Returns the name of a file's folder: the file's own name and a hash of its path, since other folders may have a file of that name.
/// That of a URL has no query, which may contain a token; the hash is that of the whole URL.
pub fn folder(file: &str) -> String {
    let (name, hash) = if is_http(file) {
        let address = file.split(['?', '#']).next().unwrap_or_default();
        let name = address.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        (name.to_owned(), blake3::hash(file.as_bytes()).to_hex())
    } else {
        let file = path_of(file);
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = std::path::absolute(&file).unwrap_or_else(|_| file.to_path_buf());
        (name, blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex())
    };
    let is_plain = |character: char| !character.is_control() && !"/\\:*?\"<>|".contains(character);
    let plain = name.chars().take(MAX_CHARACTERS).map(|character| if is_plain(character) { character } else { '_' });
    format!("{}-{}", plain.collect::<String>(), &hash[..12])
}

/// Returns the name of a frame's picture: `000012-00h03m07.480s.jpg` is the file's twelfth line, 3 minutes and 7.48 seconds on the
/// container's clock; `-minus` precedes times below zero, and frames without a time have none in the name.
pub fn picture(number: u64, pts_ns: Option<i64>) -> String {
    let Some(pts_ns) = pts_ns else { return format!("{number:06}.jpg") };
    let sign = if pts_ns < 0 { "minus" } else { "" };
    let milliseconds = pts_ns.unsigned_abs().saturating_add(500_000) / 1_000_000;
    let (seconds, minutes) = (milliseconds / 1000 % 60, milliseconds / 60_000 % 60);
    let hours = milliseconds / 3_600_000;
    format!("{number:06}-{sign}{hours:02}h{minutes:02}m{seconds:02}.{:03}s.jpg", milliseconds % 1000)
}

/// Returns whether `name` is one that [`picture`] returns.
pub fn is_picture(name: &str) -> bool {
    let digits = |text: &str, least: usize| text.len() >= least && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(stem) = name.strip_suffix(".jpg") else { return false };
    let Some((number, time)) = stem.split_once('-') else { return digits(stem, 6) };
    let parts = || {
        let (hours, rest) = time.strip_prefix("minus").unwrap_or(time).split_once('h')?;
        let (minutes, rest) = rest.split_once('m')?;
        let (seconds, thousandths) = rest.strip_suffix('s')?.split_once('.')?;
        Some(digits(hours, 2) && digits(minutes, 2) && digits(seconds, 2) && digits(thousandths, 3))
    };
    digits(number, 6) && parts().unwrap_or(false)
}

/// Removes the pictures in `folder` for which `kept` is false; files with other names are kept.
///
/// # Errors
/// The system's, for a picture that cannot be removed.
pub fn remove_pictures(folder: &Path, kept: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| is_picture(name) && !kept(name)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_have_folders_of_their_own() {
        let [one, other] = ["/a/clip.mp4", "/b/clip.mp4"].map(folder);
        assert!(one.starts_with("clip.mp4-") && one != other);
        assert_eq!(one, folder("/a/clip.mp4"));
        let odd = folder(&format!("/a/\u{1b}[31m:{}", "ü".repeat(200)));
        assert!(odd.starts_with("_[31m_ü") && odd.len() < 255, "{odd}");
    }

    #[test]
    fn folders_of_urls_have_no_query_and_do_not_depend_on_the_current_folder() {
        let url = "https://host/bucket/clip.mp4?X-Amz-Signature=0123#t=1";
        let name = folder(url);
        assert!(name.starts_with("clip.mp4-") && !name.contains("Amz") && !name.contains('#'), "{name}");
        assert_eq!(name, format!("clip.mp4-{}", &blake3::hash(url.as_bytes()).to_hex()[..12]));
        assert_ne!(name, folder("https://host/bucket/clip.mp4?X-Amz-Signature=4567"));
        assert!(folder("http://host/").starts_with("host-"));
    }

    #[test]
    fn names_of_pictures_sort_by_line_and_can_be_read() {
        assert_eq!(picture(12, Some(187_480_000_000)), "000012-00h03m07.480s.jpg");
        assert_eq!(picture(1, Some(-40_000_000)), "000001-minus00h00m00.040s.jpg");
        assert_eq!(picture(1_000_000, Some(360_000_000_000_000)), "1000000-100h00m00.000s.jpg");
        assert_eq!(picture(3, Some(59_999_999_999)), "000003-00h01m00.000s.jpg");
        assert_eq!(picture(7, None), "000007.jpg");
        for name in
            [picture(12, Some(1)), picture(1, Some(i64::MIN)), picture(1_000_000, Some(i64::MAX)), picture(7, None)]
        {
            assert!(is_picture(&name), "{name}");
        }
        for name in
            ["holiday.jpg", "12.jpg", "000012-00h03m07.480s.png", "000012-beach.jpg", "000012-00h03m07s.jpg", ".jpg"]
        {
            assert!(!is_picture(name), "{name}");
        }
    }

    #[test]
    fn only_own_pictures_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["000001-00h00m00.000s.jpg", "000002.jpg", "mine.jpg"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        remove_pictures(folder.path(), |name| name == "000002.jpg").unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["000002.jpg", "mine.jpg"]);
        remove_pictures(&folder.path().join("none"), |_| false).unwrap();
    }
}
