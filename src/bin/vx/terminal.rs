// SPDX-License-Identifier: MIT OR Apache-2.0
//! Printing: lines for users, and data. Nobody has to read them.
//!
//! Lines pass through here, where control characters, which file names and media may contain, are escaped: they must not reach a
//! terminal. Data ([`show_bytes`]) is printed unchanged.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::Write;

/// Exit status where standard output was closed by its reader: that of a program ended by SIGPIPE.
pub const CLOSED: u8 = 141;

/// Prints a line to standard error, if it can be written.
pub fn print_error_line(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{}", escaped(&line.to_string(), &['\n', '\t']));
}

/// Prints a line to standard output; where that is closed, the program ends.
pub fn print_output_line(line: Arguments<'_>) {
    show_bytes(format!("{}\n", escaped(&line.to_string(), &['\n', '\t'])).as_bytes());
}

/// Prints data to standard output.
pub fn show_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => gstvx::exit::leave(CLOSED.into()),
        Err(error) => {
            print_error_line(format_args!("vx: standard output cannot be written: {error}"));
            gstvx::exit::leave(2);
        }
        Ok(()) => {}
    }
}

/// Returns the name of a file, or any other text from outside, as it can be printed: on one line, without control characters.
pub fn printable(name: &str) -> Cow<'_, str> {
    escaped(name, &[])
}

/// Replaces control characters other than `kept`, and characters that change the direction of text or end a line, by escapes
/// (`\u{1b}`).
fn escaped<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let is_shown = |c: char| {
        kept.contains(&c)
            || !(c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_shown(c) { escaped.push(c) } else { escaped.extend(c.escape_default()) }
    }
    Cow::Owned(escaped)
}

/// Returns whether standard output was closed when the program started (`>&-`). Rust then opens /dev/null in its place, for reading and
/// writing, where a shell's `>/dev/null` is open for writing only. Some programs (Python's `subprocess.DEVNULL`) open it both
/// ways too: ask only where results would be lost.
pub fn is_stdout_closed() -> bool {
    const ACCESS_MODE: u32 = 3;
    const READ_AND_WRITE: u32 = 2;
    let flags = || {
        let info = std::fs::read_to_string("/proc/self/fdinfo/1").ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    };
    std::fs::read_link("/proc/self/fd/1").is_ok_and(|target| target == std::path::Path::new("/dev/null"))
        && flags().is_some_and(|flags| flags & ACCESS_MODE == READ_AND_WRITE)
}

macro_rules! print_error {
    ($($text:tt)*) => { $crate::terminal::print_error_line(format_args!($($text)*)) };
}

macro_rules! print_line {
    ($($text:tt)*) => { $crate::terminal::print_output_line(format_args!($($text)*)) };
}

pub(crate) use {print_error, print_line};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_not_printed() {
        assert_eq!(printable("a b ä 日本.mp4"), "a b ä 日本.mp4");
        assert_eq!(printable("\u{1b}[2J\n\t\r\u{7f}\u{9b}"), "\\u{1b}[2J\\n\\t\\r\\u{7f}\\u{9b}");
        assert_eq!(printable("4pm\u{202e}"), "4pm\\u{202e}");
        assert_eq!(escaped("a\n\tb\u{1b}", &['\n', '\t']), "a\n\tb\\u{1b}");
    }
}
