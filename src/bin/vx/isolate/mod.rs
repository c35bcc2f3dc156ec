//! Reading files in worker processes: a crash, a leak or, with a timeout, a hang costs one file and one worker, which is replaced.
//!
//! `supervisor` starts the workers and hands out files, one thread for each worker. `process` is its side of one worker,
//! `worker` is what runs in that process (this program with `--worker`), and `protocol` is what the two exchange.

mod process;
mod protocol;
mod staff;
mod supervisor;
mod worker;

pub use self::staff::Usage;
pub use self::supervisor::{Settings, Workers};
pub use self::worker::work;
