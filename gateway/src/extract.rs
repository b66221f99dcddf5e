//! What a handler takes from a request, with faults as problems that point at the field.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};
use crate::server::body;
use crate::words;

/// The largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 4096;

/// The largest body of an admin's request, in bytes: a release of thousands of slots.
pub const WIDE_BODY_BYTES_MAX: usize = 512 * 1024;

/// A JSON body. Request types say `#[serde(deny_unknown_fields)]`. Also an answer.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        Self::read(json_body(request)?).await
    }
}

impl<T: DeserializeOwned> Json<T> {
    /// Reads what [`json_body`] took from a request, at most [`BODY_BYTES_MAX`].
    ///
    /// # Errors
    /// The problem to answer with: too large, too late, not as announced, or not the JSON that is wanted.
    pub async fn read(body: Body) -> Result<Self, Problem> {
        read(body, BODY_BYTES_MAX).await.map(Self)
    }
}

/// Takes the body of a request, if the request says that it is JSON. A handler that waits keeps nothing else
/// of the request then.
///
/// # Errors
/// Another media type, or an encoding.
pub fn json_body(request: Request) -> Result<Body, Problem> {
    if is_json(request.headers()) && !is_encoded(request.headers()) {
        Ok(request.into_body())
    } else {
        Err(Code::UnsupportedMediaType.into())
    }
}

/// A larger JSON body, for admins. Take [`crate::auth::Admin`] first: nobody else may send so much.
#[derive(Debug)]
pub struct WideJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for WideJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read(json_body(request)?, WIDE_BODY_BYTES_MAX).await.map(Self)
    }
}

/// Answers with text that is JSON already.
pub fn json_text(text: Bytes) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        if let Ok(bytes) = serde_json::to_vec(&self.0) {
            json_text(bytes.into())
        } else {
            tracing::error!("an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The last, or only, parameter of the path, parsed as an id. What is no id names nothing: 404.
#[derive(Debug)]
pub struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(Code::NotFound))?;
        let last = params.iter().last().and_then(|(_, value)| value.parse().ok());
        last.map(Self).ok_or_else(|| Code::NotFound.into())
    }
}

/// The query string. Query types say `#[serde(deny_unknown_fields)]`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let cause = std::error::Error::source(&rejection)
                    .map_or_else(|| "not a valid query".to_owned(), ToString::to_string);
                Err(query_fault(&cause))
            }
        }
    }
}

async fn read<T: DeserializeOwned>(body: Body, bytes_max: usize) -> Result<T, Problem> {
    parse(&whole(body, bytes_max).await?)
}

/// Nearly every body comes in one part, and is read where it lies.
async fn whole(mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|fault| read_fault(&fault))?;
        // Trailers say nothing here.
        let Ok(part) = frame.into_data() else { continue };
        if first.len() + rest.len() + part.len() > bytes_max {
            return Err(Problem::new(Code::BodyTooLarge)
                .with_field("", format!("at most {bytes_max} bytes")));
        }
        if first.is_empty() {
            first = part;
        } else {
            rest.extend_from_slice(&part);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if rest.is_empty() { first } else { [&first[..], &rest].concat().into() })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Nothing is ever inflated: a small body that becomes a large one would pass every bound.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn read_fault(error: &axum::Error) -> Problem {
    if body::is_caused_by::<body::Late>(error) {
        Code::RequestTimeout.into()
    } else {
        // Chunks that are none, or fewer bytes than were announced.
        Problem::new(Code::MalformedJson).with_field("", "the body does not come as announced")
    }
}

/// The text is what is wrong, behind the name of the parameter where it belongs to one.
fn query_fault(text: &str) -> Problem {
    let (name, text) = text.split_once(": ").unwrap_or(("", text));
    let fault = words::of(text);
    let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let name = fault.field.or(unknown).unwrap_or(name);
    Problem::new(Code::InvalidField).with_field(format!("?{name}"), fault.detail)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // The library would also read an array of values as an object without names.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::new(Code::InvalidField).with_field("", "expected an object"));
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    // Once more, with an eye on where it goes wrong: to keep account of that costs as much again.
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| fault(&error))?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn fault(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let inner = error.inner();
    match inner.classify() {
        serde_json::error::Category::Data => {
            let text = inner.to_string();
            let fault = words::of(&text);
            let mut at = pointer(error.path());
            // A field that is missing, or given twice, is no part of the path.
            if let Some(field) = fault.field.map(escaped).filter(|field| !at.ends_with(field)) {
                at += &field;
            }
            Problem::new(Code::InvalidField).with_field(at, fault.detail)
        }
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => malformed(inner),
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Code::MalformedJson)
        .with_field("", format!("line {}, column {}", error.line(), error.column()))
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let part = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => escaped(key),
        Segment::Enum { variant } => escaped(variant),
        Segment::Unknown => String::new(),
    };
    path.iter().map(part).collect()
}

fn escaped(name: impl Display) -> String {
    format!("/{}", name.to_string().replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use booking::PatientId;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wish {
        #[expect(dead_code, reason = "only its parsing is looked at")]
        patients: Vec<PatientId>,
    }

    fn fault_of(body: &str) -> (Code, String) {
        let problem = parse::<Wish>(body.as_bytes()).expect_err("a fault");
        (problem.code(), format!("{problem:?}"))
    }

    #[test]
    fn a_wrong_field_is_pointed_at() {
        let (code, text) = fault_of(r#"{"patients":["1","-2"]}"#);
        assert_eq!(code, Code::InvalidField);
        assert!(text.contains("\"/patients/1\""), "{text}");
        for (body, pointer) in [
            (r#"{"patients":[],"extra":1}"#, "\"/extra\""),
            ("{}", "\"/patients\""),
            (r#"{"patients":[],"patients":[]}"#, "\"/patients\""),
        ] {
            let (code, text) = fault_of(body);
            assert_eq!(code, Code::InvalidField);
            assert!(text.contains(pointer), "{text}");
        }
    }

    #[test]
    fn a_wrong_query_is_pointed_at() {
        for (text, pointer) in [
            ("limit: invalid digit found in string", "\"?limit\""),
            ("missing field `hospital_id`", "\"?hospital_id\""),
            ("unknown: unknown field `unknown`, expected `limit`", "\"?unknown\""),
        ] {
            let text = format!("{:?}", query_fault(text));
            assert!(text.contains(pointer), "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_not_repeated() {
        let (_, text) = fault_of(r#"{"patients":"110101199003070011"}"#);
        assert!(!text.contains("110101"), "{text}");
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in ["", "{", "{\"patients\":[]} x", "nul"] {
            assert_eq!(fault_of(body).0, Code::MalformedJson, "{body:?}");
        }
    }
}
