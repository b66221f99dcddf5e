//! The programs' own roles on a private PostgreSQL: neither is its superuser, nor owns the tables.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use testkit::{ensure_role, unique, with_role, write_private};

use super::Stack;

pub(super) const GATEWAY_ROLE: &str = "slotrush_gateway";
pub(super) const WORKER_ROLE: &str = "slotrush_worker";

impl Stack {
    /// Makes the roles, with random passwords that only the folder of the stack knows. On someone's
    /// own PostgreSQL nothing is made, and `false` returned.
    pub(super) async fn make_accounts(&self) -> Result<bool> {
        if self.state.parts.get("postgres").is_none_or(|part| part.is_foreign) {
            return Ok(false);
        }
        for role in [GATEWAY_ROLE, WORKER_ROLE] {
            let file = self.password_file(role);
            // Programs that run know the one of before.
            if !file.exists() {
                // 22 random letters and digits: 113 bits.
                write_private(&file, &format!("{}{}", unique(), unique()))?;
            }
            ensure_role(&self.database_url(), role, &self.password_of(role)?).await?;
        }
        Ok(true)
    }

    /// Gives a program the address of PostgreSQL with its own role, where there is one.
    pub(super) fn log_in_as(&self, program: &mut Command, role: &str) -> Result<()> {
        let is_foreign = self.state.parts.get("postgres").is_none_or(|part| part.is_foreign);
        if !is_foreign {
            let url = with_role(&self.database_url(), role, &self.password_of(role)?)?;
            program.env("SLOTRUSH_DATABASE_URL", url);
        }
        Ok(())
    }

    fn password_of(&self, role: &str) -> Result<String> {
        let file = self.password_file(role);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    fn password_file(&self, role: &str) -> PathBuf {
        self.folder.join(format!("{role}.password"))
    }
}
