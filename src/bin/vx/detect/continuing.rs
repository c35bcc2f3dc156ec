//! Which of the files named now are in the output already, and which have to be read.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use gstvx::elements::bulkbin::{Status, modified_ns};
use gstvx::path::path_of;

use crate::output::{Done, Past};

/// How files named now and an output compare.
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    /// Files to be read.
    pub left: Vec<String>,
    /// Files as they are called in the output, whose lines are replaced.
    pub replaced: Vec<String>,
    /// Files that are not read, since they are in the output.
    pub known: usize,
    /// Of these, those that failed and those that are damaged.
    pub failed: usize,
    pub damaged: usize,
    /// Files that are read because they have changed since.
    pub changed: usize,
    /// Files that are read because they failed before.
    pub retried: usize,
    /// Files in the output that no longer exist; their lines are kept.
    pub removed: usize,
}

impl Comparison {
    /// What is going to be done, `left` files of it.
    pub fn opening_line(&self, left: usize) -> String {
        let of_these = match (self.changed, self.retried) {
            (0, 0) => String::new(),
            (changed, 0) => format!(", {changed} of these because they have changed"),
            (0, retried) => format!(", {retried} of these because they failed before"),
            (changed, retried) => {
                format!(", {changed} of these because they have changed, {retried} because they failed before")
            }
        };
        format!(
            "{} files are in the output already, {} of them failed, {} damaged; {left} are left{of_these}",
            self.known, self.failed, self.damaged
        )
    }

    /// What is said at the end of a run.
    pub fn closing_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.failed {
            0 => {}
            1 => lines.push("before      1 file failed before; --retry-failed tries it again".to_owned()),
            count => lines.push(format!("before      {count} files failed before; --retry-failed tries them again")),
        }
        match self.removed {
            0 => {}
            1 => lines.push("removed     1 file of the output no longer exists; its lines are kept".to_owned()),
            count => {
                lines.push(format!("removed     {count} files of the output no longer exist; their lines are kept"))
            }
        }
        lines
    }
}

/// Compares `files` with what is in an output.
pub fn compare(files: Vec<String>, done: &Done, retry_failed: bool) -> Comparison {
    let mut comparison = Comparison::default();
    let mut matched = HashSet::new();
    let known = known_names(&files, done);
    for file in files {
        let Some((name, past)) = known.get(&file).and_then(|name| done.get_key_value(*name)) else {
            comparison.left.push(file);
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
        comparison.replaced.push(name.clone());
        comparison.left.push(file);
    }
    let others = done.iter().filter(|(name, past)| past.bytes.is_some() && !matched.contains(name));
    comparison.removed = others.filter(|(name, _)| !path_of(name).exists()).count();
    comparison
}

/// What `files` are called in an output, however a path was written then and is now.
fn known_names<'a>(files: &[String], done: &'a Done) -> HashMap<String, &'a String> {
    let absolute = |name: &str| std::path::absolute(path_of(name)).unwrap_or_else(|_| path_of(name).into_owned());
    let by_path: HashMap<PathBuf, &String> = done.keys().map(|name| (absolute(name), name)).collect();
    let mut known: HashMap<String, &String> =
        files.iter().filter_map(|file| Some((file.clone(), *by_path.get(&absolute(file))?))).collect();
    if known.len() == files.len() || done.is_empty() {
        return known;
    }
    // Links take a look at the disk for each name, so they are followed only for files that are not found without.
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

/// Whether a file is not what it was when it was read. One that no longer exists has not changed: its lines are all that is left.
fn has_changed(file: &str, past: &Past) -> bool {
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
            (path(name), Past { status, bytes: Some(metadata.len()), modified_ns: modified_ns(&metadata) })
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
        // A file that did not exist: it failed, and is no removed file.
        done.insert(path("never"), Past { status: Status::Failed, bytes: None, modified_ns: None });
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
        let expected = Comparison {
            left: ["longer", "touched", "new"].map(path).to_vec(),
            replaced: ["longer", "touched"].map(path).to_vec(),
            known: 3,
            failed: 1,
            damaged: 0,
            changed: 2,
            retried: 0,
            removed: 1,
        };
        assert_eq!(compare(named(), &done, false), expected);
        let retried = compare(named(), &done, true);
        assert_eq!((retried.retried, retried.failed, retried.known), (1, 0, 2));
        assert!(retried.left.contains(&path("failed")));
        // It exists now.
        std::fs::write(path("never"), "").unwrap();
        assert_eq!(compare(vec![path("never")], &done, false).changed, 1);
        assert_eq!(compare(named(), &Done::new(), false).left, named());
    }
}
