//! The first admin, made from the command line.

use anyhow::{Context, bail};
use booking::AccountId;
use ledger::Ledger;
use ledger::account::{Registered, Role};

use super::{Passwords, Sealer, login};
use crate::Settings;

/// Where the password comes from, if it is set.
const PASSWORD: &str = "SLOTRUSH_ADMIN_PASSWORD";

/// Makes an account that may administer.
pub async fn create(settings: &Settings, name: &str) -> anyhow::Result<AccountId> {
    let sealer = Sealer::load(&settings.auth)?;
    let password = read_password()?;
    let new = login::prepare(&sealer, &Passwords::new()?, name, password, Role::Admin).await;
    let new = new.map_err(|problem| anyhow::anyhow!("{}", problem.summary()))?;
    let ledger = Ledger::start(&settings.ledger_alone()?)?;
    match ledger.create_account(None, new).await? {
        Registered::Done(id) => Ok(id),
        Registered::LoginTaken => bail!("the log-in name {name} is in use"),
    }
}

fn read_password() -> anyhow::Result<String> {
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(password);
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("reading the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
