//! The HTTP program: admission, status, administration. The only crate that speaks axum.

pub mod app;
pub mod auth;
pub mod catalogue;
pub mod extract;
pub mod fields;
pub mod page;
pub mod problem;
pub mod request_id;
pub mod routes;
pub mod server;
pub mod settings;

use booking::UnixMs;
use jiff::tz::TimeZone;

pub use app::App;
pub use settings::Settings;

/// Writes an instant as RFC 3339 with the offset of `zone`, to the millisecond.
pub fn time_text(at: UnixMs, zone: &TimeZone) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_carries_the_hospitals_offset() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(time_text(UnixMs(0), &zone), "1970-01-01T08:00:00.000+08:00");
    }
}
