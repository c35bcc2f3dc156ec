//! Lines for whoever started the program. Nobody has to read them.

use std::fmt::Arguments;
use std::io::Write;

/// Exit status of a program whose standard output is read no more: as that of one ended by SIGPIPE.
pub const UNREAD: u8 = 141;

/// A line on standard error, if it can be written.
pub fn tell_line(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A line on standard output; where that is read no more, the program ends.
pub fn show_line(line: Arguments<'_>) {
    show_bytes(format!("{line}\n").as_bytes());
}

/// The same with bytes as they are.
pub fn show_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => gstvx::exit::leave(UNREAD.into()),
        Err(error) => {
            tell_line(format_args!("vx: standard output cannot be written: {error}"));
            gstvx::exit::leave(2);
        }
        Ok(()) => {}
    }
}

macro_rules! tell {
    ($($text:tt)*) => { $crate::terminal::tell_line(format_args!($($text)*)) };
}

macro_rules! show {
    ($($text:tt)*) => { $crate::terminal::show_line(format_args!($($text)*)) };
}

pub(crate) use {show, tell};
