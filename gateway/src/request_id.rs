//! The name of a request: in its answer, in its problem, and in every log line about it.

use std::future::Future;

use axum::http::{HeaderMap, HeaderName};

/// The header it comes and goes in.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const LENGTH_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: String;
}

/// Returns the id of the request this task is answering.
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs `future` as part of the answer to request `id`.
pub fn scope<F: Future>(id: String, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, future)
}

/// Takes the client's id if it is plain, else mints one.
pub fn take_or_mint(headers: &HeaderMap) -> String {
    let plain = |text: &&str| {
        (1..=LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    match headers.get(HEADER).and_then(|value| value.to_str().ok()).filter(plain) {
        Some(id) => id.to_owned(),
        None => format!("{:016x}", rand::random::<u64>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_id_is_taken_over() {
        let take = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().expect("a header value"));
            take_or_mint(&headers)
        };
        assert_eq!(take("a-Z_9"), "a-Z_9");
        for bad in ["", "a b", "\"x\"", &*"x".repeat(65).leak()] {
            assert_eq!(take(bad).len(), 16, "{bad}");
        }
    }
}
