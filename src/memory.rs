// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory is available to this process, and how much it uses.
//!
//! Plain functions over Linux's `/proc` and control groups; on other systems the amounts are unknown.

use std::path::{Path, PathBuf};

/// Fraction of the available memory that may be planned with: the rest is for the page cache and other processes.
const SHARE: f64 = 0.8;

/// Returns the bytes that may be planned with: `wanted`, or if that is 0, 80 % of what is available now. `None` where unknown.
pub fn budget(wanted: u64) -> Option<u64> {
    if wanted > 0 { Some(wanted) } else { available().map(|bytes| (bytes as f64 * SHARE) as u64) }
}

/// Returns the bytes that this process can allocate without displacing others: what Linux calls available, or what the limits of
/// its control groups leave, if that is less.
pub fn available() -> Option<u64> {
    let system = field("/proc/meminfo", "MemAvailable:");
    let group = own_groups().into_iter().filter_map(|folder| left_in(&folder)).min();
    system.into_iter().chain(group).min()
}

/// Returns the resident memory of this process in bytes.
pub fn resident() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// Returns the resident memory of another process in bytes.
pub fn resident_of(process: u32) -> Option<u64> {
    field(&format!("/proc/{process}/status"), "VmRSS:")
}

/// Returns the peak resident memory of this process in bytes.
pub fn peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Reads the value of a line such as "VmRSS:  123 kB", in bytes.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Returns the folders of this process's control group and its ancestors; of version 2, or of version 1's memory controller.
fn own_groups() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "memory") => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let within = Path::new(path.trim_start_matches('/'));
        folders.extend(within.ancestors().map(|path| root.join(path)));
    }
    folders
}

/// Returns the bytes that a control group's limit leaves; `None` where it has no limit.
fn left_in(folder: &Path) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let (limit, used) = number("memory.max")
        .zip(number("memory.current"))
        .or_else(|| number("memory.limit_in_bytes").zip(number("memory.usage_in_bytes")))?;
    // The page cache counts as used, but is freed when memory is needed.
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
    Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn groups_leave_their_limit_minus_use_without_cache() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(left_in(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left_in(folder.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(left_in(folder.path()), Some(300));
        write("memory.stat", "anon 5\ninactive_file 200\n");
        assert_eq!(left_in(folder.path()), Some(500));
        write("memory.max", "100\n");
        assert_eq!(left_in(folder.path()), Some(0));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory_and_may_use_more() {
        let (now, most) = (resident().unwrap(), peak().unwrap());
        assert!(now > 0 && most >= now && available().unwrap() > 0);
        assert_eq!(budget(5), Some(5));
        assert!(budget(0).unwrap() < available().unwrap());
    }
}
