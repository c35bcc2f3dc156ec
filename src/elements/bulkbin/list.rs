// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of paths: untrusted text, of limited length, from a file or a pipe.
//!
//! Thread rule: any thread.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::settings::paths_in;

/// Longest list, in bytes: about two million paths.
const MAX_LIST: u64 = 256 << 20;

/// Bytes of a list that are checked before the rest is read.
const LIST_HEAD: u64 = 64 << 10;

/// Reads a list of paths, one per line; or separated by NUL bytes if `is_null` is set or the list contains any. For
/// `Input::List` of the run, and for `file-list`.
///
/// # Errors
/// The list cannot be read, is too long, or is not a list of paths.
pub fn read_list(mut input: impl Read, is_null: bool) -> Result<Vec<String>, String> {
    let unreadable = |error: std::io::Error| format!("the list of paths cannot be read: {error}");
    let mut list = Vec::new();
    input.by_ref().take(LIST_HEAD).read_to_end(&mut list).map_err(unreadable)?;
    if is_other_data(&list) {
        return Err(
            "expected a list of paths, but found other data, such as a video. To read a video from a pipe: gst-launch-1.0 \
             fdsrc fd=0 ! vxkeyframedec ! vxyolodetect ! vxjsonenc ! fdsink"
                .to_owned(),
        );
    }
    input.take(MAX_LIST).read_to_end(&mut list).map_err(unreadable)?;
    if list.len() as u64 >= MAX_LIST {
        return Err(format!(
            "the list of paths is longer than {} MiB; split it, or use folders and patterns",
            MAX_LIST >> 20
        ));
    }
    Ok(paths_in(&list, is_null))
}

/// Returns whether the beginning of a list is something else: it has NUL bytes, as media have, and the entries before them neither
/// exist nor look like names.
fn is_other_data(head: &[u8]) -> bool {
    const CHECKED: usize = 16;
    let Some(end) = memchr::memrchr(0, head) else { return false };
    let odd = |entry: &&[u8]| {
        let text = std::str::from_utf8(entry);
        entry.is_empty() || text.map_or(true, |text| text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'))
    };
    let exists = |entry: &&[u8]| {
        use std::os::unix::ffi::OsStrExt;
        !entry.is_empty() && Path::new(std::ffi::OsStr::from_bytes(entry)).symlink_metadata().is_ok()
    };
    let entries = || head[..end].split(|byte| *byte == 0).take(CHECKED);
    entries().any(|entry| odd(&entry)) && !entries().any(|entry| exists(&entry))
}

/// Reads a list of paths from a file.
///
/// # Errors
/// As [`read_list`]; the file is a pipe or a device, which may block or have no end.
pub(super) fn read_list_file(path: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("the file list {} cannot be read: {error}", path.display());
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!(
            "the file list {} is not a regular file but a folder, a pipe or a device: write the paths to a file",
            path.display()
        ));
    }
    let file = File::open(path).map_err(failed)?;
    read_list(file, false).map_err(|reason| format!("the file list {}: {reason}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_endless_list_is_refused() {
        let error = read_list(std::io::repeat(b'a'), false).unwrap_err();
        assert!(error.contains("longer than 256 MiB"), "{error}");
    }

    #[test]
    fn lists_are_told_from_videos() {
        let video = std::fs::read("examples/media/scenes.mp4").unwrap();
        let refused = read_list(video.as_slice(), false).unwrap_err();
        assert!(refused.contains("fdsrc"), "{refused}");
        // It is not read to its end.
        assert!(read_list(video.chain(std::io::repeat(0)), false).is_err());
        assert_eq!(read_list(b"a.mp4\0new\nline.mp4\0".as_slice(), false).unwrap(), ["a.mp4", "new\nline.mp4"]);
        let odd = b"Cargo.toml\0b\xff\x01.mp4\0";
        assert_eq!(read_list(odd.as_slice(), false).unwrap().len(), 2);
        assert_eq!(read_list(b"a\nb".as_slice(), true).unwrap(), ["a\nb"]);
        let endless = std::io::repeat(b'a');
        assert!(read_list(endless, false).unwrap_err().contains("longer than"));
    }

    #[test]
    fn a_list_that_is_not_a_regular_file_is_refused() {
        // Each would block, or never end.
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [Path::new("/dev/zero"), folder.path(), &socket] {
            assert!(read_list_file(path).unwrap_err().contains("not a regular file"), "{}", path.display());
        }
        assert!(read_list_file(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
        let list = folder.path().join("list.txt");
        std::fs::write(&list, "a.mp4\nb.mp4\n").unwrap();
        assert_eq!(read_list_file(&list).unwrap(), ["a.mp4", "b.mp4"]);
    }
}
