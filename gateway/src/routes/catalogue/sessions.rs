//! `GET /v1/sessions`

use axum::extract::State;
use axum::response::Response;
use booking::{DepartmentId, DoctorId, SessionId};
use jiff::ToSpan;
use jiff::civil::Date;
use ledger::catalogue::{Session, SessionFilter};
use serde::Deserialize;

use super::view::{SessionView, zone};
use crate::app::App;
use crate::catalogue::count_left;
use crate::extract::Query;
use crate::page::{self, Page};
use crate::problem::{Code, Problem, ProblemBody};

/// How many days a list spans if the client does not say, and at most.
const DAYS_DEFAULT: i64 = 28;
const DAYS_MAX: i32 = 92;

/// Which sessions: of a doctor, or of a department.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionsQuery {
    /// Of this doctor.
    #[param(value_type = Option<String>)]
    doctor_id: Option<DoctorId>,
    /// Of this department.
    #[param(value_type = Option<String>)]
    department_id: Option<DepartmentId>,
    /// First date; today in the hospital's time zone if not said.
    #[param(value_type = Option<String>, format = Date)]
    from: Option<Date>,
    /// Last date, at most 92 days later; 28 if not said.
    #[param(value_type = Option<String>, format = Date)]
    to: Option<Date>,
    /// Where the page begins.
    cursor: Option<String>,
    /// Most items, 1 to 200; 50 if not said.
    limit: Option<u16>,
}

/// List sessions that stand, by date, and what is left of them
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "catalogue",
    params(SessionsQuery),
    responses(
        (status = 200, body = Page<SessionView>),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "No such doctor or department"),
    )
)]
pub async fn sessions(
    State(app): State<App>,
    Query(query): Query<SessionsQuery>,
) -> Result<Response, Problem> {
    let limit = page::limit(query.limit)?;
    let after = page::decode(query.cursor.as_deref(), read_place)?;
    let filter = filter(&query)?;
    check_span(query.from, query.to)?;
    let name = format!("sessions {filter:?} {:?} {:?} {after:?} {limit}", query.from, query.to);
    let make = async || {
        let Some(zone_name) = app.ledger.zone_of(filter).await? else { return Ok(None) };
        let now = app.clock.now();
        let (from, to) = span(&query, now, &zone_name)?;
        let mut rows = app.ledger.sessions(filter, from, to, after, limit + 1).await?;
        count_left(&app.inventory, &mut rows).await;
        Ok(Some(Page::of(rows, limit, write_place, |session| SessionView::of(session, now))))
    };
    super::shared(&app, name, make).await
}

fn filter(query: &SessionsQuery) -> Result<SessionFilter, Problem> {
    match (query.doctor_id, query.department_id) {
        (Some(doctor), None) => Ok(SessionFilter::Doctor(doctor)),
        (None, Some(department)) => Ok(SessionFilter::Department(department)),
        (Some(_), Some(_)) | (None, None) => Err(Problem::new(Code::InvalidField)
            .with_field("?doctor_id", "either this or department_id")),
    }
}

fn check_span(from: Option<Date>, to: Option<Date>) -> Result<(), Problem> {
    let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
    let days = from.until(to).map_or(-1, |span| span.get_days());
    if (0..=DAYS_MAX).contains(&days) {
        return Ok(());
    }
    let detail = format!("0 to {DAYS_MAX} days after from");
    Err(Problem::new(Code::InvalidField).with_field("?to", detail))
}

fn span(
    query: &SessionsQuery,
    now: booking::UnixMs,
    zone_name: &str,
) -> Result<(Date, Date), Problem> {
    let instant = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
    let from = match (query.from, query.to) {
        (Some(from), _) => from,
        (None, _) => instant.to_zoned(zone(zone_name)).date(),
    };
    let to = query.to.unwrap_or_else(|| from.saturating_add(DAYS_DEFAULT.days()));
    check_span(Some(from), Some(to))?;
    Ok((from, to))
}

fn write_place(session: &Session) -> String {
    format!("{} {}", session.on_date, session.id)
}

fn read_place(text: &str) -> Option<(Date, SessionId)> {
    let (date, id) = text.split_once(' ')?;
    Some((date.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use booking::UnixMs;

    use super::*;

    fn query(from: Option<&str>, to: Option<&str>) -> SessionsQuery {
        let date = |text: Option<&str>| text.map(|text| text.parse().expect("a date"));
        SessionsQuery {
            doctor_id: None,
            department_id: None,
            from: date(from),
            to: date(to),
            cursor: None,
            limit: None,
        }
    }

    #[test]
    fn a_list_begins_today_where_the_hospital_is() {
        // 2026-03-01T20:00:00Z is March 2nd in Shanghai.
        let now = UnixMs(1_772_395_200_000);
        let (from, to) = span(&query(None, None), now, "Asia/Shanghai").expect("a span");
        assert_eq!((from.to_string(), to.to_string()), ("2026-03-02".into(), "2026-03-30".into()));
    }

    #[test]
    fn a_span_is_neither_backwards_nor_endless() {
        let now = UnixMs(1_772_395_200_000);
        let judge = |from, to| span(&query(from, to), now, "UTC").is_ok();
        assert!(judge(Some("2026-03-01"), Some("2026-03-01")));
        assert!(judge(Some("2026-03-01"), Some("2026-06-01")));
        assert!(!judge(Some("2026-03-01"), Some("2026-06-02")));
        assert!(!judge(Some("2026-03-02"), Some("2026-03-01")));
        assert!(!judge(None, Some("2025-01-01")));
    }
}
