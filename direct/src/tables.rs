//! The tables: slots with a count, and appointments.

use anyhow::Context as _;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, raw_sql};

use crate::settings::{Database, Prepare};

const DROP: &str = "DROP TABLE IF EXISTS appointment, slot";
const TABLES: &str = include_str!("../tables.sql");
/// Numbered as the pipeline numbers its slots: session * 256 + place.
const SLOTS: &str = "
    INSERT INTO slot (id, capacity)
    SELECT session * 256 + place, 2000000000
    FROM generate_series(1::bigint, $1) session, generate_series(0::bigint, $2 - 1) place";

/// Opens a pool of connections.
pub(crate) async fn connect(database: &Database) -> anyhow::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(database.database_connections_max)
        // As tuned as the pool allows: no question before each statement whether the connection lives. The
        // one when it comes back can't be left out.
        .test_before_acquire(false)
        .connect(&database.database_url)
        .await
        .context("cannot reach PostgreSQL")
}

/// Makes the tables anew.
pub(crate) async fn prepare(prepare: &Prepare) -> anyhow::Result<()> {
    let pool = connect(&prepare.database).await?;
    raw_sql(DROP).execute(&pool).await?;
    raw_sql(TABLES).execute(&pool).await?;
    let (sessions, slots) = (i64::from(prepare.offer.sessions), i64::from(prepare.offer.slots));
    sqlx::query(SLOTS).bind(sessions).bind(slots).execute(&pool).await?;
    raw_sql("VACUUM ANALYZE slot").execute(&pool).await?;
    Ok(())
}
