// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a run that are still to be read.
//!
//! Thread rule: any thread.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Files in the order in which lanes take them.
#[derive(Debug, Default)]
pub(super) struct FileQueue {
    remaining: Mutex<VecDeque<String>>,
}

impl FileQueue {
    /// Queues `files`, each with its size in bytes. `largest_first` sorts them by size, so that the longest one does not start when
    /// all others have finished.
    pub fn new(mut files: Vec<(String, u64)>, largest_first: bool) -> Self {
        if largest_first {
            files.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        }
        Self { remaining: Mutex::new(files.into_iter().map(|(file, _)| file).collect()) }
    }

    /// Takes the next file.
    pub fn next(&self) -> Option<String> {
        self.remaining.lock().pop_front()
    }

    /// Drops the files that were not taken.
    pub fn stop(&self) {
        self.remaining.lock().clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_largest_file_comes_first_and_the_missing_last() {
        let listed = [("/nowhere", 0), ("a", 5), ("b", 50), ("c", 20)].map(|(name, bytes)| (name.to_owned(), bytes));
        let files = FileQueue::new(listed.to_vec(), true);
        let taken: Vec<String> = std::iter::from_fn(|| files.next()).collect();
        assert_eq!(taken, ["b", "c", "a", "/nowhere"]);
        let files = FileQueue::new(listed.to_vec(), false);
        assert_eq!(files.next().as_deref(), Some("/nowhere"));
        files.stop();
        assert_eq!(files.next(), None);
    }
}
