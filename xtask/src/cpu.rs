//! Processor time of a process and all it started, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Linux tells times in ticks of 10 ms, whatever the kernel's own.
const TICK: Duration = Duration::from_millis(10);

/// One line of `/proc/<pid>/stat`, as far as needed.
struct Usage {
    parent: u32,
    /// Its own and that of its ended children.
    used: Duration,
}

/// Returns the time this process, its living descendants and its ended children have used so far.
pub(crate) fn used(pid: u32) -> Duration {
    let all = read_all();
    let is_of = |candidate: u32| {
        let mut at = candidate;
        // No family is deeper than there are processes.
        for _ in 0..all.len() {
            if at == pid {
                return true;
            }
            match all.get(&at) {
                Some(usage) => at = usage.parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|(candidate, _)| is_of(**candidate)).map(|(_, usage)| usage.used).sum()
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
    let number = |index: usize| fields.get(index)?.parse::<u32>().ok();
    // utime, stime, cutime, cstime.
    let ticks: u32 = (11..15).map(number).sum::<Option<u32>>()?;
    Some(Usage { parent: fields.get(1)?.parse().ok()?, used: TICK * ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 3 7 7 0 -1 0 1 2 3 4 10 20 5 6 20 0 1 0 99 0";
        let usage = usage(stat).expect("read");
        assert_eq!((usage.parent, usage.used), (3, Duration::from_millis(410)));
    }

    #[test]
    fn work_is_seen() {
        let before = used(std::process::id());
        let mut sum = 0_u64;
        while used(std::process::id()) < before + 2 * TICK {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!(used(u32::MAX), Duration::ZERO);
    }
}
