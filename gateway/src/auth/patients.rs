//! Which patients accounts act for, without asking PostgreSQL for every booking.
//!
//! An access token names the patients its account had when it was issued; that answers nearly
//! every booking. What it does not name, for instance a patient added since, is looked up once
//! and remembered. A patient that was removed is refused at once by the gateway that removed it,
//! and by the others when the token ends.

use std::sync::Arc;
use std::time::Duration;

use booking::{AccountId, PatientId};
use ledger::Ledger;

use super::{Identity, token};
use crate::recent::Recent;

/// How many answers are remembered.
const REMEMBERED_MAX: usize = 100_000;

/// How long "yes" from PostgreSQL is believed: a minute at most.
const YES_TTL: Duration = Duration::from_secs(30);

/// How long "no" is believed, a second at most: spares PostgreSQL a client that insists.
const NO_TTL: Duration = Duration::from_millis(500);

type Pairs = Arc<Recent<(AccountId, PatientId), ()>>;

/// Which patients accounts act for, cached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Patients {
    ledger: Ledger,
    yes: Pairs,
    no: Pairs,
    removed: Pairs,
}

impl Patients {
    /// Starts with an empty cache.
    pub fn new(ledger: Ledger) -> Self {
        let cache = |ttl| Arc::new(Recent::new(ttl, REMEMBERED_MAX));
        let token_ttl = Duration::from_secs(token::TTL_S.unsigned_abs() + 60);
        Self { ledger, yes: cache(YES_TTL), no: cache(NO_TTL), removed: cache(token_ttl) }
    }

    /// Tells whether the sender acts for `patient`. The token's own list answers without a look-up.
    pub async fn acts_for(
        &self,
        identity: &Identity,
        patient: PatientId,
    ) -> Result<bool, ledger::Error> {
        let pair = (identity.account, patient);
        if identity.patients.contains(&patient) && !self.removed.has(&pair) {
            return Ok(true);
        }
        self.is_of(identity.account, patient).await
    }

    /// Tells whether `account` acts for `patient`.
    pub async fn is_of(
        &self,
        account: AccountId,
        patient: PatientId,
    ) -> Result<bool, ledger::Error> {
        let pair = (account, patient);
        if self.yes.has(&pair) {
            return Ok(true);
        }
        if self.no.has(&pair) {
            return Ok(false);
        }
        let is_of = self.ledger.is_patient_of(account, patient).await?;
        let answers = if is_of { &self.yes } else { &self.no };
        answers.put(pair, ());
        Ok(is_of)
    }

    /// Notes that `account` acts for `patient` now.
    pub fn note_added(&self, account: AccountId, patient: PatientId) {
        let pair = (account, patient);
        self.removed.forget(&pair);
        self.no.forget(&pair);
        self.yes.put(pair, ());
    }

    /// Notes that `account` no longer acts for `patient`.
    pub fn note_removed(&self, account: AccountId, patient: PatientId) {
        let pair = (account, patient);
        self.removed.put(pair, ());
        self.yes.forget(&pair);
    }
}
