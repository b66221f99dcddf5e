//! Lists in pages, with cursors that are nobody's business but ours.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::problem::{Code, Problem};

/// Most items of a page.
pub const LIMIT_MAX: u16 = 200;

/// Items of a page if the client does not say.
pub const LIMIT_DEFAULT: u16 = 50;

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of at most `limit` of `items`, which are one more if there is a next page.
    pub fn of<I>(
        mut rows: Vec<I>,
        limit: u16,
        place: impl Fn(&I) -> String,
        view: impl Fn(I) -> T,
    ) -> Self {
        let has_more = rows.len() > usize::from(limit);
        rows.truncate(usize::from(limit));
        let next_cursor = rows.last().filter(|_| has_more).map(|last| encode(&place(last)));
        Self { items: rows.into_iter().map(view).collect(), next_cursor }
    }
}

/// Returns how many items the client gets.
pub fn limit(asked: Option<u16>) -> Result<u16, Problem> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => {
            Err(Problem::new(Code::InvalidField).with_field("?limit", format!("1 to {LIMIT_MAX}")))
        }
    }
}

/// Reads a cursor.
pub fn decode<T>(
    cursor: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|raw| String::from_utf8(raw).ok());
    let place = text.and_then(|text| parse(&text));
    place.map(Some).ok_or_else(|| {
        Problem::new(Code::InvalidField).with_field("?cursor", "not a cursor of this list")
    })
}

/// Reads a cursor that is one id.
pub fn decode_id<T: std::str::FromStr>(cursor: Option<&str>) -> Result<Option<T>, Problem> {
    decode(cursor, |text| text.parse().ok())
}

fn encode(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_on_and_the_last_page_has_none() {
        let page = Page::of(vec![5, 6, 7], 2, ToString::to_string, |n| n * 10);
        assert_eq!(page.items, [50, 60]);
        let next: Option<i32> = decode_id(page.next_cursor.as_deref()).expect("reads back");
        assert_eq!(next, Some(6));
        assert!(Page::of(vec![7], 2, ToString::to_string, |n| n).next_cursor.is_none());
        assert!(decode_id::<i32>(Some("!!")).is_err());
    }
}
