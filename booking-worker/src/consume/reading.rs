//! What a batch of messages holds, and the verdicts over it. Pure.

use booking::message::{ManifestEntry, parse_manifest};
use booking::{Booking, Partition};
use broker::{Delivered, Verdict};
use ledger::parked::Parked;

use super::persist::Answer;

/// The most of an unreadable body that is kept for a person to look at.
const BODY_KEPT_MAX: usize = 64 * 1024;

/// A message that can't be read, as it will be parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Where it came from, or where its manifest says it belongs.
    pub(super) partition: Partition,
    /// Why, without its contents.
    pub(super) detail: String,
    /// One for each booking it may hold, or one if nobody knows.
    pub(super) parked: Vec<Parked>,
}

/// A batch, taken apart.
#[derive(Debug)]
pub(super) struct Reading {
    /// The distinct bookings: one that is there twice, word for word, is persisted once.
    pub(super) bookings: Vec<Booking>,
    /// The messages that can't be read.
    pub(super) unreadable: Vec<Unreadable>,
    /// For each message, what it is made of.
    messages: Vec<Content>,
}

#[derive(Debug)]
enum Content {
    /// Places in `bookings`.
    Bookings(Vec<usize>),
    /// Place in `unreadable`.
    Unreadable(usize),
}

impl Reading {
    /// Takes a batch apart.
    pub(super) fn of(partition: Partition, batch: &[Delivered]) -> Self {
        let mut reading = Self { bookings: vec![], unreadable: vec![], messages: vec![] };
        let mut places = std::collections::HashMap::new();
        for delivered in batch {
            let content = match &delivered.message {
                Ok(envelope) => {
                    let place = |booking: &Booking| {
                        let same_id: &mut Vec<usize> = places.entry(booking.id).or_default();
                        let known =
                            same_id.iter().find(|at| &reading.bookings[**at] == booking).copied();
                        known.unwrap_or_else(|| {
                            let at = reading.bookings.len();
                            reading.bookings.push(booking.clone());
                            same_id.push(at);
                            at
                        })
                    };
                    Content::Bookings(envelope.bookings.iter().map(place).collect())
                }
                Err(why) => {
                    reading.unreadable.push(unreadable(partition, delivered, why));
                    Content::Unreadable(reading.unreadable.len() - 1)
                }
            };
            reading.messages.push(content);
        }
        reading
    }

    /// Gives each message its verdict: done only when all of it is.
    pub(super) fn verdicts(&self, bookings: &[Answer], unreadable: &[Answer]) -> Vec<Verdict> {
        let answer = |content: &Content| match content {
            Content::Bookings(places) => {
                let mut answers = places.iter().map(|at| bookings.get(*at).copied());
                let is_done = answers.all(|answer| answer == Some(Answer::Final));
                if is_done { Answer::Final } else { Answer::Later }
            }
            Content::Unreadable(at) => unreadable.get(*at).copied().unwrap_or(Answer::Later),
        };
        self.messages.iter().map(|content| answer(content).verdict()).collect()
    }
}

fn unreadable(partition: Partition, delivered: &Delivered, why: &str) -> Unreadable {
    let body = &delivered.body[..delivered.body.len().min(BODY_KEPT_MAX)];
    let entries = delivered.manifest.as_deref().and_then(parse_manifest).unwrap_or_default();
    let park = |entry: Option<ManifestEntry>| Parked::Message { entry, body: body.to_vec() };
    let parked: Vec<Parked> = match entries.as_slice() {
        [] => vec![park(None)],
        entries => entries.iter().copied().map(Some).map(park).collect(),
    };
    let cut = if body.len() < delivered.body.len() { "; body cut" } else { "" };
    let partition = entries.first().map_or(partition, |entry| entry.id.partition());
    Unreadable { partition, detail: format!("{why}{cut}"), parked }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use booking::{AccountId, BookingId, Digest, Envelope, Epoch, PatientId, SlotId, UnixMs};

    use super::*;

    const HERE: Partition = Partition::new(3);

    fn booking(id: i64) -> Booking {
        let (slot, patient) = (SlotId::from(512), PatientId::from(id));
        Booking {
            id: BookingId::from(id),
            epoch: Epoch(1),
            slot,
            patient,
            account: AccountId::from(1),
            key: Digest::of_key("k"),
            request: Digest::of_request(slot, patient),
            accepted_at: UnixMs(0),
        }
    }

    fn envelope(bookings: Vec<Booking>) -> Delivered {
        let envelope = Envelope::new(bookings);
        let manifest = Some(envelope.manifest());
        Delivered { message: Ok(envelope), body: vec![], manifest, redelivered: false }
    }

    fn garbage(manifest: Option<&str>) -> Delivered {
        let message = Err("malformed at line 1, column 2".to_owned());
        let manifest = manifest.map(str::to_owned);
        Delivered { message, body: vec![b'x'; BODY_KEPT_MAX + 1], manifest, redelivered: true }
    }

    fn is_acked(verdicts: &[Verdict]) -> Vec<bool> {
        verdicts.iter().map(|verdict| *verdict == Verdict::Ack).collect()
    }

    #[test]
    fn a_message_is_done_only_when_all_of_it_is() {
        let batch = [envelope(vec![booking(1), booking(2)]), envelope(vec![booking(3)])];
        let reading = Reading::of(HERE, &batch);
        let (done, later) = (Answer::Final, Answer::Later);
        assert_eq!(is_acked(&reading.verdicts(&[done, done, done], &[])), [true, true]);
        assert_eq!(is_acked(&reading.verdicts(&[done, later, done], &[])), [false, true]);
        assert_eq!(is_acked(&reading.verdicts(&[done, done], &[])), [true, false]);
    }

    #[test]
    fn a_retry_comes_soon_enough_for_persisting_to_be_back_in_two_seconds() {
        let verdict = Answer::Later.verdict();
        assert!(matches!(verdict, Verdict::Retry { after } if after <= Duration::from_millis(500)));
    }

    #[test]
    fn a_booking_that_is_there_twice_is_persisted_once_and_another_of_its_id_is_kept_apart() {
        let mut other = booking(1);
        other.patient = PatientId::from(99);
        let batch = [envelope(vec![booking(1)]), envelope(vec![booking(1), other.clone()])];
        let reading = Reading::of(HERE, &batch);
        assert_eq!(reading.bookings, [booking(1), other]);
        let verdicts = reading.verdicts(&[Answer::Final, Answer::Later], &[]);
        assert_eq!(is_acked(&verdicts), [true, false]);
    }

    #[test]
    fn an_unreadable_message_is_parked_for_each_booking_its_manifest_names() {
        let manifest = Envelope::new(vec![booking(1 << 22), booking(2 << 22)]).manifest();
        let batch = [garbage(Some(&manifest)), garbage(Some("nonsense")), garbage(None)];
        let reading = Reading::of(HERE, &batch);
        let counts: Vec<usize> = reading.unreadable.iter().map(|u| u.parked.len()).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(reading.unreadable[2].partition, HERE);
        assert_eq!(reading.unreadable[0].detail, "malformed at line 1, column 2; body cut");
        let none = Parked::Message { entry: None, body: vec![b'x'; BODY_KEPT_MAX] };
        assert_eq!(reading.unreadable[1].parked, [none]);
        let verdicts = reading.verdicts(&[], &[Answer::Final, Answer::Later, Answer::Final]);
        assert_eq!(is_acked(&verdicts), [true, false, true]);
    }
}
