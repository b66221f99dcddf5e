//! The programs' own roles: what each needs, and nothing else.

use anyhow::{Context, Result, ensure};
use ledger::account::Role;
use ledger::{Ledger, Settings};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::Database;

use crate::World;

/// What PostgreSQL says to somebody who may not.
const DENIED: &str = "42501";

fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned().into(),
        connections_max: 2,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 10_000,
        application_name: "grants-test",
    }
}

/// The SQLSTATE of a refusal; `None` where it was not refused.
async fn refusal(connection: &mut PgConnection, statement: &str) -> Option<String> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await;
    let error = done.err()?.into_database_error()?;
    error.code().map(std::borrow::Cow::into_owned)
}

#[tokio::test]
async fn each_role_may_do_what_its_program_does_and_nothing_else() -> Result<()> {
    let database = Database::create().await?;
    let (gateway, worker) = (database.role("gateway").await?, database.role("worker").await?);
    let stranger = database.role("stranger").await;
    let owner = Ledger::start(&settings(&database.url()))?;
    owner.migrate().await?;
    let names = (gateway.0.parse()?, worker.0.parse()?);
    owner.grant(&names.0, &names.1).await?;
    owner.grant(&names.0, &names.1).await.context("again")?;
    let owner = World { ledger: Ledger::start(&settings(&gateway.1))?, database };
    // A clinic and its release, made as the gateway; what the worker does, as the worker.
    let admin = owner.account("boss", Role::Admin).await?;
    let clinic = owner.clinic("Second").await?;
    let slots = owner.slots(&clinic, 1).await?;
    crate::releases::created(&owner, &clinic, slots).await?;
    ensure!(owner.ledger.find_credentials(b"boss".to_vec()).await?.is_some());
    owner.ledger.note(admin, "look", "parked", 1).await?;
    let of_worker = Ledger::start(&settings(&worker.1))?;
    ensure!(of_worker.audit().await?.is_empty());
    ensure!(of_worker.preheat_due(crate::releases::FAR.0).await?.count == 1);
    ensure!(of_worker.end_releases().await? == 0);
    ensure!(of_worker.lead_reconciler("me", 60_000).await?);

    let of_both = [
        "UPDATE slot SET capacity = capacity + 1",
        "UPDATE slot SET starts_at = now()",
        "DELETE FROM booking",
        "DELETE FROM slot",
        "TRUNCATE booking",
        "DROP TABLE booking",
        "ALTER TABLE slot DISABLE TRIGGER ALL",
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "UPDATE booking SET patient_id = 1",
        "UPDATE deployment SET partitions = 1",
        "UPDATE account SET role = 'admin'",
        "UPDATE account SET password_hash = 'x'",
        "DELETE FROM audit_log",
        "UPDATE audit_log SET action = 'x'",
        "SELECT * FROM _sqlx_migrations",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ];
    let of_gateway =
        ["SELECT * FROM open_epoch(0::smallint, 0, 'a', 'b', 'c')", "SELECT * FROM audit_log"];
    let of_worker = [
        "SELECT password_hash FROM account",
        "SELECT login_sealed FROM account",
        "SELECT * FROM refresh_token",
        "SELECT id_number_sealed FROM patient",
        "SELECT name_sealed FROM account_patient",
        "SELECT * FROM audit_log",
        "INSERT INTO audit_log (action, subject, subject_id) VALUES ('a', 'b', 1)",
        "UPDATE booking SET state = 'cancelled'",
        "DELETE FROM parked",
        "SELECT cancel_booking(1, 1)",
        "SELECT release_change(1, 1, 'close')",
    ];
    for (role, further) in [(&gateway, &of_gateway[..]), (&worker, &of_worker)] {
        let mut connection = PgConnection::connect(&role.1).await?;
        for statement in of_both.iter().chain(further) {
            let refused = refusal(&mut connection, statement).await;
            assert_eq!(refused.as_deref(), Some(DENIED), "{} may {statement}", role.0);
        }
    }
    let refused = PgConnection::connect(&stranger?.1).await.err().context("a stranger enters")?;
    let code = refused.into_database_error().and_then(|error| Some(error.code()?.into_owned()));
    assert_eq!(code.as_deref(), Some(DENIED));
    Ok(())
}
