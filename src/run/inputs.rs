// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files to read: found by paths, URLs, folders, patterns and lists, each once, and reduced to a shard.
//!
//! Knows the file system and no pipeline. Any thread.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::error::Error;
use super::media_file;
use super::settings::Input;
use crate::path::{is_http, is_url, name_of, path_of};

/// Extensions of media files that folders are searched for.
const EXTENSIONS: &[&str] = &[
    "3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gxf", "h264", "h265", "hevc", "ivf", "m1v", "m2t", "m2ts",
    "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogm",
    "ogv", "qt", "rm", "rmvb", "tod", "ts", "vob", "webm", "wmv", "wtv", "y4m",
];

/// Extensions of still pictures. Folders of videos often contain thumbnails, so these are read only on request.
const PICTURES: &[&str] =
    &["avif", "bmp", "gif", "heic", "heif", "jp2", "jpeg", "jpg", "jxl", "png", "tif", "tiff", "webp"];

/// Why a URL of another protocol is not read.
const URL: &str = "only http, https and file URLs are supported; for other protocols use their GStreamer source in a gst-launch-1.0 line";

/// One of several shares of the files: `3/16`. A hash of the path as it is named decides, so that other files move none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: u64,
    count: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err("write NUMBER/COUNT, from 1/COUNT to COUNT/COUNT: 3/16".to_owned()),
        }
    }
}

impl Shard {
    /// Returns whether the file of this name belongs to the share.
    fn has(self, name: &str) -> bool {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
        u64::from_le_bytes(bytes) % self.count == self.number - 1
    }
}

/// How inputs are searched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Search {
    /// Examines files without the extension of a media file.
    pub probe: bool,
    pub shard: Option<Shard>,
}

/// The result of a search.
#[derive(Debug, Clone, Default)]
pub(super) struct FoundFiles {
    /// Each file once, by the first of its names.
    pub files: Vec<String>,
    /// Inputs that are not files and cannot be read: folders, URLs.
    pub failures: Vec<Unreadable>,
    /// Other names of files that are read.
    pub duplicates: Vec<Duplicate>,
    /// Pictures in folders that were left out.
    pub pictures: usize,
    /// Remarks on the search.
    pub notes: Vec<String>,
}

/// An input that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name.
    pub name: String,
    /// Why, and what to do.
    pub reason: String,
}

/// Another name of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// This name.
    pub name: String,
    /// The name under which the file is read.
    pub read_as: String,
}

/// Finds the files that `inputs` name, each once.
///
/// # Errors
/// An input that is not valid. A path that does not exist is not an error here: that file fails when it is read.
pub(super) fn find(inputs: &[Input], search: Search) -> Result<FoundFiles, Error> {
    let mut found = FoundFiles::default();
    for input in inputs {
        let path = match input {
            Input::Path(path) => path,
            Input::List(names) => {
                for name in names {
                    if is_http(name) {
                        found.files.push(name.clone());
                    } else if is_url(name) && !Path::new(name).exists() {
                        // One line of a list does not stop the others.
                        found.failures.push(Unreadable { name: name.clone(), reason: URL.to_owned() });
                    } else {
                        found.add(&path_of(name), search);
                    }
                }
                continue;
            }
        };
        match path.to_str() {
            Some(url) if is_http(url) => found.files.push(url.to_owned()),
            Some(url) if is_url(url) && !Path::new(url).exists() => {
                return Err(Error::Input { input: url.to_owned(), reason: URL.to_owned() });
            }
            Some(pattern) if pattern.contains(['*', '?', '[']) && !path_of(pattern).exists() => {
                found
                    .add_pattern(pattern, search)
                    .map_err(|reason| Error::Input { input: pattern.to_owned(), reason })?;
            }
            Some(name) => found.add(&path_of(name), search),
            None => found.add(Path::new(path), search),
        }
    }
    found.keep_first_names();
    if let Some(shard) = search.shard {
        found.files.retain(|file| shard.has(file));
        found.duplicates.retain(|duplicate| shard.has(&duplicate.read_as));
        found.failures.retain(|failure| shard.has(&failure.name));
    }
    Ok(found)
}

