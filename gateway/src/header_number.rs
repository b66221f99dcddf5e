//! Numbers as values of headers.

use axum::http::HeaderValue;

/// Each number below a hundred has its text here: most numbers in headers are small, and each answer to a
/// wish has three.
const SMALL: usize = 100;
const PAIRS: [u8; 2 * SMALL] = {
    let mut digits = [b'0'; 2 * SMALL];
    let mut at = 0;
    let mut number = 0;
    while at < digits.len() {
        digits[at] = b'0' + number / 10;
        digits[at + 1] = b'0' + number % 10;
        number += 1;
        at += 2;
    }
    digits
};

/// Writes a number; a small one without taking memory for it.
pub fn of(number: u64) -> HeaderValue {
    static TEXT: &[u8] = &PAIRS;
    let small = usize::try_from(number).ok().filter(|small| *small < SMALL).and_then(|small| {
        let pair = &TEXT[2 * small..2 * small + 2];
        std::str::from_utf8(if small < 10 { &pair[1..] } else { pair }).ok()
    });
    small.map_or_else(|| HeaderValue::from(number), HeaderValue::from_static)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_by_the_library() {
        for number in (0..1_000).chain([u64::MAX - 1, u64::MAX]) {
            assert_eq!(of(number), HeaderValue::from(number));
        }
    }
}
