//! A log line as one JSON object, in the form of the library, at half its price.
//!
//! Each accepted booking writes a line. The library hands every few bytes of it through a chain of
//! writers that check them again: a tenth of what a gateway did for a booking. Here it is written at
//! one go. What happens inside a span is left to the library, which knows how to tell of it.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// More than most lines take, in bytes.
const BYTES_MOSTLY: usize = 256;

/// Writes events as lines of JSON.
#[derive(Debug)]
pub(crate) struct JsonLine<T = SystemTime> {
    time: T,
    /// For what happens in a span.
    in_span: Format<Json, T>,
}

impl<T: Clone> JsonLine<T> {
    pub(crate) fn new(time: T) -> Self {
        let in_span = tracing_subscriber::fmt::format().json().with_timer(time.clone());
        let in_span = in_span.flatten_event(true).with_current_span(false).with_span_list(true);
        Self { time, in_span }
    }
}

impl<S, N, T> FormatEvent<S, N> for JsonLine<T>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
    T: FormatTime,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if context.lookup_current().is_some() {
            return self.in_span.format_event(context, writer, event);
        }
        let mut line = Line { bytes: Vec::with_capacity(BYTES_MOSTLY), scratch: String::new() };
        line.bytes.extend_from_slice(b"{\"timestamp\":\"");
        self.time.format_time(&mut Writer::new(&mut line))?;
        let metadata = event.metadata();
        write!(line, "\",\"level\":\"{}\"", metadata.level())?;
        event.record(&mut line);
        line.name("target");
        line.text(metadata.target());
        line.bytes.extend_from_slice(b"}\n");
        // All of it came as text.
        writer.write_str(std::str::from_utf8(&line.bytes).map_err(|_| fmt::Error)?)
    }
}

/// The line so far.
struct Line {
    bytes: Vec<u8>,
    /// What is to be escaped and has no text of its own.
    scratch: String,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Line {
    fn name(&mut self, name: &str) {
        self.bytes.push(b',');
        self.text(name);
        self.bytes.push(b':');
    }

    fn text(&mut self, text: &str) {
        // Neither a text nor a vector refuses.
        let _ = serde_json::to_writer(&mut self.bytes, text);
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.name(field.name());
        let _ = serde_json::to_writer(&mut self.bytes, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field.name());
        let _ = write!(self.bytes, "{value}");
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field.name());
        let _ = write!(self.bytes, "{value}");
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field.name());
        self.bytes.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field.name());
        self.text(value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field.name());
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let _ = write!(scratch, "{value:?}");
        self.text(&scratch);
        self.scratch = scratch;
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8(std::mem::take(&mut *bytes)).expect("text")
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[derive(Clone, Copy)]
    struct AtNoon;

    impl FormatTime for AtNoon {
        fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
            writer.write_str("2026-11-28T12:00:00.000001Z")
        }
    }

    fn events() {
        let error = io::Error::other("a \"quoted\" fault\nof two lines");
        let none: Option<&str> = None;
        tracing::info!(request_id = Some("r-1"), booking_id = %7, is_certain = true, "accepted");
        tracing::warn!(
            count = 3_u32,
            below = -4,
            share = 0.25,
            endless = f64::INFINITY,
            "号 {}",
            1
        );
        tracing::error!(%error, ?none, nothing = none, big = u64::MAX, "failed\t\u{7}");
        tracing::info!("bare");
        tracing::info!(message = "named", text = "é\\");
    }

    #[test]
    fn a_line_is_what_the_library_would_write() {
        let (own, library) = (Lines::default(), Lines::default());
        let lines = || tracing_subscriber::fmt().fmt_fields(JsonFields::new());
        let by_us = lines().event_format(JsonLine::new(AtNoon)).with_writer(own.clone());
        tracing::subscriber::with_default(by_us.finish(), events);
        let format = JsonLine::new(AtNoon).in_span;
        let by_library = lines().event_format(format).with_writer(library.clone());
        tracing::subscriber::with_default(by_library.finish(), events);
        let (own, library) = (own.take(), library.take());
        assert_eq!(own.lines().count(), 5, "{own}");
        assert_eq!(own, library);
    }

    #[test]
    fn what_happens_in_a_span_carries_its_fields() {
        let own = Lines::default();
        let lines = tracing_subscriber::fmt().fmt_fields(JsonFields::new());
        let by_us = lines.event_format(JsonLine::new(AtNoon)).with_writer(own.clone());
        tracing::subscriber::with_default(by_us.finish(), || {
            tracing::info_span!("round", partition = 3).in_scope(|| tracing::info!("inside"));
        });
        let line: serde_json::Value = serde_json::from_str(&own.take()).expect("JSON");
        assert_eq!(
            (&line["message"], &line["spans"][0]["partition"]),
            (&"inside".into(), &3.into())
        );
    }
}
