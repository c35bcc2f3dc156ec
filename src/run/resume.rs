// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resuming: compares the files that are named now with the files of an output. Knows names and times, not lines. Any thread.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::journal::{Done, PastResult};
use crate::path::{is_http, path_of};
use crate::record::{Status, modified_ns};

/// How the files that are named now and the files of an output compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Comparison {
    /// Files that are not read, because they are in the output.
    pub known: usize,
    /// Files of these that failed.
    pub failed: usize,
    /// Files of `known` that are damaged.
    pub damaged: usize,
    /// Files that are read because they have changed since.
    pub changed: usize,
    /// Files that are read because they failed before.
    pub retried: usize,
    /// Files in the output that no longer exist; their lines are kept.
    pub removed: usize,
}

/// What follows from a comparison.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Resumption {
    pub comparison: Comparison,
    /// Files to be read.
    pub left: Vec<String>,
    /// Files whose lines are replaced, as the output names them.
    pub replaced: Vec<String>,
}

/// Compares `files` with the files of an output.
pub(super) fn compare(files: Vec<String>, done: &Done, retry_failed: bool) -> Resumption {
    let mut resumption = Resumption::default();
    let comparison = &mut resumption.comparison;
    let mut matched = HashSet::new();
    let known = known_names(&files, done);
    for file in files {
        let Some((name, past)) = known.get(&file).and_then(|name| done.get_key_value(*name)) else {
            resumption.left.push(file);
            continue;
        };
        matched.insert(name);
        let is_retried = retry_failed && past.status == Status::Failed;
        if has_changed(&file, past) {
            comparison.changed += 1;
        } else if is_retried {
            comparison.retried += 1;
        } else {
            comparison.known += 1;
            comparison.failed += usize::from(past.status == Status::Failed);
            comparison.damaged += usize::from(past.status == Status::Damaged);
            continue;
        }
        resumption.replaced.push(name.clone());
        resumption.left.push(file);
    }
    let others = done.iter().filter(|(name, past)| past.bytes.is_some() && !matched.contains(name));
    comparison.removed = others.filter(|(name, _)| !is_http(name) && !path_of(name).exists()).count();
    resumption
}

/// Returns the names of `files` in an output, however paths were written then and are now.
fn known_names<'a>(files: &[String], done: &'a Done) -> HashMap<String, &'a String> {
    let absolute = |name: &str| match is_http(name) {
        true => PathBuf::from(name),
        false => std::path::absolute(path_of(name)).unwrap_or_else(|_| path_of(name).into_owned()),
    };
    let by_path: HashMap<PathBuf, &String> = done.keys().map(|name| (absolute(name), name)).collect();
    let mut known: HashMap<String, &String> =
        files.iter().filter_map(|file| Some((file.clone(), *by_path.get(&absolute(file))?))).collect();
    if known.len() == files.len() || done.is_empty() {
        return known;
    }
    // Following links costs a system call for each name, so it is done only for files that are not found without.
    let found: HashSet<&String> = known.values().copied().collect();
    let real = |name: &str| path_of(name).canonicalize().ok();
    let others = done.keys().filter(|name| !found.contains(name));
    let by_real: HashMap<PathBuf, &String> = others.filter_map(|name| Some((real(name)?, name))).collect();
    for file in files {
        if !known.contains_key(file)
            && let Some(name) = real(file).and_then(|real| by_real.get(&real).copied())
        {
            known.insert(file.clone(), name);
        }
    }
    known
}

/// Returns whether a file has changed since it was read. A file that no longer exists has not: its lines are kept.
fn has_changed(file: &str, past: &PastResult) -> bool {
    let Ok(now) = std::fs::metadata(path_of(file)) else { return false };
    // Outputs of earlier versions have no time.
    past.bytes != Some(now.len()) || past.modified_ns.is_some_and(|then| modified_ns(&now) != Some(then))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_when_they_are_new_or_changed_or_retried() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let past = |name: &str, status| {
            std::fs::write(path(name), name).unwrap();
            let metadata = std::fs::metadata(path(name)).unwrap();
            (path(name), PastResult { status, bytes: Some(metadata.len()), modified_ns: modified_ns(&metadata) })
        };
        let mut done = Done::from([
            past("same", Status::Ok),
            past("longer", Status::Ok),
            past("touched", Status::Damaged),
            past("failed", Status::Failed),
            past("gone", Status::Ok),
            past("elsewhere", Status::Ok),
            past("unnamed", Status::Damaged),
        ]);
        // A file that did not exist: it failed, and does not count as removed.
        done.insert(path("never"), PastResult { status: Status::Failed, bytes: None, modified_ns: None });
        std::fs::write(path("longer"), "longer than before").unwrap();
        std::fs::File::options()
            .append(true)
            .open(path("touched"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        std::fs::remove_file(path("gone")).unwrap();
        std::os::unix::fs::symlink("elsewhere", folder.path().join("link")).unwrap();
        std::fs::write(path("new"), "").unwrap();
        let named = || ["./same", "longer", "touched", "failed", "link", "new"].map(path).to_vec();
        let expected = Resumption {
            comparison: Comparison { known: 3, failed: 1, damaged: 0, changed: 2, retried: 0, removed: 1 },
            left: ["longer", "touched", "new"].map(path).to_vec(),
            replaced: ["longer", "touched"].map(path).to_vec(),
        };
        assert_eq!(compare(named(), &done, false), expected);
        let Resumption { comparison, left, .. } = compare(named(), &done, true);
        assert_eq!((comparison.retried, comparison.failed, comparison.known), (1, 0, 2));
        assert!(left.contains(&path("failed")));
        // It exists now.
        std::fs::write(path("never"), "").unwrap();
        assert_eq!(compare(vec![path("never")], &done, false).comparison.changed, 1);
        assert_eq!(compare(named(), &Done::new(), false).left, named());
    }
}
