// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses the few Python literals that exporters write into ONNX metadata: `{0: 'person', 1: "dog"}`, `['a', 'b']`,
//! `[640, 640]`.
//!
//! The text is untrusted: everything is bounded, nothing is evaluated, and anything else returns `None`. Pure functions.

/// Longest metadata text that is read, in bytes.
pub(super) const MAX_TEXT: usize = 4 << 20;
/// Most classes of a model or a label file.
pub const MAX_CLASSES: usize = 100_000;
/// Longest class name, in characters; longer names are truncated.
pub(crate) const MAX_NAME: usize = 200;

/// Parses class names: a Python dict with integer keys (in any order), or a list or tuple of strings.
///
/// Missing keys become `class-N`. `None` if the text is anything else, has no names, or exceeds [`MAX_CLASSES`].
pub(crate) fn class_names(text: &str) -> Option<Vec<String>> {
    let mut parser = Parser::new(text)?;
    let mut names: Vec<Option<String>> = Vec::new();
    let close = match parser.take()? {
        '{' => '}',
        '[' => ']',
        '(' => ')',
        _ => return None,
    };
    loop {
        parser.skip_space();
        if parser.accept(close) {
            break;
        }
        let key = if close == '}' {
            let key = parser.key()?;
            parser.skip_space();
            parser.accept(':').then_some(())?;
            parser.skip_space();
            key
        } else {
            names.len()
        };
        let name = parser.string()?;
        if key >= MAX_CLASSES {
            return None;
        }
        if names.len() <= key {
            names.resize(key + 1, None);
        }
        names[key] = Some(name);
        parser.skip_space();
        if !parser.accept(',') {
            parser.skip_space();
            parser.accept(close).then_some(())?;
            break;
        }
    }
    parser.skip_space();
    if !parser.is_at_end() || names.is_empty() {
        return None;
    }
    Some(names.into_iter().enumerate().map(|(id, name)| name.unwrap_or_else(|| format!("class-{id}"))).collect())
}

