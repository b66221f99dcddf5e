//! What the system says of this process.

use std::fs;

/// Returns the resident memory in bytes, or `None` where `/proc` does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Returns how many file descriptors are open, or `None` where `/proc` does not tell.
pub(crate) fn open_fds() -> Option<u64> {
    // The listing's own descriptor is one of them.
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(listed).ok().map(|listed| listed.saturating_sub(1))
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status_file() {
        let status = "Name:\tgateway\nVmHWM:\t   9000 kB\nVmRSS:\t   8192 kB\nThreads:\t4\n";
        assert_eq!(resident_in(status), Some(8_388_608));
        assert_eq!(resident_in("Name:\tgateway\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_open_files() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(open_fds().is_some_and(|fds| fds >= 3));
    }
}
