//! Slots of other days: nobody can book them, but every index holds them.

use anyhow::Result;
use ledger::audit::Part;
use testkit::unique;

use super::World;

/// Slots of days gone by.
const SLOTS: u32 = SLOTS_PER_SESSION * SESSIONS;
const SESSIONS: u32 = 1_000_000;
const SLOTS_PER_SESSION: u32 = 20;
/// Made in one statement, so that a person sees it getting on.
const SESSIONS_AT_ONCE: u32 = 100_000;
/// Three periods of 700 days: about two years.
const SESSIONS_PER_DOCTOR: u32 = 2_100;
/// Their ids begin above every id that is given out here.
const FIRST: i64 = 1 << 32;

impl World {
    /// Adds twenty million slots of the last years, whose release is closed and whose places nobody took.
    ///
    /// # Errors
    /// If PostgreSQL refuses.
    pub async fn add_past(&mut self, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let doctors = SESSIONS / SESSIONS_PER_DOCTOR + 1;
        let ids = self
            .sql(&format!(
                "INSERT INTO hospital (name, time_zone) VALUES ('{name}', 'UTC') RETURNING id AS hospital \\gset
                 INSERT INTO department (hospital_id, name) VALUES (:hospital, 'all') RETURNING id AS department \\gset
                 INSERT INTO doctor (department_id, name)
                 SELECT :department, n FROM generate_series(1, {doctors}) n;
                 SELECT min(id) AS doctor FROM doctor WHERE department_id = :department \\gset
                 INSERT INTO release (hospital_id, name, opens_at, closes_at, state, created_by)
                 SELECT :hospital, 'past', now() - interval '3 years', now() - interval '1 day', 'closed', min(id)
                 FROM account RETURNING id AS release \\gset
                 \\echo :hospital, :department, :doctor, :release",
                name = unique(),
            ))
            .await?;
        for first in (0..SESSIONS).step_by(SESSIONS_AT_ONCE as usize) {
            say(&format!("growth: {} of {SLOTS} slots of other days", first * SLOTS_PER_SESSION));
            self.sql(&sessions(&ids, first)).await?;
        }
        say("growth: clearing up after them");
        // Otherwise it is done in the background of the rounds.
        self.sql("VACUUM (ANALYZE) session").await?;
        self.sql("VACUUM (ANALYZE) slot").await?;
        self.sql("CHECKPOINT").await?;
        self.has_past = true;
        Ok(())
    }

    /// What an audit that leaves out those slots judges next.
    pub(super) fn without_past(&self, next: Part) -> Part {
        let is_past = |first| self.has_past && first >= FIRST << 8;
        match next {
            Part::Counts(first) if is_past(first) => Part::Live(i64::MIN),
            Part::Live(first) if is_past(first) => Part::Numbers(i64::MIN),
            Part::Numbers(first) if is_past(first) => Part::Ids(i64::MIN),
            other => other,
        }
    }
}

/// Makes some of the sessions and their slots, in the program's own forms.
fn sessions(ids: &str, first: u32) -> String {
    let last = first + SESSIONS_AT_ONCE - 1;
    format!(
        "-- Every row refers to one that was made right before. To look up 20 million of them one by one
         -- takes longer than all the rest; every other constraint is checked.
         SET session_replication_role = replica;
         INSERT INTO session (id, partition, hospital_id, department_id, doctor_id, on_date, period)
         OVERRIDING SYSTEM VALUE
         SELECT {FIRST} + n, n % (SELECT partitions FROM deployment), ids.hospital, ids.department,
             ids.doctor + n / {SESSIONS_PER_DOCTOR},
             current_date - 1 - n % {SESSIONS_PER_DOCTOR} / 3,
             (ARRAY['morning', 'afternoon', 'evening'])[n % 3 + 1]
         FROM generate_series({first}, {last}) n,
             (VALUES ({ids})) AS ids (hospital, department, doctor, release);
         INSERT INTO slot (id, session_id, partition, release_id, starts_at, ends_at, capacity)
         SELECT ({FIRST} + n) << 8 | at, {FIRST} + n, n % (SELECT partitions FROM deployment), ids.release,
             begins + at * interval '12 minutes', begins + (at + 1) * interval '12 minutes', 10
         FROM generate_series({first}, {last}) n,
             (VALUES ({ids})) AS ids (hospital, department, doctor, release),
             LATERAL (SELECT (current_date - 1 - n % {SESSIONS_PER_DOCTOR} / 3)::timestamptz
                 + (8 + n % 3 * 5) * interval '1 hour' AS begins) b,
             generate_series(0, {SLOTS_PER_SESSION} - 1) at"
    )
}
