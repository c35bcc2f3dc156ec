// SPDX-License-Identifier: MIT OR Apache-2.0
//! Class names of a model: from a label file, from the model, from COCO, or generated.
//!
//! Owns the order of precedence, and reads label files with a size limit (formats: label_file.rs). Plain data once built.

use std::borrow::Cow;
use std::io::Read;
use std::path::Path;

use super::description::Model;
use super::label_file;
use crate::detect::error::{Error, Result};
use crate::detect::layouts::COCO;
use crate::detect::onnx::file::{BUILT_IN_NAME, open_regular};
use crate::detect::onnx::python_literal::{MAX_CLASSES, MAX_NAME};

/// Longest label file, in bytes.
pub const MAX_LABEL_FILE: u64 = 4 << 20;

/// Names more similar than this (Jaro-Winkler) to an unknown one are suggested.
const MIN_SIMILARITY: f64 = 0.8;

/// Class names by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    class_count: Option<usize>,
    /// Whether the names are those of the built-in model.
    is_built_in: bool,
}

impl Labels {
    /// Returns the class names of `model`: those in `label_file` if given, the model's own, those of its family, or COCO's if it
    /// has 80 classes, in this order.
    ///
    /// The second value is a warning for the user if the number of names differs from the number of classes.
    ///
    /// # Errors
    /// [`Error::LabelFile`] if the file cannot be read, is empty, too long or invalid, or has fewer names than the model has classes.
    pub fn resolve(model: &Model, label_file: Option<&Path>) -> Result<(Self, Option<String>)> {
        let class_count = model.class_count;
        let (names, origin) = match (label_file, &model.names) {
            (Some(path), _) => (read(path)?, path.display().to_string()),
            (None, Some(names)) => (names.clone(), format!("the metadata of {}", model.source)),
            (None, None) if model.family_names.is_some() => {
                let names = model.family_names.clone().unwrap_or_default();
                let warning = class_count.is_none().then(|| {
                    format!(
                        "{} states neither class names nor the number of classes: COCO's names are assumed; set label-file if it was \
                         trained on other classes",
                        model.source
                    )
                });
                return Ok((Self { names, class_count, is_built_in: false }, warning));
            }
            (None, None) if class_count == Some(COCO.len()) => {
                (COCO.iter().map(ToString::to_string).collect(), String::new())
            }
            (None, None) => (Vec::new(), String::new()),
        };
        let mismatch = class_count.filter(|&count| !names.is_empty() && names.len() != count).map(|count| {
            let found = names.len();
            (found < count, format!("it has {found} names, but {} has {count} classes", model.source))
        });
        let warning = match (mismatch, label_file) {
            (None, _) => None,
            (Some((true, reason)), Some(path)) => {
                let reason = format!("{reason}; list a name for every class, in the model's order");
                return Err(Error::LabelFile { path: path.to_owned(), reason });
            }
            (Some((_, reason)), _) => Some(format!(
                "{origin}: {reason}; classes without a name are called class-N, additional names are ignored"
            )),
        };
        let is_built_in = model.source == BUILT_IN_NAME;
        Ok((Self { names, class_count, is_built_in }, warning))
    }

    /// Creates the labels of a model with these classes.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn of_names(names: Vec<String>) -> Self {
        Self { class_count: Some(names.len()), names, is_built_in: false }
    }

    /// Returns the name of a class, "class-N" if it has none.
    pub fn name(&self, class_id: usize) -> Cow<'_, str> {
        self.names
            .get(class_id)
            .map_or_else(|| Cow::Owned(format!("class-{class_id}")), |name| Cow::Borrowed(name.as_str()))
    }

    /// Returns the names of all classes, by index: as many as the model has classes, if that is known.
    pub fn all(&self) -> Vec<String> {
        (0..self.class_count.unwrap_or(self.names.len()).min(MAX_CLASSES))
            .map(|class_id| self.name(class_id).into_owned())
            .collect()
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no class has a name.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Parses a list such as "person,3,dog" of names or indices to class indices, in the given order and without duplicates. Letter
    /// case matters only if two names differ in nothing else; names may contain commas.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] for a name or index that the model does not have.
    pub fn parse_classes(&self, list: &str) -> Result<Vec<usize>> {
        let most_commas = self.names.iter().map(|name| name.matches(',').count()).max().unwrap_or(0);
        let mut found = Vec::new();
        let mut rest = list;
        while !rest.is_empty() {
            // The longest prefix of the list that is a name.
            let ends = rest.match_indices(',').map(|(at, _)| at).chain([rest.len()]).take(most_commas + 1);
            let ends: Vec<usize> = ends.collect();
            let known = ends.iter().rev().find_map(|&end| Some((end, self.find(rest[..end].trim())?)));
            let end = known.map_or(ends[0], |(end, _)| end);
            let wanted = rest[..end].trim();
            rest = rest.get(end + 1..).unwrap_or_default();
            match known {
                Some((_, class_id)) if !found.contains(&class_id) => found.push(class_id),
                Some(_) => {}
                None if wanted.is_empty() => {}
                None => return Err(self.unknown(wanted)),
            }
        }
        Ok(found)
    }

    fn find(&self, wanted: &str) -> Option<usize> {
        let exact = self.names.iter().position(|name| name == wanted);
        let folded = wanted.to_lowercase();
        let alike = || self.names.iter().position(|name| name.to_lowercase() == folded);
        let index = || {
            let digits = wanted.strip_prefix("class-").unwrap_or(wanted);
            let limit = self.class_count.unwrap_or(MAX_CLASSES);
            digits.parse::<usize>().ok().filter(|&class_id| class_id < limit)
        };
        exact.or_else(alike).or_else(index)
    }

    fn unknown(&self, class: &str) -> Error {
        if self.is_built_in {
            let known = "the built-in model detects persons only. For other classes set model-file (vx detect --model) to a model that \
                         has them; \"The built-in model\" in README.md says where to find one";
            return Error::UnknownClass { class: class.chars().take(MAX_NAME).collect(), known: known.to_owned() };
        }
        let known = match (self.names.as_slice(), self.class_count) {
            ([], Some(count)) => {
                format!("its classes have no names; use numbers from 0 to {}", count.saturating_sub(1))
            }
            ([], None) => "its classes have no names; use numbers".to_owned(),
            (names, _) => {
                let first: Vec<_> = names.iter().take(8).map(String::as_str).collect();
                let more = if names.len() > first.len() { ", ..." } else { "" };
                let alike = |name: &&String| strsim::jaro_winkler(&name.to_lowercase(), &class.to_lowercase());
                let nearest = names.iter().max_by(|one, other| alike(one).total_cmp(&alike(other)));
                let nearest = nearest.filter(|name| alike(name) > MIN_SIMILARITY);
                let hint = nearest.map_or_else(String::new, |name| format!("did you mean {name}? "));
                format!("{hint}it has {}: {}{more}", names.len(), first.join(", "))
            }
        };
        Error::UnknownClass { class: class.chars().take(MAX_NAME).collect(), known }
    }
}

