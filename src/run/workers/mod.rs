// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading files in worker processes: a crash, a leak or, with a timeout, a hang costs one file and one worker, which is replaced.
//!
//! `supervisor` starts the workers and hands out files, one thread for each worker; `pool` decides how many workers run. `process` is
//! the supervisor's side of one worker, `worker` runs in that process, and `protocol` is what the two exchange.

mod pool;
mod process;
mod protocol;
mod supervisor;
mod worker;

#[cfg(any(fuzzing, test))]
pub(super) use self::protocol::Decoder;

pub(super) use self::supervisor::{
    ModelContent, Supervisor, SupervisorSettings, most_workers, threads_of_each, with_shares,
};
pub use self::worker::serve_worker;
