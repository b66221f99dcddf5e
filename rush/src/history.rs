//! Everything that was asked and answered: what the audit holds the system to.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context as _;
use booking::{BookingId, PatientId, ReleaseId, SlotId, UnixMs};
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Wish};

/// A slot on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The slot.
    pub slot: SlotId,
    /// Its places.
    pub capacity: u32,
}

/// The release the crowd came for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The release.
    pub release: ReleaseId,
    /// When its preparation began: no row of it is older.
    pub prepared_at: UnixMs,
    /// When it opens.
    pub opens_at: UnixMs,
    /// Its slots, by session and ordinal.
    pub offers: Vec<Offer>,
}

impl Plan {
    /// Returns the places of all slots together.
    pub fn places(&self) -> u32 {
        self.offers.iter().map(|offer| offer.capacity).sum()
    }
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// For a place.
    Book(Wish),
    /// What became of a booking.
    Status {
        /// Which.
        id: BookingId,
    },
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// For whom.
    pub patient: PatientId,
    /// What.
    #[serde(flatten)]
    pub ask: Ask,
    /// When it was sent, at the earliest.
    pub invoked_at: UnixMs,
    /// When the answer, or its loss, was known.
    pub answered_at: UnixMs,
    /// The answer.
    pub answer: Answer,
    /// Which gateway was asked, from 0; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<u8>,
}

/// Who may forget what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgetful {
    /// Redis: emptied, or replaced by a replica that missed something.
    Redis,
    /// The gateway of this number: restarted.
    Gateway(u8),
}

/// A time in which something was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgot {
    /// By whom.
    pub what: Forgetful,
    /// What was known before may be forgotten from now on.
    pub from: UnixMs,
    /// From now on nothing more is forgotten.
    pub until: UnixMs,
}

/// The events of one rush, in the order of their answers.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Everybody who may have asked.
    pub crowd: Vec<PatientId>,
    /// What they asked and heard.
    pub events: Vec<Event>,
    /// Redis was restarted, emptied or failed over meanwhile.
    pub redis_was_lost: bool,
    /// When something was forgotten, and by whom.
    pub forgot: Vec<Forgot>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    plan: Plan,
    crowd: Vec<PatientId>,
    #[serde(default)]
    redis_was_lost: bool,
    #[serde(default)]
    forgot: Vec<Forgot>,
}

impl History {
    /// Writes the plan and the events, one JSON object per line.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, plan: &Plan, path: &Path) -> anyhow::Result<()> {
        let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
        let mut out = BufWriter::new(file);
        let head = Head {
            plan: plan.clone(),
            crowd: self.crowd.clone(),
            redis_was_lost: self.redis_was_lost,
            forgot: self.forgot.clone(),
        };
        writeln!(out, "{}", serde_json::to_string(&head)?)?;
        for event in &self.events {
            writeln!(out, "{}", serde_json::to_string(event)?)?;
        }
        Ok(out.flush()?)
    }

    /// Reads back what [`History::write`] wrote.
    ///
    /// # Errors
    /// If the file can't be read or is not a history.
    pub fn read(path: &Path) -> anyhow::Result<(Plan, Self)> {
        let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let mut lines = BufReader::new(file).lines();
        let first = lines.next().context("the history is empty")??;
        let head: Head = serde_json::from_str(&first).context("the history has no head")?;
        let events = lines
            .map(|line| Ok(serde_json::from_str(&line?)?))
            .collect::<anyhow::Result<Vec<Event>>>()
            .context("the history is malformed")?;
        let Head { plan, crowd, redis_was_lost, forgot } = head;
        Ok((plan, Self { crowd, events, redis_was_lost, forgot }))
    }
}

/// Takes events from many patients at once.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// Adds one event.
    pub fn record(&self, event: Event) {
        // A patient that panicked while holding the lock has still only pushed: the list is whole.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
    }

    /// Ends recording.
    pub fn finish(&self, crowd: Vec<PatientId>) -> History {
        let mut events = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        History { crowd, events: std::mem::take(&mut *events), ..History::default() }
    }
}

#[cfg(test)]
mod tests {
    use booking::{Digest, SessionId};

    use super::*;
    use crate::answer::Status;

    #[test]
    fn a_history_reads_back_as_it_was_written() {
        let slot = SlotId::of(SessionId::from(3), 1);
        let plan = Plan {
            release: ReleaseId::from(1),
            prepared_at: UnixMs(1),
            opens_at: UnixMs(2),
            offers: vec![Offer { slot, capacity: 5 }],
        };
        let patient = PatientId::from(9);
        let id = BookingId::from(77);
        let event = |ask, answer| Event {
            patient,
            ask,
            invoked_at: UnixMs(3),
            answered_at: UnixMs(4),
            answer,
            gateway: None,
        };
        let wish = Wish { key: Digest::of_key("k"), slot };
        let history = History {
            crowd: vec![patient],
            events: vec![
                event(
                    Ask::Book(wish),
                    Answer::Refused { code: "slot_exhausted".to_owned(), opens_at: None },
                ),
                event(
                    Ask::Status { id },
                    Answer::Booking { id, status: Status::Queued, reason: None },
                ),
                Event { gateway: Some(1), ..event(Ask::Status { id }, Answer::Lost) },
            ],
            redis_was_lost: true,
            forgot: vec![
                Forgot { what: Forgetful::Redis, from: UnixMs(3), until: UnixMs(4) },
                Forgot { what: Forgetful::Gateway(1), from: UnixMs(5), until: UnixMs(6) },
            ],
        };
        let path = std::env::temp_dir().join(format!("history-{}.jsonl", std::process::id()));
        history.write(&plan, &path).expect("written");
        let (plan_again, again) = History::read(&path).expect("read");
        std::fs::remove_file(&path).expect("removed");
        assert!(again.redis_was_lost);
        assert_eq!(again.forgot, history.forgot);
        assert_eq!((plan_again, again.crowd, again.events), (plan, history.crowd, history.events));
    }

    #[test]
    fn an_event_written_before_gateways_were_noted_still_reads() {
        let slot = SlotId::of(SessionId::from(3), 1);
        let event = Event {
            patient: PatientId::from(9),
            ask: Ask::Book(Wish { key: Digest::of_key("k"), slot }),
            invoked_at: UnixMs(3),
            answered_at: UnixMs(4),
            answer: Answer::Lost,
            gateway: None,
        };
        let line = serde_json::to_string(&event).expect("written");
        assert!(!line.contains("gateway"), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).expect("read"), event);
    }
}
