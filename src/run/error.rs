// SPDX-License-Identifier: MIT OR Apache-2.0
//! The error of a run: what failed, in which stage, and what to do about it.
//!
//! Messages name settings in backticks, as [`Settings`](super::Settings) has them (`` `resume` ``): a front end that calls them
//! otherwise can replace them.

use std::path::{Path, PathBuf};

/// Stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Settings are checked.
    Settings,
    /// Inputs are searched.
    Inputs,
    /// The output is opened or written.
    Output,
    /// The cache is opened.
    Cache,
    /// Pictures are saved.
    Pictures,
    /// The model is loaded.
    Model,
    /// Files are read.
    Reading,
}

/// Why a run cannot start or continue. A file that cannot be read is not such an error: its summary says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// GStreamer cannot be started.
    #[error("GStreamer cannot be started: {0}")]
    GStreamer(String),
    /// A setting does not exist, has an invalid value, or contradicts another one.
    #[error("{reason}")]
    Setting {
        /// What is wrong, and the valid values.
        reason: String,
    },
    /// An input is not valid.
    #[error("{input}: {reason}")]
    Input {
        /// The input as it was given.
        input: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The inputs contain no file to read.
    #[error("no file to read: folders are searched for the extensions of media files; `probe` also examines the other files{}",
        pictures_left_out(*pictures))]
    NoFiles {
        /// Pictures in folders that were left out.
        pictures: usize,
    },
    /// The output exists.
    #[error("{} exists already: `resume` adds what is missing, `overwrite` replaces it", path.display())]
    OutputExists {
        /// The output, or the file of lines beside it.
        path: PathBuf,
    },
    /// The output cannot be resumed, because it was made with another model or other settings.
    #[error("{} was made with {}: select another output, or replace it with `overwrite`", path.display(), differences.join("; "))]
    OutputDiffers {
        /// The output.
        path: PathBuf,
        /// The differences, one text each.
        differences: Vec<String>,
    },
    /// The output cannot be used.
    #[error("{} {reason}: {remedy}", path.display())]
    OutputUnusable {
        /// The output.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The output cannot be written. Earlier results are kept, if there are any.
    #[error("{} cannot be written: {reason}. {remedy}", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// The system's reason.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The output's writer failed.
    #[error("the output cannot be written: {0}")]
    Writer(String),
    /// The reader at the other end of the output's writer is gone.
    #[error("nothing reads the output any more")]
    Closed,
    /// The cache cannot be used.
    #[error("the cache {} cannot be used: {reason}; select a folder that can be written", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// Pictures cannot be saved.
    #[error("frames cannot be saved in {}: {reason}; select a folder that can be written", path.display())]
    Pictures {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A media file cannot be read, where one is read on its own ([`Keyframes`](super::Keyframes)).
    #[error("{}: {reason}", path.display())]
    Media {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The model cannot be loaded.
    #[error("{reason}")]
    Model {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The run failed while it read files.
    #[error("{reason}")]
    Failed {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The run stopped because a file failed (`stop_on_error`).
    #[error("{reason}")]
    Stopped {
        /// The file, and why it failed.
        reason: String,
    },
}

fn pictures_left_out(pictures: usize) -> String {
    match pictures {
        0 => String::new(),
        count => format!(". Left out: {count} pictures in folders; name them, or select all with `probe`"),
    }
}

impl Stage {
    /// Returns its name: `settings`, `inputs`, `output`, `cache`, `pictures`, `model` or `reading`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Inputs => "inputs",
            Self::Output => "output",
            Self::Cache => "cache",
            Self::Pictures => "pictures",
            Self::Model => "model",
            Self::Reading => "reading",
        }
    }
}

impl Error {
    /// Returns the stage in which the run failed.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::GStreamer(_) | Self::Setting { .. } => Stage::Settings,
            Self::Input { .. } | Self::NoFiles { .. } => Stage::Inputs,
            Self::OutputExists { .. }
            | Self::OutputDiffers { .. }
            | Self::OutputUnusable { .. }
            | Self::Write { .. }
            | Self::Writer(_)
            | Self::Closed => Stage::Output,
            Self::Cache { .. } => Stage::Cache,
            Self::Pictures { .. } => Stage::Pictures,
            Self::Model { .. } => Stage::Model,
            Self::Media { .. } | Self::Failed { .. } | Self::Stopped { .. } => Stage::Reading,
        }
    }

    /// Returns the file or folder that the error is about, where it is about one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Input { input, .. } => Some(Path::new(input)),
            Self::OutputExists { path }
            | Self::OutputDiffers { path, .. }
            | Self::OutputUnusable { path, .. }
            | Self::Write { path, .. }
            | Self::Cache { path, .. }
            | Self::Pictures { path, .. }
            | Self::Media { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns what to do, where that is not part of the reason.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::NoFiles { .. } => Some("`probe` also examines files without the extension of a media file"),
            Self::OutputExists { .. } => Some("`resume` adds what is missing, `overwrite` replaces it"),
            Self::OutputDiffers { .. } => Some("select another output, or replace it with `overwrite`"),
            Self::OutputUnusable { remedy, .. } | Self::Write { remedy, .. } => Some(remedy),
            Self::Cache { .. } | Self::Pictures { .. } => Some("select a folder that can be written"),
            _ => None,
        }
    }

    pub(super) fn setting(reason: impl Into<String>) -> Self {
        Self::Setting { reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_stage_a_file_and_a_remedy() {
        let error = Error::OutputExists { path: "out.jsonl".into() };
        assert_eq!((error.stage(), error.file()), (Stage::Output, Some(Path::new("out.jsonl"))));
        assert!(error.to_string().contains("out.jsonl exists already") && error.remedy().is_some());
        let none = Error::NoFiles { pictures: 2 };
        assert!(none.to_string().ends_with("2 pictures in folders; name them, or select all with `probe`"), "{none}");
    }
}
