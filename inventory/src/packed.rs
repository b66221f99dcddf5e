//! Values packed with commas, small enough for Redis to keep a session in one listpack.
//!
//! The scripts write and read the same forms; here is what Rust needs of them.

use booking::Booking;

/// A slot's counters, `left,granted,sold,release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) left: u32,
    pub(crate) granted: u32,
    pub(crate) sold: u32,
}

impl Counters {
    /// Reads the packed form; `None` if it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(',');
        let mut next = || words.next()?.parse::<u32>().ok();
        let counters = Self { left: next()?, granted: next()?, sold: next()? };
        let has_release = words.next().is_some_and(|release| release.parse::<i64>().is_ok());
        (has_release && words.next().is_none()).then_some(counters)
    }
}

/// Packs what is remembered of a patient's booking: `id,key,request,epoch,live`.
pub(crate) fn entry(booking: &Booking, is_live: bool) -> String {
    let Booking { id, key, request, epoch, .. } = booking;
    format!("{id},{key},{request},{epoch},{}", u8::from(is_live))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_three_numbers_and_a_release() {
        let counters = Counters { left: 3, granted: 10, sold: 7 };
        assert_eq!(Counters::parse("3,10,7,42"), Some(counters));
        for bad in ["", "3,10,7", "3,10,7,", "3,10,7,42,1", "-3,10,7,42", "3,10,x,42", "3,,7,42"] {
            assert_eq!(Counters::parse(bad), None, "{bad:?}");
        }
    }
}
