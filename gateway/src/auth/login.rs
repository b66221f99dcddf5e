//! What a log-in name and a password may be, and an account made of them.

use ledger::account::{NewAccount, Role};

use super::password::{CHARS_MAX, CHARS_MIN};
use super::seal::Column;
use super::{Passwords, Sealer};
use crate::fields::Fields;
use crate::problem::Problem;

/// Returns the one spelling of a log-in name.
pub fn spell(login: &str) -> String {
    login.to_ascii_lowercase()
}

/// Checks a log-in name and a password.
pub fn check(login: &str, password: &str) -> Result<(), Problem> {
    let is_login = (3..=64).contains(&login.len())
        && login.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b));
    let is_password = (CHARS_MIN..=CHARS_MAX).contains(&password.chars().count());
    let mut fields = Fields::default();
    fields.check(is_login, "/login", "3 to 64 ASCII letters, digits and ._@+-");
    fields.check(is_password, "/password", format!("{CHARS_MIN} to {CHARS_MAX} characters"));
    fields.finish()
}

/// Checks, hashes and seals what an account is made of.
pub async fn prepare(
    sealer: &Sealer,
    passwords: &Passwords,
    login: &str,
    password: String,
    role: Role,
) -> Result<NewAccount, Problem> {
    check(login, &password)?;
    let login = spell(login);
    Ok(NewAccount {
        login_hash: sealer.hash(Column::Login, &login),
        login_sealed: sealer.seal(Column::Login, &login)?,
        password_hash: passwords.hash(password).await?,
        role,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_name_is_plain_and_a_password_is_long_enough() {
        assert!(check("li.si+1@example", "12345678").is_ok());
        assert!(check("abc", &"张".repeat(128)).is_ok());
        for (login, password) in [
            ("ab", "12345678"),
            (&*"a".repeat(65), "12345678"),
            ("李四四", "12345678"),
            ("a b", "12345678"),
            ("abc", "1234567"),
            ("abc", &*"1".repeat(129)),
        ] {
            assert!(check(login, password).is_err(), "{login} {password}");
        }
    }
}
