// SPDX-License-Identifier: MIT OR Apache-2.0
//! The supervisor's side of one worker process: starts it, exchanges messages, ends it. Knows no files and no other workers. One
//! thread at a time.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::super::settings::WorkerProgram;
use super::protocol::{Decoder, Malformed, Message};
use crate::memory;

/// Longest wait in [`WorkerProcess::receive`]: the caller checks its limits this often.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Longest time for a worker to read a message. It reads them in a separate thread.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for a worker to exit after its input was closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker process. It is killed when this is dropped.
pub struct WorkerProcess {
    child: Child,
    stream: UnixStream,
    decoder: Decoder,
}

/// The result of waiting for a message.
pub enum Received {
    Message(Message),
    /// No message yet.
    Nothing,
    /// No message will come: the process has ended, or is about to.
    Gone,
    Malformed(Malformed),
}

impl WorkerProcess {
    /// Starts a worker.
    ///
    /// # Errors
    /// The system's.
    pub fn spawn(program: &WorkerProgram) -> Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        stream.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
        stream.set_write_timeout(Some(SEND_TIMEOUT))?;
        // What a library prints to standard output must not be mixed with results on ours, but it may be useful.
        let diagnostics = std::io::stderr().as_fd().try_clone_to_owned()?;
        let mut command = Command::new(&program.program);
        if let Some(name) = &program.name {
            command.arg0(name);
        }
        let child =
            command.args(&program.arguments).stdin(OwnedFd::from(theirs)).stdout(Stdio::from(diagnostics)).spawn()?;
        Ok(Self { child, stream, decoder: Decoder::default() })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The worker does not read it.
    pub fn send(&mut self, message: &Message) -> Result<()> {
        self.stream.write_all(&message.to_frame())
    }

    /// Waits a short time for a message.
    pub fn receive(&mut self) -> Received {
        loop {
            match self.decoder.message() {
                Ok(Some(message)) => return Received::Message(message),
                Ok(None) => {}
                Err(malformed) => return Received::Malformed(malformed),
            }
            match self.decoder.read_from(&mut self.stream) {
                Ok(1..) => {}
                Ok(0) => return Received::Gone,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let is_running = matches!(self.child.try_wait(), Ok(None));
                    return if is_running { Received::Nothing } else { Received::Gone };
                }
                Err(_) => return Received::Gone,
            }
        }
    }

    /// Returns the bytes of memory that it holds.
    pub fn memory(&self) -> Option<u64> {
        memory::resident_of(self.child.id())
    }

    /// Closes its input, so that it exits; kills it if it does not.
    pub fn end(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.wait(EXIT_TIMEOUT);
    }

    /// Waits for a process that is about to exit; returns its status, or `None` if it had to be killed.
    pub fn exited(mut self) -> Option<ExitStatus> {
        self.wait(EXIT_TIMEOUT)
    }

    fn wait(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => {}
                _ => return None,
            }
            // There is no wait with a timeout, but the socket is closed when it exits.
            while Instant::now() < deadline && matches!(self.stream.read(&mut [0; 1 << 12]), Ok(1..)) {}
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_process_that_does_not_exit_is_killed_even_if_it_writes_without_end() {
        for script in ["exec sleep 100", "exec cat /dev/zero >&0"] {
            let arguments = ["-c", script].map(Into::into).to_vec();
            let program = WorkerProgram { program: "/bin/sh".into(), name: None, arguments };
            let mut process = WorkerProcess::spawn(&program).unwrap();
            let folder = format!("/proc/{}", process.child.id());
            assert!(process.wait(Duration::from_millis(200)).is_none() && Path::new(&folder).exists(), "{script}");
            drop(process);
            assert!(!Path::new(&folder).exists(), "{script}");
        }
    }
}
