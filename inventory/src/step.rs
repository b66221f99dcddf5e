//! The reconciler's steps on a ledger: prepare, open, apply, freeze.

use booking::{Booking, Epoch, Nonce, Partition, ReleaseId, SessionId, SlotId, Term};
use redis::Value;

use crate::count::{SlotCount, counts};
use crate::error::{Error, unreadable};
use crate::reply::Reply;
use crate::script::{APPLY, Call, FREEZE, OPEN, PREPARE};
use crate::{Inventory, keys, packed};

/// Live bookings that one call of the script fills in.
const LIVE_PER_CALL_MAX: usize = 500;
/// Sessions that one call of a script reads.
pub(crate) const SESSIONS_PER_CALL_MAX: usize = 64;

/// The outcome of preparing a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// An empty closed shell with the given nonce now stands, on this term.
    Shell(Term),
    /// The ledger is current and true: nothing was done.
    NotNeeded,
}

/// The outcome of a step that only the true ledger takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T = ()> {
    /// Done, now or before.
    Done(T),
    /// Not the ledger it was meant for; nothing was done.
    Refused,
}

/// A cumulative grant of quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The slot.
    pub slot: SlotId,
    /// All that the epoch was ever granted of it.
    pub granted: u32,
    /// The release whose window binds it.
    pub release: ReleaseId,
}

impl Inventory {
    /// R1: prepares a shell if the ledger is missing, of another term, behind `current`, or
    /// `current` is sealed.
    ///
    /// A shell that was never opened is always replaced, because its nonce may have died with
    /// whoever made it. So where PostgreSQL already opened an epoch with the standing shell's
    /// nonce and term, [`open`](Self::open) must be called before this.
    pub async fn prepare(
        &self,
        partition: Partition,
        nonce: &Nonce,
        current: Epoch,
        is_sealed: bool,
    ) -> Result<Prepared, Error> {
        let call = prepare_call(partition, nonce, current, is_sealed);
        parse_prepared(self.links.call_cold(&call).await?)
    }

    /// R3: opens the shell with this nonce on this term as epoch `epoch`. Never creates a ledger,
    /// never opens a frozen one again. Safe to repeat.
    pub async fn open(
        &self,
        partition: Partition,
        epoch: Epoch,
        term: &Term,
        nonce: &Nonce,
    ) -> Result<Step, Error> {
        parse_step(self.links.call_cold(&open_call(partition, epoch, term, nonce)).await?)
    }

    /// R5: raises grants of one session's slots, and fills in who already holds a live booking
    /// there. Cumulative. `grants` of other sessions are the caller's mistake and are not applied.
    pub async fn apply(
        &self,
        partition: Partition,
        epoch: Epoch,
        nonce: &Nonce,
        session: SessionId,
        grants: &[Grant],
        live: &[Booking],
    ) -> Result<Step, Error> {
        // Whoever is known comes first: no place may be sold before all of them are.
        let filled = live.len() - live.len() % LIVE_PER_CALL_MAX;
        for some in live[..filled].chunks(LIVE_PER_CALL_MAX) {
            let call = apply_call(partition, epoch, nonce, session, &[], some);
            if parse_step(self.links.call_cold(&call).await?)? == Step::Refused {
                return Ok(Step::Refused);
            }
        }
        let call = apply_call(partition, epoch, nonce, session, grants, &live[filled..]);
        parse_step(self.links.call_cold(&call).await?)
    }

    /// R6: shuts the ledger and returns the counters of these sessions. Safe to repeat for
    /// further sessions.
    pub async fn freeze(
        &self,
        partition: Partition,
        epoch: Epoch,
        nonce: &Nonce,
        sessions: &[SessionId],
    ) -> Result<Step<Vec<SlotCount>>, Error> {
        let mut all = Vec::new();
        for at in (0..sessions.len().max(1)).step_by(SESSIONS_PER_CALL_MAX) {
            let some = &sessions[at..sessions.len().min(at + SESSIONS_PER_CALL_MAX)];
            let call = freeze_call(partition, epoch, nonce, some);
            match parse_frozen(self.links.call_cold(&call).await?, some)? {
                Step::Done(counts) => all.extend(counts),
                Step::Refused => return Ok(Step::Refused),
            }
        }
        Ok(Step::Done(all))
    }
}

pub(crate) fn prepare_call(
    partition: Partition,
    nonce: &Nonce,
    current: Epoch,
    is_sealed: bool,
) -> Call {
    Call::new(&PREPARE, &[keys::ledger(partition), keys::out(partition)])
        .arg(&nonce.0)
        .arg(current.0)
        .arg(u8::from(is_sealed))
}

pub(crate) fn open_call(partition: Partition, epoch: Epoch, term: &Term, nonce: &Nonce) -> Call {
    Call::new(&OPEN, &[keys::ledger(partition)])
        .arg(epoch.0)
        .arg(&term.run_id)
        .arg(&term.replid)
        .arg(&nonce.0)
}

pub(crate) fn apply_call(
    partition: Partition,
    epoch: Epoch,
    nonce: &Nonce,
    session: SessionId,
    grants: &[Grant],
    live: &[Booking],
) -> Call {
    let keys =
        [keys::ledger(partition), keys::session(partition, session), keys::who(partition, session)];
    let is_of_session = |grant: &&Grant| grant.slot.session() == session;
    let count = grants.iter().filter(is_of_session).count();
    let mut call = Call::new(&APPLY, &keys).arg(epoch.0).arg(&nonce.0).arg(count);
    for grant in grants.iter().filter(is_of_session) {
        call = call.arg(grant.slot.ordinal()).arg(grant.granted).arg(grant.release.get());
    }
    for booking in live {
        call = call.arg(booking.patient.get()).arg(packed::entry(booking, true));
    }
    call
}

pub(crate) fn freeze_call(
    partition: Partition,
    epoch: Epoch,
    nonce: &Nonce,
    sessions: &[SessionId],
) -> Call {
    let mut keys = vec![keys::ledger(partition)];
    keys.extend(sessions.iter().map(|session| keys::session(partition, *session)));
    Call::new(&FREEZE, &keys).arg(epoch.0).arg(&nonce.0)
}

pub(crate) fn parse_prepared(value: Value) -> Result<Prepared, Error> {
    let mut reply = Reply::parse(value)?;
    match reply.word() {
        "shell" => Ok(Prepared::Shell(Term { run_id: reply.next()?, replid: reply.next()? })),
        "not_needed" => Ok(Prepared::NotNeeded),
        _ => Err(unreadable("reply")),
    }
}

pub(crate) fn parse_step(value: Value) -> Result<Step, Error> {
    let reply = Reply::parse(value)?;
    match reply.word() {
        "done" => Ok(Step::Done(())),
        "refused" => Ok(Step::Refused),
        _ => Err(unreadable("reply")),
    }
}

pub(crate) fn parse_frozen(
    value: Value,
    sessions: &[SessionId],
) -> Result<Step<Vec<SlotCount>>, Error> {
    let mut reply = Reply::parse(value)?;
    match reply.word() {
        "done" => Ok(Step::Done(counts(&mut reply, sessions)?)),
        "refused" => Ok(Step::Refused),
        _ => Err(unreadable("reply")),
    }
}