/// Reads the names in a label file.
fn read(path: &Path) -> Result<Vec<String>> {
    let refuse = |reason: String| Error::LabelFile { path: path.to_owned(), reason };
    let file = open_regular(path).map_err(|error| refuse(format!("{error}; check the path")))?;
    let mut bytes = Vec::new();
    file.take(MAX_LABEL_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(format!("{error}; it must be a text file with one name for each line")))?;
    if bytes.len() as u64 > MAX_LABEL_FILE {
        return Err(refuse(format!(
            "it is longer than {} MiB; it must hold one name for each line",
            MAX_LABEL_FILE >> 20
        )));
    }
    label_file::parse(&bytes).map_err(refuse)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn labels(names: &[&str], class_count: Option<usize>) -> Labels {
        Labels { names: names.iter().map(ToString::to_string).collect(), class_count, is_built_in: false }
    }

    #[test]
    fn an_unreadable_label_file_is_named() {
        let text = read(Path::new("/no/such/labels.txt")).unwrap_err().to_string();
        assert!(text.contains("/no/such/labels.txt"), "{text}");
        assert!(read(Path::new("/")).is_err(), "a folder");
    }

    #[test]
    fn a_label_file_over_the_limit_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_LABEL_FILE + 1).unwrap();
        let text = read(file.path()).unwrap_err().to_string();
        assert!(text.contains("longer than 4 MiB"), "{text}");
    }

    #[test]
    fn classes_are_found_by_name_number_or_letter_case() {
        let labels = labels(&["person", "Dog", "7"], Some(80));
        assert_eq!(labels.parse_classes("person, dog,3, 7 ,person,").unwrap(), [0, 1, 3, 2]);
        assert_eq!(labels.parse_classes("").unwrap(), [0; 0]);
        assert_eq!(labels.parse_classes("class-5").unwrap(), [5]);
        let text = labels.parse_classes("person,cat").unwrap_err().to_string();
        assert!(text.contains("\"cat\"") && text.contains("person, Dog"), "{text}");
        assert!(labels.parse_classes("80").is_err() && labels.parse_classes("-1").is_err());
    }

    #[test]
    fn class_names_may_contain_commas_and_letters_of_any_alphabet() {
        let labels = labels(&["car", "car, red", "ÄPFEL", "red"], Some(4));
        assert_eq!(labels.parse_classes("car, red").unwrap(), [1]);
        assert_eq!(labels.parse_classes("äpfel,Car, Red,car").unwrap(), [2, 1, 0]);
        assert_eq!(labels.parse_classes("red,car").unwrap(), [3, 0]);
        let text = labels.parse_classes("car, blue").unwrap_err().to_string();
        assert!(text.contains("\"blue\""), "{text}");
    }

    #[test]
    fn classes_without_a_name_get_one() {
        assert_eq!(labels(&["a"], None).name(0), "a");
        assert_eq!(labels(&["a"], None).name(41), "class-41");
        assert_eq!(labels(&["a"], Some(3)).all(), ["a", "class-1", "class-2"]);
        assert_eq!(labels(&["a", "b"], None).all(), ["a", "b"]);
        assert_eq!(labels(&["a", "b"], Some(1)).all(), ["a"]);
    }
}
