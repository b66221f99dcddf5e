//! The first admin, made from the command line.

use anyhow::{Context, bail};
use booking::AccountId;
use ledger::Ledger;
use ledger::account::{Registered, Role};

use super::{Passwords, Sealer, login};
use crate::Settings;

/// Where the password comes from, if it is set.
const PASSWORD: &str = "SLOTRUSH_ADMIN_PASSWORD";

/// Makes an account that may administer. Returns what to tell whoever made it.
pub async fn create(settings: &Settings, name: &str, as_json: bool) -> anyhow::Result<String> {
    let sealer = Sealer::load(&settings.auth)?;
    let password = read_password()?;
    let new = login::prepare(&sealer, &Passwords::new()?, name, password, Role::Admin).await;
    let new = new.map_err(|problem| anyhow::anyhow!("{}", problem.summary()))?;
    let ledger = Ledger::start(&settings.ledger_alone()?)?;
    match ledger.create_account(None, new).await? {
        Registered::Done(id) => Ok(told(name, id, as_json)),
        Registered::LoginTaken => bail!("the log-in name {name} is in use"),
    }
}

fn told(name: &str, id: AccountId, as_json: bool) -> String {
    if as_json {
        return serde_json::json!({ "login": name, "account_id": id }).to_string();
    }
    format!(
        "made the admin {name} (account {id})\n\
         next: POST /v1/tokens with {{\"login\": \"{name}\", \"password\": …}}, then send the \
         access_token of the answer as `Authorization: Bearer …` to /v1/admin/…"
    )
}

fn read_password() -> anyhow::Result<String> {
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(password);
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("reading the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_made_an_admin_is_told_the_name_and_what_to_do_next() {
        let text = told("boss", AccountId::from(7), false);
        assert!(text.starts_with("made the admin boss (account 7)"), "{text}");
        assert!(text.contains("POST /v1/tokens"), "{text}");
        let json = told("boss", AccountId::from(7), true);
        assert_eq!(json, r#"{"account_id":"7","login":"boss"}"#);
    }
}
