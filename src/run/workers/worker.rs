// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker process: loads the model once, then reads files as the supervisor names them.
//!
//! The supervisor decides when it ends; the program that runs it should ignore the signals that a terminal sends to the whole process
//! group. Knows no output: results go to the supervisor's socket.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use super::super::error::Error;
use super::super::pictures;
use super::super::pipeline::{Delivery, Pipeline, Update};
use super::protocol::{Decoder, Message, WorkerSettings, write_result};

/// A file to be read.
struct Request {
    number: u32,
    file: String,
}

/// Runs a worker process until its supervisor ends it. A program that is named in
/// [`Settings::isolate`](crate::run::Settings::isolate) calls this before anything that reads standard input, which is the
/// supervisor's socket. The process exits when the supervisor has ended, also in the middle of a file.
///
/// # Errors
/// The process was not started by a supervisor, or the worker cannot continue; the supervisor knows of the latter.
pub fn serve_worker() -> Result<(), Error> {
    let streams = socket().and_then(|socket| Ok((socket.try_clone()?, socket)));
    let (mut out, socket) =
        streams.map_err(|error| Error::setting(format!("a worker process is not for users: {error}")))?;
    let result = send(&mut out, &Message::Started).and_then(|()| work(socket, &mut out));
    result.map_err(|reason| {
        // The supervisor, if it is there, reports it.
        let _ = send(&mut out, &Message::Error(reason.clone()));
        Error::Failed { reason }
    })
}

/// The supervisor gets to know this often how far a file is.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// Why a worker ends whose supervisor has ended.
const GONE: &str = "the supervisor has ended";

fn send(out: &mut UnixStream, message: &Message) -> Result<(), String> {
    out.write_all(&message.to_frame()).map_err(|_| GONE.to_owned())
}

/// Moves the socket away from standard input, which becomes empty: child processes must not inherit the socket, because the supervisor
/// recognises the end of a worker by it.
fn socket() -> std::io::Result<UnixStream> {
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // A user's standard input would be a terminal or a pipe.
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

fn work(socket: UnixStream, out: &mut UnixStream) -> Result<(), String> {
    // Loading the model is work, too, which ends with the supervisor.
    let at_work = Arc::new(AtomicUsize::new(1));
    let (settings, requests) = read_requests(socket, Arc::clone(&at_work))?;
    let settings = settings.recv().map_err(|_| GONE.to_owned())?;
    let (sender, updates) = unbounded();
    let pipeline = Pipeline::new(&settings.properties, &sender, Delivery::Files)?;
    if let Some(settings) = settings.pictures() {
        pictures::save_from(&pipeline.element(), &settings);
    }
    let loaded = pipeline.load();
    updates.try_iter().try_for_each(|update| pass_on(out, update))?;
    loaded?;
    at_work.fetch_sub(1, Ordering::AcqRel);
    send(out, &Message::Ready)?;
    for Request { number, file } in requests {
        #[cfg(debug_assertions)]
        misbehave(&file, number, out);
        if let Err(reason) = pipeline.start(std::slice::from_ref(&file)) {
            // The file is not the reason.
            send(out, &Message::Unable(reason.clone()))?;
            return Err(reason);
        }
        let mut is_done = false;
        loop {
            let update = match updates.recv_timeout(REPORT_INTERVAL) {
                Ok(update) => update,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(progress) = pipeline.progress().pop() {
                        send(out, &Message::Progress { number, progress })?;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match update {
                #[cfg(debug_assertions)]
                Update::Done(_) if hook_for(&file).as_deref() == Some("lose") => {}
                Update::Done(record) => {
                    is_done = true;
                    // The supervisor may close the socket as soon as it has this.
                    at_work.fetch_sub(1, Ordering::AcqRel);
                    write_result(out, number, &record.lines).map_err(|_| GONE.to_owned())?;
                }
                Update::Error(text) | Update::Stopped(text) => return Err(text),
                Update::End => break,
                other => pass_on(out, other)?,
            }
        }
        if !is_done {
            // The supervisor waits for the results of each file that it has named.
            return Err("its worker process ended the file without results, which is a bug of vx".to_owned());
        }
        pipeline.reset()?;
    }
    #[cfg(debug_assertions)]
    if std::env::var("VX_TEST_WORKER").is_ok_and(|hook| hook == "linger") {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    Ok(())
}

fn pass_on(out: &mut UnixStream, update: Update) -> Result<(), String> {
    match update {
        Update::Warning(warning) if warning.is_about_model => send(out, &Message::ModelWarning(warning.text)),
        Update::Warning(warning) => send(out, &Message::Warning(warning.text)),
        _ => Ok(()),
    }
}

/// Reads the supervisor's messages in a thread: the settings and the files. The supervisor closes the socket when a worker has
/// nothing to do; if it is closed while files are `at_work`, the supervisor has ended, and the process exits.
fn read_requests(
    mut socket: UnixStream,
    at_work: Arc<AtomicUsize>,
) -> Result<(Receiver<WorkerSettings>, Receiver<Request>), String> {
    let (sender, requests) = unbounded();
    let (settings_sender, settings_receiver) = unbounded();
    let read = move || {
        let mut decoder = Decoder::default();
        loop {
            match decoder.message() {
                Ok(Some(Message::Settings(settings))) => {
                    let _ = settings_sender.send(settings);
                }
                Ok(Some(Message::Read { number, file })) => {
                    at_work.fetch_add(1, Ordering::AcqRel);
                    if sender.send(Request { number, file }).is_err() {
                        return;
                    }
                }
                Ok(None) => match decoder.read_from(&mut socket) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    _ => break,
                },
                // Not a message for workers.
                Ok(Some(_)) | Err(_) => crate::exit::leave(1),
            }
        }
        if at_work.load(Ordering::Acquire) > 0 {
            crate::exit::leave(1);
        }
    };
    let thread = std::thread::Builder::new().name("vxrequests".to_owned()).spawn(read);
    thread.map_err(|error| format!("a worker process could not start a thread: {error}"))?;
    Ok((settings_receiver, requests))
}

/// Returns the fault of the test hook that applies to a file: `VX_TEST_WORKER=crash:WORD` is for files with this word in their path.
#[cfg(debug_assertions)]
fn hook_for(file: &str) -> Option<String> {
    let hook = std::env::var("VX_TEST_WORKER").ok()?;
    let (what, word) = hook.split_once(':')?;
    file.contains(word).then(|| what.to_owned())
}

/// Test hook for faults that no file can cause on purpose; see below. `lose` drops a file's results. In debug builds only.
#[cfg(debug_assertions)]
fn misbehave(file: &str, number: u32, out: &mut UnixStream) {
    match hook_for(file).unwrap_or_default().as_str() {
        "crash" => std::process::abort(),
        "hang" => loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        },
        "eat" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 16 << 20]);
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        // As a library might.
        "print" => {
            let _ = std::io::stdout().write_all(b"{\"status\":\"printed\"}\n");
        }
        "garbage" => {
            let _ = out.write_all(b"Hello, this is no answer\n");
        }
        // Results of another file.
        "mix" => {
            let summary = crate::record::Summary::new("another.mp4");
            let _ = write_result(out, number, &summary.to_line());
        }
        "outoforder" => {
            let _ = write_result(out, number + 1, b"");
        }
        _ => {}
    }
}
