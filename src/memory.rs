//! How much memory there is for this process, and how much it has taken.
//!
//! Plain functions over Linux's `/proc` and control groups; where there are none, nothing is known.

use std::path::{Path, PathBuf};

/// Of what is available, the share that may be planned with: the rest is for the page cache and for others.
const SHARE: f64 = 0.8;

/// Bytes that may be planned with: `wanted`, or, if that is 0, 80 % of what is available now. `None` where that is not known.
pub fn budget(wanted: u64) -> Option<u64> {
    if wanted > 0 { Some(wanted) } else { available().map(|bytes| (bytes as f64 * SHARE) as u64) }
}

/// Bytes that this process can take without pushing others out: what Linux calls available, or what its control groups leave
/// it if that is less.
pub fn available() -> Option<u64> {
    let system = field("/proc/meminfo", "MemAvailable:");
    let group = own_groups().into_iter().filter_map(|folder| left_in(&folder)).min();
    system.into_iter().chain(group).min()
}

/// Bytes of memory that this process holds now.
pub fn resident() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// Bytes of memory that another process holds now.
pub fn resident_of(process: u32) -> Option<u64> {
    field(&format!("/proc/{process}/status"), "VmRSS:")
}

/// The most bytes that this process has held.
pub fn peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// The value of a line such as "VmRSS:  123 kB", in bytes.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Folders of the control group that this process is in, and of those around it; of version 2, or of version 1's memory.
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

/// What a control group's limit leaves; `None` where it has none.
fn left_in(folder: &Path) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let (limit, used) = number("memory.max")
        .zip(number("memory.current"))
        .or_else(|| number("memory.limit_in_bytes").zip(number("memory.usage_in_bytes")))?;
    // The page cache counts as used, but is given up when it is needed.
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
    Some(limit.saturating_sub(used.saturating_sub(cache.unwrap_or(0))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn groups_leave_their_limit_less_what_is_used_and_not_cache() {
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
    fn this_process_holds_some_and_may_have_more() {
        let (now, most) = (resident().unwrap(), peak().unwrap());
        assert!(now > 0 && most >= now && available().unwrap() > 0);
        assert_eq!(budget(5), Some(5));
        assert!(budget(0).unwrap() < available().unwrap());
    }
}
