//! What a test asks PostgreSQL for as the owner of its tables.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use testkit::eventually;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::world::{SOON, World};

impl World {
    /// Runs SQL as the owner of the tables; returns what it says.
    pub(crate) async fn sql(&self, text: &str) -> Result<String> {
        let output = self.psql()?.args(["-c", text]).kill_on_drop(true).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Leaves a transaction open that has done this, until what is returned is dropped.
    pub(crate) async fn leave_open(&self, text: &str) -> Result<Child> {
        let mut psql = self.psql()?;
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let mut open = psql.spawn()?;
        let script = format!("BEGIN;\n{text};\n");
        open.stdin.as_mut().context("its input")?.write_all(script.as_bytes()).await?;
        self.eventually_counts(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'psql'
               AND state = 'idle in transaction' AND query NOT LIKE 'BEGIN%'",
        )
        .await?;
        Ok(open)
    }

    /// Asks until the number that a query gives is not zero.
    pub(crate) async fn eventually_counts(&self, query: &str) -> Result<()> {
        eventually(query, SOON, || async {
            self.sql(query).await.ok().filter(|count| count != "0").map(drop)
        })
        .await
    }

    fn psql(&self) -> Result<Command> {
        let bin = testkit::Programs::find().postgres_bin.context("psql is not installed")?;
        let mut psql = Command::new(bin.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.database.url()]);
        Ok(psql)
    }
}
