// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversion between paths and text: how files are named in lines, messages and properties.
//!
//! A path that is valid UTF-8 is its own name. Any other path (file names on Unix are bytes) is named by its `file://` URI, in
//! which every byte that is not plain ASCII is percent-encoded. So a name is always text, and always identifies the file.
//! Any thread.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Prefix of a name that is a URI.
const SCHEME: &str = "file://";

/// Returns the name of a file: its path, or the `file://` URI of its absolute path where the path is not UTF-8 or looks like
/// a URI.
#[must_use]
pub fn name_of(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with(SCHEME) => text.to_owned(),
        _ => uri_of(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned())),
    }
}

/// Returns the path of a name: `file://` URIs are decoded, everything else is a path already, `file://` alone too.
#[must_use]
pub fn path_of(name: &str) -> Cow<'_, Path> {
    match name.strip_prefix(SCHEME).filter(|rest| !rest.is_empty()) {
        Some(rest) => Cow::Owned(decode(rest.strip_prefix("localhost/").map_or(Cow::Borrowed(rest), |path| {
            // The slash belongs to the path.
            Cow::Owned(format!("/{path}"))
        }))),
        None => Cow::Borrowed(Path::new(name)),
    }
}

/// Whether `name` has a scheme as URLs do (`https://…`), other than `file://`.
#[must_use]
pub fn is_url(name: &str) -> bool {
    let Some((scheme, _)) = name.split_once("://") else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && !scheme.eq_ignore_ascii_case("file")
}

/// Whether `name` is an `http://` or `https://` URL, and not the path of an existing file.
#[must_use]
pub fn is_http(name: &str) -> bool {
    let scheme = name.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && !Path::new(name).exists()
}

/// Returns the `file://` URI of an absolute path.
pub(crate) fn uri_of(path: &Path) -> String {
    let mut uri = SCHEME.to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(*byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// Decodes `%XX`; a percent sign without two digits stands for itself, and so does `%00`, which no path contains.
fn decode(text: Cow<'_, str>) -> PathBuf {
    let bytes = text.as_bytes();
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) if high + low > 0 => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    OsString::from_vec(decoded).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_convert_back_to_paths() {
        for bytes in
            [b"/a/b.mp4".as_slice(), b"a b%41.mp4", b"/\xff\xfe /%\n\x1b.mp4", "/ä/日本.mp4".as_bytes(), b"/100%"]
        {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            assert_eq!(*path_of(&name_of(&path)), path, "{}", name_of(&path));
        }
        // A relative one becomes absolute, and a path that looks like a URI is not taken for one.
        let relative = PathBuf::from(OsString::from_vec(b"bad\xff.mp4".to_vec()));
        let absolute = std::path::absolute(&relative).unwrap();
        assert_eq!(*path_of(&name_of(&relative)), absolute);
        assert!(name_of(&relative).ends_with("/bad%FF.mp4"));
        let odd = std::path::absolute("file:///x").unwrap();
        assert_eq!(*path_of(&name_of(Path::new("file:///x"))), odd);
    }

    #[test]
    fn uris_from_other_programs_are_read() {
        for (uri, path) in [
            ("file:///a%20b/%c3%A4.mp4", "/a b/ä.mp4"),
            ("file://localhost/a.mp4", "/a.mp4"),
            ("file:///50%", "/50%"),
            ("file:///a%2", "/a%2"),
            ("/a%20b", "/a%20b"),
            ("file://", "file://"),
            ("file:///a%00", "/a%00"),
        ] {
            assert_eq!(*path_of(uri), *Path::new(path), "{uri}");
        }
    }

    #[test]
    fn urls_are_distinguished_from_paths() {
        for url in ["http://a/b.mp4", "https://a", "rtsp://cam:554/1", "HTTP://A", "s3+x://b"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["file:///a", "a.mp4", "/a://b", "://", "1://", "a/http://b", "FILE:///x"] {
            assert!(!is_url(path), "{path}");
        }
    }
}
