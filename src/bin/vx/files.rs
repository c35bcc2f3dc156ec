//! Which files are meant: paths, folders, patterns, a list on standard input, and a share of all that.

use gstvx::elements::bulkbin::paths_in;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::source;
use crate::terminal::tell;

/// Extensions of media files that folders are searched for.
const EXTENSIONS: &[&str] = &[
    "3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gxf", "h264", "h265", "hevc", "ivf", "m1v", "m2t", "m2ts",
    "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogm",
    "ogv", "qt", "rm", "rmvb", "tod", "ts", "vob", "webm", "wmv", "wtv", "y4m",
];

/// One of several equal shares of the files: `3/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err("a share is NUMBER/COUNT, from 1/COUNT to COUNT/COUNT: 3/16".to_owned()),
        }
    }
}

/// How folders are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Files that are not called like media are looked into.
    pub probe: bool,
    pub shard: Option<Shard>,
}

/// The files that `inputs` name, each once.
///
/// # Errors
/// What is wrong with an input, with its name. A path that is not there is no error here but that file's, later.
pub fn find(inputs: &[OsString], search: Search) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        match input.to_str() {
            Some("-") => {
                let mut list = Vec::new();
                let read = std::io::stdin().lock().read_to_end(&mut list);
                read.map_err(|error| format!("the list on standard input cannot be read: {error}"))?;
                paths_in(&list).for_each(|path| add(Path::new(&path), search, &mut files));
            }
            Some(pattern) if pattern.contains(['*', '?', '[']) && !path.exists() => {
                let before = files.len();
                for path in glob::glob(pattern).map_err(|error| format!("{pattern}: {error}"))? {
                    match path {
                        Ok(path) => add(&path, search, &mut files),
                        Err(error) => tell!("vx: {error}"),
                    }
                }
                if files.len() == before {
                    return Err(format!("{pattern}: nothing is called like that"));
                }
            }
            _ => add(path, search, &mut files),
        }
    }
    let mut seen = HashSet::new();
    // However it is written.
    files.retain(|file| seen.insert(std::path::absolute(file).unwrap_or_else(|_| file.into())));
    if let Some(Shard { number, count }) = search.shard {
        // By name, so that each share is the same wherever the list was made.
        files.sort();
        files = files.into_iter().skip(number - 1).step_by(count).collect();
    }
    Ok(files)
}

fn add(path: &Path, search: Search, files: &mut Vec<String>) {
    // A name that is not in UTF-8 cannot be handed to GStreamer nor written down: the file fails, with its name as far as it is.
    let mut push = |path: &Path| files.push(path.to_string_lossy().into_owned());
    if !path.is_dir() {
        push(path);
        return;
    }
    for entry in walkdir::WalkDir::new(path).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry)
                if entry.file_type().is_file()
                    && (is_media(entry.path()) || search.probe && source::open(entry.path(), 1).is_ok()) =>
            {
                push(entry.path());
            }
            Ok(_) => {}
            // A link to what is not there: a file that fails.
            Err(error) if error.path().is_some_and(|path| path.is_symlink() && !path.exists() && is_media(path)) => {
                error.path().into_iter().for_each(&mut push);
            }
            // One folder that cannot be looked into is not the end of the others.
            Err(error) => tell!("vx: {error}"),
        }
    }
}

fn is_media(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// `name` with `suffix` behind it.
pub fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn folders_patterns_and_shares() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("deep")).unwrap();
        for name in ["b.mp4", "a.MKV", "notes.txt", "deep/c.webm", "deep/d"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        std::fs::copy("examples/media/scenes.mp4", root.join("deep/d")).unwrap();
        let plain = Search { probe: false, shard: None };
        let names = |inputs: &[String], search| {
            let inputs: Vec<OsString> = inputs.iter().map(OsString::from).collect();
            let found = find(&inputs, search).unwrap();
            let names = found.iter().map(|file| Path::new(file).strip_prefix(root).unwrap().display().to_string());
            names.collect::<Vec<_>>()
        };
        let all = [root.display().to_string()];
        assert_eq!(names(&all, plain), ["a.MKV", "b.mp4", "deep/c.webm"]);
        assert_eq!(names(&all, Search { probe: true, ..plain }), ["a.MKV", "b.mp4", "deep/c.webm", "deep/d"]);
        let pattern = root.join("*.mp4").display().to_string();
        assert_eq!(names(&[pattern.clone(), pattern], plain), ["b.mp4"]);
        assert!(find(&[root.join("*.xyz").into()], plain).unwrap_err().contains("*.xyz"));
        let missing = root.join("none.mp4").display().to_string();
        assert_eq!(find(&[OsString::from(&missing)], plain).unwrap(), [missing]);
        let other = root.join("./b.mp4");
        assert_eq!(
            find(&[other.clone().into(), root.join("b.mp4").into()], plain).unwrap(),
            [other.display().to_string()]
        );
        let bad: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"bad\xff.mp4".to_vec());
        assert_eq!(find(&[bad], plain).unwrap(), ["bad\u{fffd}.mp4"]);
        std::os::unix::fs::symlink("/nowhere/x.mp4", root.join("deep/e.mp4")).unwrap();
        assert!(names(&all, plain).contains(&"deep/e.mp4".to_owned()));
        std::fs::remove_file(root.join("deep/e.mp4")).unwrap();
        let share = |text: &str| names(&all, Search { shard: Some(text.parse().unwrap()), ..plain });
        assert_eq!(
            (share("1/2"), share("2/2")),
            (vec!["a.MKV".into(), "deep/c.webm".into()], vec!["b.mp4".to_owned()])
        );
        for wrong in ["0/2", "3/2", "1", "a/b", "1/0", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
