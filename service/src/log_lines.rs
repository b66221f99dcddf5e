//! Log lines on their way out: gathered for a moment, so that a thousand of them are few writes.
//!
//! Each accepted booking writes a line. One by one, each was a call of the system under a lock that all
//! threads share: who had a line waited for whoever's was being written, and everybody for a reader of the
//! log that was slow. A line of a warning or worse is not gathered: it is written at once, and what came
//! before it.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long lines are gathered. As much is lost of a program that is killed, or more if whoever reads the log
/// is slow.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that are gathered; with more, whoever brings a line writes them, or waits for who does.
const GATHERED_MAX: usize = 256 * 1024;

/// Takes lines and writes them to `out`.
pub(crate) struct LogLines<W>(Arc<Shared<W>>);

struct Shared<W> {
    gathered: Mutex<Gathered>,
    has_come: Condvar,
    /// Held while writing, so that lines stay in order.
    out: Mutex<W>,
}

struct Gathered {
    lines: Vec<u8>,
    /// Nobody gathers any more.
    is_over: bool,
}

/// Writes what was gathered when it is dropped, and from then on each line at once. To be kept until the
/// program ends.
#[must_use = "lines of the last moment are lost without it"]
#[derive(Debug)]
pub struct LastLines(Option<Ending>);

struct Ending(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ending")
    }
}

impl<W: Write + Send + 'static> LogLines<W> {
    /// Starts the thread that writes.
    pub(crate) fn start(out: W) -> io::Result<(Self, LastLines)> {
        let gathered = Gathered { lines: Vec::new(), is_over: false };
        let shared = Arc::new(Shared {
            gathered: Mutex::new(gathered),
            has_come: Condvar::new(),
            out: Mutex::new(out),
        });
        let writes = Arc::clone(&shared);
        thread::Builder::new().name("log-lines".into()).spawn(move || writes.run())?;
        let ending = Arc::clone(&shared);
        let ending = Ending(Box::new(move || ending.end()));
        Ok((Self(shared), LastLines(Some(ending))))
    }
}

impl<W: Write> Shared<W> {
    fn run(&self) {
        loop {
            let gathered = self.has_come.wait_while(self.gathered(), |gathered| {
                gathered.lines.is_empty() && !gathered.is_over
            });
            if gathered.is_ok_and(|gathered| gathered.is_over) {
                return;
            }
            thread::sleep(GATHER);
            self.write();
        }
    }

    fn take_in(&self, line: &[u8], is_urgent: bool) {
        let mut gathered = self.gathered();
        let was_empty = gathered.lines.is_empty();
        gathered.lines.extend_from_slice(line);
        let is_due = is_urgent || gathered.is_over || gathered.lines.len() > GATHERED_MAX;
        drop(gathered);
        if is_due {
            self.write();
        } else if was_empty {
            self.has_come.notify_one();
        }
    }

    fn write(&self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = mem::take(&mut self.gathered().lines);
        // Nobody could be told that the log is gone.
        let _ = out.write_all(&lines);
        let _ = out.flush();
    }

    fn end(&self) {
        self.gathered().is_over = true;
        self.has_come.notify_one();
        self.write();
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LastLines {
    fn drop(&mut self) {
        if let Some(Ending(end)) = self.0.take() {
            end();
        }
    }
}

/// Takes one line.
pub(crate) struct OneLine<'a, W> {
    shared: &'a Shared<W>,
    is_urgent: bool,
}

impl<W: Write> Write for OneLine<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.take_in(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + 'a> MakeWriter<'a> for LogLines<W> {
    type Writer = OneLine<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine { shared: &self.0, is_urgent: true }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Self::Writer {
        OneLine { shared: &self.0, is_urgent: *of.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells of each write.
    struct Out(Sender<String>);

    impl Write for Out {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(lines).into_owned());
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (LogLines<Out>, LastLines, Receiver<String>) {
        let (tell, told) = channel();
        let (lines, last) = LogLines::start(Out(tell)).expect("a thread");
        (lines, last, told)
    }

    fn read(told: &Receiver<String>, wanted: &str) -> usize {
        let (mut text, mut writes) = (String::new(), 0);
        while text != wanted {
            text += &told.recv_timeout(Duration::from_secs(10)).expect("it is written");
            writes += 1;
        }
        writes
    }

    #[test]
    fn lines_come_in_order_and_many_in_few_writes() {
        let (lines, _last, told) = start();
        let mut wanted = String::new();
        for n in 0..1_000 {
            let line = format!("{n}\n");
            lines.0.take_in(line.as_bytes(), false);
            wanted.push_str(&line);
        }
        assert!(read(&told, &wanted) < 500);
    }

    #[test]
    fn a_warning_is_written_at_once_and_what_came_before_it() {
        let (lines, _last, told) = start();
        lines.0.take_in(b"before\n", false);
        lines.0.take_in(b"warning\n", true);
        let written: String = told.try_iter().collect();
        assert_eq!(written, "before\nwarning\n");
    }

    #[test]
    fn more_than_the_bound_is_written_by_who_brings_it() {
        let (lines, _last, told) = start();
        lines.0.take_in(&vec![b'x'; GATHERED_MAX + 1], false);
        assert_eq!(told.try_iter().map(|lines| lines.len()).sum::<usize>(), GATHERED_MAX + 1);
    }

    #[test]
    fn the_last_lines_are_written_and_later_ones_at_once() {
        let (lines, last, told) = start();
        lines.0.take_in(b"last\n", false);
        drop(last);
        lines.0.take_in(b"later\n", false);
        assert_eq!(told.try_iter().collect::<String>(), "last\nlater\n");
    }
}