impl FoundFiles {
    fn add(&mut self, path: &Path, search: Search) {
        if !path.is_dir() {
            self.files.push(name_of(path));
            return;
        }
        let probed = |path: &Path| search.probe && media_file::open_media(&name_of(path), 1).is_ok();
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut entries = walkdir::WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {
                    // The target of a link within the folder is found under its own name.
                    if entry.depth() > 0
                        && let Some(target) = linked(&entry)
                        && (target.starts_with(&real) || self.is_loop(&entry, &target, &real))
                    {
                        entries.skip_current_dir();
                    }
                }
                Ok(entry) if !entry.file_type().is_file() => {}
                Ok(entry) if has_extension(entry.path(), EXTENSIONS) || probed(entry.path()) => {
                    self.files.push(name_of(entry.path()));
                }
                Ok(entry) => self.pictures += usize::from(!search.probe && has_extension(entry.path(), PICTURES)),
                Err(error) => self.take_error(&error, path),
            }
        }
    }

    /// Returns whether the link `entry` leads to a folder that contains the searched one, `real`.
    fn is_loop(&mut self, entry: &walkdir::DirEntry, target: &Path, real: &Path) -> bool {
        let is_loop = real.starts_with(target);
        if is_loop {
            self.note_loop(entry.path(), target);
        }
        is_loop
    }

    fn note_loop(&mut self, link: &Path, target: &Path) {
        let (link, target) = (name_of(link), name_of(target));
        self.notes.push(format!("{link} is a link to {target}, which contains it; it is not followed"));
    }

    /// Adds an error that prevents a part of the folder `root` from being searched. The other parts are searched.
    fn take_error(&mut self, error: &walkdir::Error, root: &Path) {
        let path = error.path().unwrap_or(root);
        if let Some(ancestor) = error.loop_ancestor() {
            self.note_loop(path, ancestor);
        } else if path.is_symlink() && !path.exists() {
            // A broken link: a file that fails, if it has the extension of one.
            if has_extension(path, EXTENSIONS) {
                self.files.push(name_of(path));
            }
        } else {
            let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
            self.failures.push(Unreadable {
                name: name_of(path),
                reason: format!("the folder cannot be read: {reason}; check its permissions"),
            });
        }
    }

    /// Adds the files that a pattern matches: `*`, `?` and `[…]` within a name, `**` for folders at any depth. Links to folders are followed,
    /// but not into a folder that they are in.
    fn add_pattern(&mut self, pattern: &str, search: Search) -> Result<(), String> {
        let parse = |text: &str| glob::Pattern::new(text).map_err(|error| error.to_string());
        let pattern_path = path_of(pattern).into_owned();
        let parts: Vec<Component<'_>> = pattern_path.components().collect();
        let text = |part: &Component<'_>| part.as_os_str().to_string_lossy().into_owned();
        let is_plain = |part: &Component<'_>| !text(part).contains(['*', '?', '[']);
        let base: PathBuf = parts.iter().take_while(|part| is_plain(part)).collect();
        let mut rest: Vec<String> = parts.iter().skip_while(|part| is_plain(part)).map(text).collect();
        // Folders are searched recursively anyway.
        while rest.last().is_some_and(|part| part == "**") {
            rest.pop();
        }
        if rest.is_empty() {
            self.add(if base.as_os_str().is_empty() { Path::new(".") } else { &base }, search);
            return Ok(());
        }
        let fixed = rest.iter().position(|part| part == "**").unwrap_or(rest.len());
        let levels = rest[..fixed].iter().map(|part| parse(part)).collect::<Result<Vec<_>, _>>()?;
        let whole = parse(&rest.join("/"))?;
        let root = if base.as_os_str().is_empty() { Path::new(".") } else { &base };
        let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let mut walk = walkdir::WalkDir::new(root).follow_links(true).min_depth(1).sort_by_file_name();
        if fixed == rest.len() {
            walk = walk.max_depth(rest.len());
        }
        let before = (self.files.len(), self.failures.len());
        let mut entries = walk.into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // Where the folder that the pattern begins with does not exist, nothing matches.
                Err(error) if error.depth() == 0 && !root.exists() => break,
                Err(error) => {
                    self.take_error(&error, root);
                    continue;
                }
            };
            let Ok(below) = entry.path().strip_prefix(root) else { continue };
            if entry.file_type().is_dir()
                && let Some(target) = linked(&entry)
                && self.is_loop(&entry, &target, &real)
            {
                entries.skip_current_dir();
                continue;
            }
            let name = entry.file_name().to_string_lossy();
            // Folders whose names do not match are not searched.
            let fits = levels.get(entry.depth() - 1).is_none_or(|level| level.matches(&name));
            let is_folder = entry.file_type().is_dir();
            if fits && matches(&whole, below) {
                // As it was written: without the "." that a search has to begin with.
                self.add(&base.join(below), search);
                if is_folder {
                    entries.skip_current_dir();
                }
            } else if is_folder && !fits {
                entries.skip_current_dir();
            }
        }
        if (self.files.len(), self.failures.len()) == before {
            return Err("no file matches".to_owned());
        }
        Ok(())
    }

    /// Keeps each file once: names that differ by `..`, links or folders that are mounted twice have one canonical path; hard
    /// links have one inode.
    fn keep_first_names(&mut self) {
        let (mut paths, mut inodes) = (HashMap::new(), HashMap::new());
        let mut files: Vec<String> = Vec::with_capacity(self.files.len());
        let mut urls = HashSet::new();
        for name in self.files.drain(..) {
            if is_http(&name) {
                if urls.insert(name.clone()) {
                    files.push(name);
                }
                continue;
            }
            let path = path_of(&name);
            let real =
                path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or_else(|_| path.to_path_buf());
            let inode = real.metadata().ok().filter(|file| file.nlink() > 1).map(|file| (file.dev(), file.ino()));
            let known = paths.get(&real).or_else(|| inodes.get(&inode?)).copied();
            if let Some(first) = known {
                let first: &String = &files[first];
                // The same name twice is not reported.
                if *first != name {
                    self.duplicates.push(Duplicate { name, read_as: first.clone() });
                }
                continue;
            }
            paths.insert(real, files.len());
            inodes.extend(inode.map(|inode| (inode, files.len())));
            files.push(name);
        }
        self.files = files;
        let mut seen = HashSet::new();
        self.failures.retain(|failure| seen.insert(failure.name.clone()));
        self.notes.sort();
        self.notes.dedup();
    }
}

