//! The name of a request: in its answer, in its problem, and in every log line about it.

use std::fmt::{self, Display};
use std::future::Future;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

/// The header it comes and goes in.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const LENGTH_MAX: usize = 64;

/// The name of a request. Cheap to clone, and ready to be a header.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Returns it as the value of its header.
    pub fn as_header(&self) -> HeaderValue {
        self.0.clone()
    }

    fn of(plain: &[u8]) -> Self {
        HeaderValue::from_bytes(plain).map(Self).unwrap_or_default()
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self(HeaderValue::from_static(""))
    }
}

impl Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

tokio::task_local! {
    static CURRENT: RequestId;
}

/// Returns the id of the request this task is answering.
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs `future` as part of the answer to request `id`.
pub fn scope<F: Future>(id: RequestId, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, future)
}

/// Takes the client's id if it is plain, else mints one.
pub fn take_or_mint(headers: &HeaderMap) -> RequestId {
    let plain = |text: &&[u8]| {
        (1..=LENGTH_MAX).contains(&text.len())
            && text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-')
    };
    match headers.get(HEADER).map(HeaderValue::as_bytes).filter(plain) {
        Some(id) => RequestId::of(id),
        None => RequestId::of(&hexadecimal(rand::random())),
    }
}

fn hexadecimal(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = number.to_be_bytes();
    std::array::from_fn(|n| {
        let byte = bytes[n / 2];
        DIGITS[usize::from(if n % 2 == 0 { byte >> 4 } else { byte & 15 })]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_id_is_taken_over() {
        let take = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().expect("a header value"));
            take_or_mint(&headers).to_string()
        };
        assert_eq!(take("a-Z_9"), "a-Z_9");
        for bad in ["", "a b", "\"x\"", &*"x".repeat(65).leak()] {
            assert_eq!(take(bad).len(), 16, "{bad}");
        }
        assert_eq!(&hexadecimal(0x0123_4567_89ab_cdef), b"0123456789abcdef");
    }
}
