//! Values packed with commas, small enough for Redis to keep a session in one listpack.
//!
//! The scripts write and read the same forms; here is what Rust needs of them.

use booking::Booking;

/// A slot's counters, in the shortest form that tells them: `granted` while all of it is left,
/// `left,granted,sold` if the session's release binds the slot, else `left,granted,sold,release`.
///
/// Any three numbers have a form, also those that break `granted = left + sold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) left: u32,
    pub(crate) granted: u32,
    pub(crate) sold: u32,
}

impl Counters {
    /// Reads any of the forms; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(granted) = text.parse() {
            return Some(Self { left: granted, granted, sold: 0 });
        }
        let mut words = text.split(',');
        let mut next = || words.next()?.parse::<u32>().ok();
        let counters = Self { left: next()?, granted: next()?, sold: next()? };
        let is_release = words.next().is_none_or(|release| release.parse::<i64>().is_ok());
        (is_release && words.next().is_none()).then_some(counters)
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
    fn counters_are_one_number_or_three_and_perhaps_a_release() {
        let counters = Counters { left: 3, granted: 10, sold: 7 };
        assert_eq!(Counters::parse("3,10,7,42"), Some(counters));
        assert_eq!(Counters::parse("3,10,7"), Some(counters));
        let whole = Counters { left: 10, granted: 10, sold: 0 };
        assert_eq!(Counters::parse("10"), Some(whole));
        for bad in
            ["", "-1", "x", "3,10", "3,10,7,", "3,10,7,42,1", "-3,10,7,42", "3,10,x,42", "3,,7,42"]
        {
            assert_eq!(Counters::parse(bad), None, "{bad:?}");
        }
    }
}