/// Returns the target of a link.
fn linked(entry: &walkdir::DirEntry) -> Option<PathBuf> {
    entry.path_is_symlink().then(|| entry.path().canonicalize().ok()).flatten()
}

/// Names without a slash match with `*`; a slash only where the pattern has one, or within `**`.
fn matches(pattern: &glob::Pattern, below: &Path) -> bool {
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    pattern.matches_with(&below.to_string_lossy(), options)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Appends `suffix` to a path.
pub(super) fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const PLAIN: Search = Search { probe: false, shard: None };

    fn inputs(paths: &[impl Into<OsString> + Clone]) -> Vec<Input> {
        paths.iter().map(|path| Input::Path(path.clone().into())).collect()
    }

    fn files(paths: &[&Path], search: Search) -> Vec<String> {
        find(&inputs(paths), search).unwrap().files
    }

    fn below(root: &Path, files: &[String]) -> Vec<String> {
        files.iter().map(|file| Path::new(file).strip_prefix(root).unwrap().display().to_string()).collect()
    }

    #[test]
    fn folders_and_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("deep/er")).unwrap();
        for name in ["b.mp4", "a.MKV", "notes.txt", "still.JPG", "deep/c.webm", "deep/er/e.mp4"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        std::fs::copy("examples/media/scenes.mp4", root.join("deep/d")).unwrap();
        let names = |inputs: &[&Path], search| below(root, &files(inputs, search));
        assert_eq!(names(&[root], PLAIN), ["a.MKV", "b.mp4", "deep/c.webm", "deep/er/e.mp4"]);
        assert_eq!(find(&inputs(&[root]), PLAIN).unwrap().pictures, 1);
        let probed = Search { probe: true, ..PLAIN };
        assert_eq!(names(&[root], probed), ["a.MKV", "b.mp4", "deep/c.webm", "deep/d", "deep/er/e.mp4"]);
        for (pattern, expected) in [
            ("*.mp4", vec!["b.mp4"]),
            ("**/*.mp4", vec!["b.mp4", "deep/er/e.mp4"]),
            ("*/*.webm", vec!["deep/c.webm"]),
            ("de?p/**/e.mp4", vec!["deep/er/e.mp4"]),
            ("[d]eep", vec!["deep/c.webm", "deep/er/e.mp4"]),
            ("**", vec!["a.MKV", "b.mp4", "deep/c.webm", "deep/er/e.mp4"]),
        ] {
            let mut found = names(&[&root.join(pattern), &root.join(pattern)], PLAIN);
            found.sort();
            assert_eq!(found, expected, "{pattern}");
        }
        assert!(find(&inputs(&[root.join("*.xyz")]), PLAIN).unwrap_err().to_string().contains("*.xyz"));
        assert!(find(&inputs(&[root.join("[.mp4")]), PLAIN).unwrap_err().to_string().contains("[.mp4"));
        let missing = root.join("none.mp4");
        assert_eq!(files(&[&missing], PLAIN), [missing.display().to_string()]);
        std::os::unix::fs::symlink("/nowhere/x.mp4", root.join("deep/z.mp4")).unwrap();
        assert!(names(&[root], PLAIN).contains(&"deep/z.mp4".to_owned()));
    }

    #[test]
    fn a_file_with_many_names_is_found_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("deep")).unwrap();
        std::fs::write(root.join("b.mp4"), "").unwrap();
        std::os::unix::fs::symlink("../b.mp4", root.join("deep/link.mp4")).unwrap();
        std::fs::hard_link(root.join("b.mp4"), root.join("deep/hard.mp4")).unwrap();
        let names: Vec<PathBuf> =
            ["deep/../b.mp4", "b.mp4", "./b.mp4", "deep/link.mp4", "deep/hard.mp4"].map(|name| root.join(name)).into();
        let found = find(&inputs(&names), PLAIN).unwrap();
        assert_eq!(found.files, [root.join("deep/../b.mp4").display().to_string()]);
        assert_eq!(found.duplicates.len(), 4);
        // What does not exist is one file by one spelling.
        let missing = root.join("none.mp4");
        assert_eq!(files(&[&missing, &root.join("./none.mp4")], PLAIN).len(), 1);
    }

    #[test]
    fn loops_of_links_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("deep")).unwrap();
        std::fs::write(root.join("deep/a.mp4"), "").unwrap();
        std::os::unix::fs::symlink("..", root.join("deep/loop")).unwrap();
        std::os::unix::fs::symlink(".", root.join("deep/self")).unwrap();
        std::os::unix::fs::symlink(root.parent().unwrap(), root.join("above")).unwrap();
        for input in
            [root.to_owned(), root.join("**/*.mp4"), root.join("deep/**"), root.join("d*"), root.join("*/*.mp4")]
        {
            let found = find(&inputs(std::slice::from_ref(&input)), PLAIN).unwrap();
            assert_eq!(below(root, &found.files), ["deep/a.mp4"], "{}", input.display());
            assert!(found.duplicates.is_empty() && found.failures.is_empty(), "{found:?}");
        }
        assert!(find(&inputs(&[root]), PLAIN).unwrap().notes.iter().any(|note| note.contains("above is a link")));
    }

    #[test]
    fn shares_are_disjoint_and_new_files_move_none() {
        let share = |names: &[String], text: &str| {
            find(&inputs(names), Search { shard: Some(text.parse().unwrap()), ..PLAIN }).unwrap().files
        };
        let names: Vec<String> = (0..100).map(|number| format!("/nowhere/{number}.mp4")).collect();
        let shares: Vec<Vec<String>> = (1..=4).map(|number| share(&names, &format!("{number}/4"))).collect();
        assert!(shares.iter().all(|share| (10..45).contains(&share.len())), "{shares:?}");
        let mut all = shares.concat();
        all.sort();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(all, sorted);
        for (number, before) in (1..).zip(&shares) {
            let now = share(&names[10..], &format!("{number}/4"));
            assert!(now.iter().all(|file| before.contains(file)));
        }
        // Other versions and machines agree.
        assert!(Shard { number: 4, count: 7 }.has("/recordings/a.mp4"));
        for wrong in ["0/2", "3/2", "1", "a/b", "1/0", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_file_uris_and_http_urls_are_inputs() {
        let bad: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"/nowhere/bad\xff.mp4".to_vec());
        let found = find(&inputs(&[bad, "file:///nowhere/a%20b.mp4".into()]), PLAIN).unwrap();
        assert_eq!(found.files, ["file:///nowhere/bad%FF.mp4", "/nowhere/a b.mp4"]);
        for url in ["s3://a/b.mp4", "rtsp://camera"] {
            assert!(find(&inputs(&[url]), PLAIN).unwrap_err().to_string().contains("only http, https"), "{url}");
        }
        // Each once, whatever is in it: `?` begins a query, and the names of a server are its own.
        let urls = ["http://a/b.mp4?sign=[x]*", "https://a//b.mp4", "https://a/b.mp4"];
        assert_eq!(find(&inputs(&[urls[0], urls[1], urls[2], urls[1]]), PLAIN).unwrap().files, urls);
    }
}
