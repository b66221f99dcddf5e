//! How much one patient may hold at once, as data.
//!
//! The hospital sets the numbers. They are judged twice: at admission, from what the gateway
//! knows, and with the last word where the booking is persisted.

use serde::{Deserialize, Serialize};

/// A hospital's limits on the live bookings of one patient. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Live bookings whose sessions fall on one date.
    pub per_day_max: Option<u16>,
    /// Live bookings in one department on one date.
    pub per_department_day_max: Option<u16>,
    /// Live bookings whose sessions fall within any seven days ending with or starting from the date.
    pub per_week_max: Option<u16>,
}

/// What a patient already holds around the date of a session, counted over live bookings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// On the same date.
    pub day: u16,
    /// On the same date in the same department.
    pub department_day: u16,
    /// Within six days before or after the date, the date included.
    pub week: u16,
}

impl Limits {
    /// Tells whether one more booking would break a limit.
    pub fn is_reached(&self, held: Held) -> bool {
        let full = |held: u16, max: Option<u16>| max.is_some_and(|max| held >= max);
        full(held.day, self.per_day_max)
            || full(held.department_day, self.per_department_day_max)
            || full(held.week, self.per_week_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_binds_at_its_number_and_no_limit_never() {
        let held = Held { day: 2, department_day: 1, week: 2 };
        let limits =
            Limits { per_day_max: Some(3), per_department_day_max: None, per_week_max: Some(3) };
        assert!(!limits.is_reached(held));
        assert!(limits.is_reached(Held { day: 3, ..held }));
        assert!(!Limits::default().is_reached(Held { day: u16::MAX, ..held }));
    }
}
