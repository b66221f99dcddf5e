//! Processor time and memory of a process and all it started, and time of one thread, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// `/proc/<pid>/stat` tells times in ticks of 10 ms, whatever the kernel's own.
const TICK: Duration = Duration::from_millis(10);

/// One line of `/proc/<pid>/stat`, as far as needed.
struct Usage {
    parent: u32,
    /// Of all its threads, the ended ones too.
    own: Duration,
    /// Of its ended children.
    ended_children: Duration,
}

/// Returns the time this process, its living descendants and its ended children have used so far;
/// zero if there is no such process.
pub fn cpu_used(pid: u32) -> Duration {
    // The threads' own clocks are exact but forget who ended; the process's is complete, in ticks.
    let used = |(pid, usage): (u32, Usage)| usage.own.max(of_threads(pid)) + usage.ended_children;
    family(pid).map(used).sum()
}

/// Returns the memory that this process and its living descendants have in use now, in bytes; what they
/// share counts for each. Zero if there is no such process.
pub fn resident_bytes(pid: u32) -> u64 {
    family(pid).map(|(pid, _)| resident(pid).unwrap_or(0)).sum()
}

fn family(pid: u32) -> impl Iterator<Item = (u32, Usage)> {
    let all = read_all();
    let parents: BTreeMap<u32, u32> = all.iter().map(|(pid, usage)| (*pid, usage.parent)).collect();
    let is_of = move |candidate: u32| {
        let mut at = candidate;
        // No family is deeper than there are processes.
        for _ in 0..parents.len() {
            if at == pid {
                return true;
            }
            match parents.get(&at) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    all.into_iter().filter(move |(candidate, _)| is_of(*candidate))
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}

/// Returns the time the calling thread has used so far; zero where the kernel does not tell.
pub fn cpu_used_by_thread() -> Duration {
    on_cpu(Path::new("/proc/thread-self/schedstat")).unwrap_or_default()
}

fn read_all() -> BTreeMap<u32, Usage> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let with_usage = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // Whoever ended since the folder was listed has left its time to its parent.
        Some((pid, usage(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
    });
    with_usage.collect()
}

fn usage(stat: &str) -> Option<Usage> {
    // The second field is the program's name in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    // utime and stime, then cutime and cstime.
    let own = TICK * (ticks(11)? + ticks(12)?);
    let ended_children = TICK * (ticks(13)? + ticks(14)?);
    Some(Usage { parent: ticks(1)?, own, ended_children })
}

fn of_threads(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.filter_map(|entry| on_cpu(&entry.path().join("schedstat"))).sum()
}

/// The first of three figures: time on a processor, ns.
fn on_cpu(schedstat: &Path) -> Option<Duration> {
    let text = fs::read_to_string(schedstat).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_told() {
        assert!(resident_bytes(std::process::id()) > 100_000);
        assert_eq!(resident_bytes(u32::MAX), 0);
    }

    #[test]
    fn a_line_of_proc_is_read_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 3 7 7 0 -1 0 1 2 3 4 10 20 5 6 20 0 1 0 99 0";
        let usage = usage(stat).expect("read");
        let ms = Duration::from_millis;
        assert_eq!((usage.parent, usage.own, usage.ended_children), (3, ms(300), ms(110)));
    }

    #[test]
    fn work_is_seen() {
        let (before, thread_before) = (cpu_used(std::process::id()), cpu_used_by_thread());
        let mut sum = 0_u64;
        while cpu_used(std::process::id()) < before + 2 * TICK {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_used_by_thread() > thread_before);
        assert_eq!(cpu_used(u32::MAX), Duration::ZERO);
    }

    #[test]
    fn what_an_ended_thread_used_still_counts() {
        let before = cpu_used(std::process::id());
        let busy = || {
            let start = cpu_used_by_thread();
            let mut sum = 0_u64;
            while cpu_used_by_thread() < start + 10 * TICK {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
        };
        std::thread::spawn(busy).join().expect("it ends");
        // Of ten ticks one or two may not be told yet.
        assert!(cpu_used(std::process::id()) >= before + 7 * TICK);
    }
}
