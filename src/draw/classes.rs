// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of classes that select detections, whoever wrote them.

use crate::meta::Found;

/// Selects every class.
const ALL: &str = "*";

/// A list of class names and indices, such as "person, 3, dog". Without a model there is nothing to check it against.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassList {
    /// As written.
    text: String,
    /// What stands between commas, in lower case.
    parts: Vec<String>,
}

impl From<String> for ClassList {
    fn from(text: String) -> Self {
        let parts = parts(&text).filter(|part| !part.is_empty()).collect();
        Self { text, parts }
    }
}

impl ClassList {
    /// Returns the list as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names no class.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it names the class of `found`, by name in any letter case or by index. Names may contain commas.
    #[must_use]
    pub fn contains(&self, found: &Found) -> bool {
        self.has_name(&found.label)
            || self.parts.iter().any(|part| index(part).is_some_and(|index| found.class_id == Some(index)))
    }

    /// Returns the entries that are not among `classes`, the names by index.
    #[must_use]
    pub fn unknown_of(&self, classes: &[String]) -> Vec<&str> {
        let names: Vec<Vec<String>> = classes.iter().map(|class| parts(class).collect()).collect();
        let is_known = |part: &&String| {
            *part == ALL
                || names.iter().any(|name| name.contains(part))
                || index(part).is_some_and(|index| usize::try_from(index).is_ok_and(|index| index < classes.len()))
        };
        self.parts.iter().filter(|part| !is_known(part)).map(String::as_str).collect()
    }

    fn has_name(&self, name: &str) -> bool {
        let name: Vec<String> = parts(name).collect();
        self.parts.iter().any(|part| part == ALL) || self.parts.windows(name.len()).any(|run| run == name)
    }
}

fn parts(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(|part| part.trim().to_lowercase())
}

/// Returns the index that an entry such as "3" or "class-3" names.
fn index(part: &str) -> Option<i32> {
    part.strip_prefix("class-").unwrap_or(part).parse().ok().filter(|index| *index >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(label: &str, class_id: Option<i32>) -> Found {
        Found { label: label.into(), class_id, confidence: None, rectangle: [0.0; 4], details: Default::default() }
    }

    #[test]
    fn names_in_any_case_names_with_commas_and_indices_are_found() {
        let list = ClassList::from("Person, 3,car, red,, class-7,".to_owned());
        for (label, class_id) in [
            ("person", None),
            (" PERSON", Some(9)),
            ("x", Some(3)),
            ("y", Some(7)),
            ("car, red", None),
            ("Car,Red", None),
        ] {
            assert!(list.contains(&found(label, class_id)), "{label}");
        }
        for (label, class_id) in [("personal", None), ("dog", Some(4)), ("", None), ("red, car", None), ("x", None)] {
            assert!(!list.contains(&found(label, class_id)), "{label}");
        }
        assert!(ClassList::from("*".to_owned()).contains(&found("", None)));
        for empty in ["", " ", ","] {
            assert!(ClassList::from(empty.to_owned()).is_empty() && !ClassList::default().contains(&found("", None)));
        }
    }

    #[test]
    fn entries_that_a_detector_does_not_know_are_listed() {
        let classes = ["person", "car, red"].map(str::to_owned);
        let list = ClassList::from("Person,persn,1,2,car, red,*".to_owned());
        assert_eq!(list.unknown_of(&classes), ["persn", "2"]);
    }
}
