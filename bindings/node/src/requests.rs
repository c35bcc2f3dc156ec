// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that answer the requests of an asynchronous iterator: each request is a promise, and there is nothing to answer without one, so
//! that a slow consumer slows its thread down. A pending promise keeps the event loop alive, a thread does not.
//!
//! The event loop only sends to the threads. It waits for them in [`close_all`], which is for the end of the process.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred};

/// Longest wait for threads when an environment of Node.js ends otherwise than by `closeAll`.
const CLEANUP_TIMEOUT: Duration = Duration::from_millis(500);

type Resolver<T> = Box<dyn FnOnce(Env) -> napi::Result<T>>;

/// A promise to be kept.
pub struct Request<T: ToNapiValue + 'static>(Option<JsDeferred<T, Resolver<T>>>);

impl<T: ToNapiValue + Send + 'static> Request<T> {
    /// Creates a request, and the promise of its answer.
    pub fn new(env: &Env) -> napi::Result<(Self, Object<'_>)> {
        let (deferred, promise) = env.create_deferred()?;
        Ok((Self(Some(deferred)), promise))
    }

    /// Keeps the promise.
    pub fn answer(mut self, value: T) {
        if let Some(deferred) = self.0.take() {
            deferred.resolve(Box::new(move |_| Ok(value)));
        }
    }
}

impl<T: ToNapiValue + 'static> Drop for Request<T> {
    fn drop(&mut self) {
        if let Some(deferred) = self.0.take() {
            deferred.reject(napi::Error::from_reason("the thread of the request has ended, which is a bug of vx"));
        }
    }
}

/// A request, or none any more.
enum Message<T: ToNapiValue + 'static> {
    Next(Request<T>),
    Close,
}

/// The requests that a thread gets.
pub struct Requests<T: ToNapiValue + 'static>(Receiver<Message<T>>);

impl<T: ToNapiValue + 'static> Requests<T> {
    /// Waits for the next request; `None` if there will be none.
    pub fn next(&self) -> Option<Request<T>> {
        match self.0.recv() {
            Ok(Message::Next(request)) => Some(request),
            Ok(Message::Close) | Err(_) => None,
        }
    }
}

/// Ends a thread.
struct Handle {
    /// Cancels what the thread does and takes its requests away.
    close: Box<dyn Fn()>,
    /// Disconnected when the thread has ended.
    end: Receiver<Infallible>,
}

impl Handle {
    fn has_ended(&self) -> bool {
        self.end.try_recv() == Err(TryRecvError::Disconnected)
    }
}

thread_local! {
    /// Threads that this thread of JavaScript has started; `None` before the first.
    static OPEN: RefCell<Option<Vec<Rc<Handle>>>> = const { RefCell::new(None) };
}

/// A thread that answers requests. Dropping it ends the thread, and does not wait for that.
pub struct Source<T: ToNapiValue + Send + 'static> {
    messages: Sender<Message<T>>,
    /// What the thread has not taken yet.
    waiting: Receiver<Message<T>>,
    handle: Rc<Handle>,
}

impl<T: ToNapiValue + Send + 'static> Source<T> {
    /// Starts a thread that does `work`, which `cancel` wakes from every wait but the one for requests.
    pub fn start(
        env: &Env,
        name: &str,
        work: impl FnOnce(Requests<T>) + Send + 'static,
        cancel: impl Fn() + 'static,
    ) -> napi::Result<Self> {
        let (messages, received) = unbounded();
        let (alive, end) = bounded(0);
        let waiting = received.clone();
        let body = move || {
            let _alive = alive;
            work(Requests(received));
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        spawned.map_err(|error| napi::Error::from_reason(format!("no thread could be started: {error}")))?;
        let closing = messages.clone();
        let close = Box::new(move || {
            cancel();
            let _ = closing.send(Message::Close);
        });
        let handle = Rc::new(Handle { close, end });
        remember(env, &handle)?;
        Ok(Self { messages, waiting, handle })
    }

    /// Requests the next answer, and returns its promise.
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (request, promise) = Request::new(env)?;
        // A request that is not sent is rejected.
        let _ = self.messages.send(Message::Next(request));
        Ok(promise)
    }

    /// Ends the thread, does not wait for that, and answers the request that it has not taken in its place.
    pub fn end(&self, answer: impl Fn() -> T) {
        for message in self.waiting.try_iter() {
            if let Message::Next(request) = message {
                request.answer(answer());
            }
        }
        (self.handle.close)();
    }
}

impl<T: ToNapiValue + Send + 'static> Drop for Source<T> {
    fn drop(&mut self) {
        (self.handle.close)();
    }
}

fn remember(env: &Env, handle: &Rc<Handle>) -> napi::Result<()> {
    OPEN.with_borrow_mut(|open| {
        if open.is_none() {
            env.add_env_cleanup_hook((), |()| close_all(CLEANUP_TIMEOUT))?;
        }
        let open = open.get_or_insert_default();
        open.retain(|handle| !handle.has_ended());
        open.push(Rc::clone(handle));
        Ok(())
    })
}

/// Closes everything that this thread of JavaScript has started, and waits for its end, at most for `timeout`.
pub fn close_all(timeout: Duration) {
    let open = OPEN.with_borrow_mut(|open| open.as_mut().map(std::mem::take).unwrap_or_default());
    let deadline = Instant::now() + timeout;
    open.iter().for_each(|handle| (handle.close)());
    for handle in &open {
        // Nothing is ever sent.
        let _ = handle.end.recv_deadline(deadline);
    }
}
