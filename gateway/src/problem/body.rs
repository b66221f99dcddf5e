//! The document of a problem, and how it is written.

use std::borrow::Cow;

use axum::http::StatusCode;
use serde::Serialize;

use super::FieldError;
use crate::request_id::RequestId;

/// More than most documents take, in bytes.
const BODY_BYTES_MOSTLY: usize = 256;

/// The document on the wire.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Always `about:blank`: the code says it all.
    pub r#type: &'static str,
    /// For people.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The stable word.
    pub code: &'static str,
    /// More, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'static, str>>,
    /// The request id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub instance: Option<RequestId>,
    /// The fields that were wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// When the release opens (RFC 3339), with the hospital's offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<String>,
    /// The limit that was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<&'static str>,
}

impl ProblemBody {
    /// Writes it.
    pub(super) fn into_json(self) -> Vec<u8> {
        if let Some(plain) = self.plain_json() {
            return plain;
        }
        let mut json = Vec::with_capacity(BODY_BYTES_MOSTLY);
        // Writing to memory does not fail, and no part of the document refuses to be written.
        let _ = serde_json::to_writer(&mut json, &self);
        json
    }

    /// Most answers of a rush say no more than their code. Put together by hand, in memory of their exact
    /// size, which becomes a body as it is.
    fn plain_json(&self) -> Option<Vec<u8>> {
        let Self { r#type, title, status: _, code, detail, instance, errors, opens_at, limit } =
            self;
        let id = instance.as_ref()?.as_str();
        let is_plain =
            detail.is_none() && errors.is_empty() && opens_at.is_none() && limit.is_none();
        let status = StatusCode::from_u16(self.status).ok()?;
        let parts = [
            "{\"type\":\"",
            r#type,
            "\",\"title\":\"",
            title,
            "\",\"status\":",
            status.as_str(),
            ",\"code\":\"",
            code,
            "\",\"instance\":\"",
            id,
            "\"}",
        ];
        is_plain.then(|| parts.concat().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;
    use crate::request_id;

    #[test]
    fn what_is_put_together_by_hand_is_what_the_library_writes() {
        use Code as C;
        let codes = [
            C::SlotExhausted,
            C::ReleaseNotOpen,
            C::AlreadyBooked,
            C::Overloaded,
            C::NotFound,
            C::Unauthorized,
            C::IdempotencyKeyMalformed,
            C::UnsupportedMediaType,
            C::Internal,
            C::NotCancellable,
        ];
        for code in codes {
            let body = ProblemBody {
                r#type: "about:blank",
                title: code.title(),
                status: code.status().as_u16(),
                code: code.as_str(),
                detail: None,
                instance: Some(request_id::take_or_mint(&axum::http::HeaderMap::new())),
                errors: Vec::new(),
                opens_at: None,
                limit: None,
            };
            let by_hand = body.plain_json().expect("it is plain");
            assert_eq!(by_hand, serde_json::to_vec(&body).expect("JSON"));
            let more = ProblemBody { limit: Some("account"), ..body };
            assert_eq!(more.plain_json(), None);
        }
    }
}
