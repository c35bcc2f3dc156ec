//! What runs in a worker process: the model is loaded once, then files are read as the supervisor names them.
//!
//! Its end is the supervisor's decision: signals that a terminal sends to the whole process group are not heeded here.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use super::protocol::{Decoder, Message, write_result};
use crate::bulk::{Bulk, Event, Hand, Properties};
use crate::frames::Frames;
use crate::stop;
use crate::terminal::tell;

/// A file to be read.
struct Request {
    number: u32,
    file: String,
}

/// Runs a worker until its supervisor closes the socket, or is gone.
pub fn work(properties: &Properties, frames: &Frames) -> ExitCode {
    stop::leave_signals_to_supervisor();
    let streams = socket().and_then(|socket| Ok((socket.try_clone()?, socket)));
    let (mut out, socket) = match streams {
        Ok(streams) => streams,
        Err(error) => {
            tell!("vx: --worker is what vx starts itself with, not for users: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = send(&mut out, &Message::Started).and_then(|()| run(properties, frames, socket, &mut out));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // The supervisor, if it is there, says so.
            let _ = send(&mut out, &Message::Error(reason));
            ExitCode::FAILURE
        }
    }
}

/// How often the supervisor gets to know how far a file is.
const BETWEEN_REPORTS: Duration = Duration::from_millis(500);

/// The supervisor is gone.
const GONE: &str = "the supervisor is gone";

fn send(out: &mut UnixStream, message: &Message) -> Result<(), String> {
    out.write_all(&message.to_frame()).map_err(|_| GONE.to_owned())
}

/// Takes the socket off standard input, which becomes empty: what this process starts must not inherit the socket, since the
/// supervisor sees a worker's end by it.
fn socket() -> std::io::Result<UnixStream> {
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // Standard input of a person would be a terminal or a pipe.
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

fn run(properties: &Properties, frames: &Frames, socket: UnixStream, out: &mut UnixStream) -> Result<(), String> {
    gstvx::av::capture_log();
    // Loading the model is work too, which the supervisor's end ends.
    let at_work = Arc::new(AtomicUsize::new(1));
    let requests = requests(socket, Arc::clone(&at_work))?;
    let (events, happened) = unbounded();
    let bulk = Bulk::new(properties, &events, Hand::Units)?;
    frames.save_from(&bulk.handle());
    let loaded = bulk.load();
    let mut failure = loaded.err();
    for event in happened.try_iter() {
        match event {
            Event::Error(text) if failure.is_some() => failure = Some(text),
            other => pass_on(out, other)?,
        }
    }
    failure.map_or(Ok(()), Err)?;
    at_work.fetch_sub(1, Ordering::AcqRel);
    send(out, &Message::Ready)?;
    for Request { number, file } in requests {
        #[cfg(debug_assertions)]
        misbehave(&file, number, out);
        if let Err(reason) = bulk.start(&[file]) {
            // That is not the file's fault.
            let text =
                happened.try_iter().find_map(|event| if let Event::Error(text) = event { Some(text) } else { None });
            let text = text.unwrap_or(reason);
            send(out, &Message::Unable(text.clone()))?;
            return Err(text);
        }
        loop {
            let event = match happened.recv_timeout(BETWEEN_REPORTS) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(running) = bulk.running().pop() {
                        send(out, &Message::Running { number, running })?;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match event {
                Event::Done(unit) => {
                    // The supervisor may close the socket as soon as it has this.
                    at_work.fetch_sub(1, Ordering::AcqRel);
                    write_result(out, number, &unit.lines).map_err(|_| GONE.to_owned())?;
                }
                Event::Error(text) => return Err(text),
                Event::End => break,
                other => pass_on(out, other)?,
            }
        }
        bulk.rest()?;
    }
    #[cfg(debug_assertions)]
    if std::env::var("VX_TEST_WORKER").is_ok_and(|hook| hook == "linger") {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    Ok(())
}

fn pass_on(out: &mut UnixStream, event: Event) -> Result<(), String> {
    match event {
        Event::Warning(text) => send(out, &Message::Warning(text)),
        Event::ModelWarning(text) => send(out, &Message::ModelWarning(text)),
        _ => Ok(()),
    }
}

/// Files that the supervisor names. It closes the socket when a worker has nothing to do; if that happens while files are
/// `at_work`, the supervisor is gone, and the worker goes too.
fn requests(mut socket: UnixStream, at_work: Arc<AtomicUsize>) -> Result<Receiver<Request>, String> {
    let (sender, requests) = unbounded();
    let read = move || {
        let mut decoder = Decoder::default();
        loop {
            match decoder.message() {
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
                Ok(Some(_)) | Err(_) => {
                    tell!("vx: a worker process got a message that is not for workers, and exits");
                    gstvx::exit::leave(1);
                }
            }
        }
        if at_work.load(Ordering::Acquire) > 0 {
            gstvx::exit::leave(1);
        }
    };
    let thread = std::thread::Builder::new().name("vxrequests".to_owned()).spawn(read);
    thread.map_err(|error| format!("a worker process could not start a thread: {error}"))?;
    Ok(requests)
}

/// The seam for what no file can be made to do on purpose: `VX_TEST_WORKER=crash:WORD` does that to files with this word in their
/// path, and `linger` keeps workers from exiting. It is in debug builds only, which the tests are.
#[cfg(debug_assertions)]
fn misbehave(file: &str, number: u32, out: &mut UnixStream) {
    let Ok(hook) = std::env::var("VX_TEST_WORKER") else { return };
    let Some((what, _)) = hook.split_once(':').filter(|(_, word)| file.contains(word)) else { return };
    match what {
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
        "print" => crate::terminal::show_bytes(b"{\"status\":\"printed\"}\n"),
        "garbage" => {
            let _ = out.write_all(b"Hello, this is no answer\n");
        }
        // The results of another file.
        "mix" => {
            let summary = gstvx::elements::bulkbin::Summary::new("another.mp4");
            let _ = write_result(out, number, &summary.to_line());
        }
        "outoforder" => {
            let _ = write_result(out, number + 1, b"");
        }
        _ => {}
    }
}
