//! Waiting for a condition, and names nobody else uses.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use rand::Rng;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `probe` again and again (every 10 ms) until it gives a value; fails with `what` after `within`.
pub async fn eventually<T, F, Fut>(what: &str, within: Duration, mut probe: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        // A probe that hangs must not outlive the deadline, but the first try always counts.
        match tokio::time::timeout_at(deadline.max(Instant::now() + PAUSE), probe()).await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Ok(None) | Err(_) => bail!("{what}: not within {within:?}"),
        }
    }
}

/// A short name nobody else uses: `t` + random.
pub fn unique() -> String {
    format!("t{}", random_text(11))
}

/// Random lower-case letters and digits.
pub(crate) fn random_text(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_comes_true_is_returned() {
        let mut tries = 0;
        let got = eventually("three tries", Duration::from_secs(5), || {
            tries += 1;
            let value = (tries == 3).then_some(tries);
            async move { value }
        })
        .await;
        assert_eq!(got.expect("third try"), 3);
    }

    #[tokio::test]
    async fn a_condition_that_never_comes_true_fails_with_its_name() {
        let got = eventually("the moon", Duration::from_millis(30), || async { None::<()> }).await;
        assert!(got.expect_err("must fail").to_string().contains("the moon"));
    }

    #[test]
    fn names_are_short_and_differ() {
        let name = unique();
        assert!(name.starts_with('t') && name.len() == 12, "{name}");
        assert_ne!(name, unique());
    }
}