/// Parses height and width from `[height, width]`, `(height, width)` or one number; each 1 to 65,536.
pub(crate) fn image_size(text: &str) -> Option<(usize, usize)> {
    let inner = text.trim();
    let inner = inner.strip_prefix(['[', '(']).and_then(|rest| rest.strip_suffix([']', ')'])).unwrap_or(inner);
    let mut numbers = inner.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
        part.parse::<usize>().ok().filter(|number| (1..=crate::detect::pixels::picture::MAX_DIMENSION).contains(number))
    });
    let height = numbers.next()??;
    let width = match numbers.next() {
        Some(width) => width?,
        None => height,
    };
    numbers.next().is_none().then_some((height, width))
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Option<Self> {
        (text.len() <= MAX_TEXT).then(|| Self { rest: text.trim().chars().peekable() })
    }

    fn take(&mut self) -> Option<char> {
        self.rest.next()
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    fn skip_space(&mut self) {
        while self.rest.next_if(|c| c.is_whitespace()).is_some() {}
    }

    fn is_at_end(&mut self) -> bool {
        self.rest.peek().is_none()
    }

    /// Parses a non-negative integer, bare or in quotes (some exporters write JSON).
    fn key(&mut self) -> Option<usize> {
        let text = match self.rest.peek()? {
            '\'' | '"' => self.string()?,
            _ => {
                let mut digits = String::new();
                while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
                    if digits.len() > 9 {
                        return None;
                    }
                    digits.push(digit);
                }
                digits
            }
        };
        text.trim().parse().ok()
    }

    /// Parses a quoted string with Python's escapes; control characters become spaces.
    fn string(&mut self) -> Option<String> {
        if matches!(self.rest.peek(), Some('u' | 'U')) {
            self.rest.next();
        }
        let quote = self.rest.next_if(|c| matches!(c, '\'' | '"'))?;
        let mut out = String::new();
        let mut length = 0;
        loop {
            let c = match self.take()? {
                c if c == quote => return Some(out),
                '\\' => match self.escape()? {
                    Some(c) => c,
                    None => continue,
                },
                c => c,
            };
            if length < MAX_NAME {
                length += 1;
                out.push(if c.is_control() { ' ' } else { c });
            }
        }
    }

    /// Parses what follows a backslash: a character, or nothing (an escaped line end).
    fn escape(&mut self) -> Option<Option<char>> {
        let c = match self.take()? {
            'n' | 't' | 'r' | 'a' | 'b' | 'f' | 'v' => ' ',
            '\n' => return Some(None),
            'x' => self.code(2)?,
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            first @ '0'..='7' => {
                let mut value = first.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(|c| c.is_digit(8)) else {
                        break;
                    };
                    value = value * 8 + digit.to_digit(8)?;
                }
                char::from_u32(value)?
            }
            c @ ('\\' | '\'' | '"') => c,
            // Python keeps the backslash of an unknown escape; a name reads better without it.
            c => c,
        };
        Some(Some(c))
    }

    /// Parses a character from `digits` hexadecimal digits; an invalid one (a lone surrogate) becomes U+FFFD.
    fn code(&mut self, digits: usize) -> Option<char> {
        let mut value: u32 = 0;
        for _ in 0..digits {
            value = value.checked_mul(16)?.checked_add(self.take()?.to_digit(16)?)?;
        }
        Some(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        class_names(text)
    }

    fn strings(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn formats_of_exporters_are_parsed() {
        assert_eq!(names("{0: 'person', 1: 'bicycle'}"), strings(&["person", "bicycle"]));
        assert_eq!(names(r#"{1: "dog's bowl", 0: 'cat'}"#), strings(&["cat", "dog's bowl"]));
        assert_eq!(names(r#"{"0": "person", "1": "car"}"#), strings(&["person", "car"]));
        assert_eq!(names("['a', 'b',]"), strings(&["a", "b"]));
        assert_eq!(names("('a',)"), strings(&["a"]));
        assert_eq!(names(" { 0 :\n'x' , } "), strings(&["x"]));
        assert_eq!(
            names(r"{0: 'caf\xe9', 1: '\u72ac', 2: 'it\'s', 3: '\U0001F600'}"),
            strings(&["café", "犬", "it's", "😀"])
        );
        assert_eq!(names("{0: 'a', 3: 'd'}"), strings(&["a", "class-1", "class-2", "d"]));
        assert_eq!(names("{0: 'person: {a, b}'}"), strings(&["person: {a, b}"]));
    }

    #[test]
    fn invalid_texts_are_rejected_without_a_panic() {
        let invalid = [
            "",
            "{",
            "}",
            "{}",
            "[]",
            "{0}",
            "{0:",
            "{0: }",
            "{0: 'a'",
            "{0: 'a",
            "{0: 'a'}}",
            "{0: 'a'} + __import__('os')",
            "{0: __import__('os').system('x')}",
            "{-1: 'a'}",
            "{99999999999999999999999: 'a'}",
            "{100000: 'a'}",
            "{0: 'a' 1: 'b'}",
            "{0: 1}",
            r"{0: '\x4'}",
            r"{0: '\UFFFFFFF'}",
            r"{0: '\",
            "{0: ['a']}",
            "{'zero': 'a'}",
            "null",
            "\u{0}{0: 'a'}",
            "[,]",
            "{,}",
        ];
        for text in invalid {
            assert_eq!(names(text), None, "{text:?}");
        }
        assert_eq!(names(&"[".repeat(100_000)), None);
        assert_eq!(names(&format!("{{0: '{}'}}", "x".repeat(MAX_TEXT))), None);
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(names(r"{0: 'a\nb\x00c', 1: '\ud800'}"), strings(&["a b c", "\u{fffd}"]));
        let long = names(&format!("['{}']", "é".repeat(5000)));
        assert_eq!(long.map(|names| names[0].chars().count()), Some(MAX_NAME));
    }

    #[test]
    fn image_sizes_are_parsed_in_every_format() {
        assert_eq!(image_size("[640, 480]"), Some((640, 480)));
        assert_eq!(image_size("(320,320)"), Some((320, 320)));
        assert_eq!(image_size("416"), Some((416, 416)));
        for text in ["", "[]", "[0, 640]", "[640, x]", "[1, 2, 3]", "-1", "99999999", "[640"] {
            assert_eq!(image_size(text), None, "{text:?}");
        }
    }
}
