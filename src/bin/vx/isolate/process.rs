//! The supervisor's side of one worker process: started, spoken with, ended. It knows no files and no other workers.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use gstvx::memory;

use super::protocol::{Decoder, Malformed, Message};

/// Longest wait in [`WorkerProcess::receive`]: this often the caller sees to its limits.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(100);

/// Longest time for a worker to take a message. It reads them in a thread of their own.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for a worker to exit when its input is closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker process. It is killed when this is dropped.
pub struct WorkerProcess {
    child: Child,
    stream: UnixStream,
    decoder: Decoder,
}

/// What came of waiting for a message.
pub enum Received {
    Message(Message),
    /// Nothing yet.
    Nothing,
    /// None will come: the process has ended, or is about to.
    Gone,
    Malformed(Malformed),
}

impl WorkerProcess {
    /// Starts `vx detect --worker` with more arguments.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn spawn(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        stream.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
        stream.set_write_timeout(Some(SEND_TIMEOUT))?;
        // What a library prints to standard output must not get among the results, which may be on ours; but someone may need it.
        let diagnostics = std::io::stderr().as_fd().try_clone_to_owned()?;
        let child = Command::new(program()?)
            .arg0("vx")
            .args(["detect", "--worker"])
            .args(arguments)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::from(diagnostics))
            .spawn()?;
        Ok(Self { child, stream, decoder: Decoder::default() })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the worker does not take it.
    pub fn send(&mut self, message: &Message) -> Result<()> {
        self.stream.write_all(&message.to_frame())
    }

    /// Waits a moment for a message.
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

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> Option<u64> {
        memory::resident_of(self.child.id())
    }

    /// Closes its input, upon which it exits; kills it if it does not.
    pub fn end(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.wait(EXIT_TIMEOUT);
    }

    /// Waits for a process that is about to exit; its status, or nothing if it had to be killed.
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
            // There is no wait with a timeout; but the socket is closed when it exits.
            while matches!(self.stream.read(&mut [0; 1 << 12]), Ok(1..)) {}
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

/// This program, as it runs. By its path it may have been replaced by another version, or removed.
fn program() -> Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}
