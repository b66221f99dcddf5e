//! Which problems each route may answer. What follows from how a route is called is derived here;
//! what it decides by itself is listed.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Content, Header, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder};

use crate::problem::Code;

const MEDIA_TYPE: &str = "application/problem+json";

/// Writes the problems of every route into the document.
pub(super) fn write(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
            for code in codes(method, path, operation) {
                let words = by_status.entry(code.status().as_u16()).or_default();
                if !words.contains(&code.as_str()) {
                    words.push(code.as_str());
                }
            }
            let responses = &mut operation.responses.responses;
            for (status, words) in by_status {
                let said = match responses.get(&status.to_string()) {
                    Some(RefOr::T(response)) => response.description.clone(),
                    Some(RefOr::Ref(_)) | None => String::new(),
                };
                responses.insert(status.to_string(), RefOr::T(problem(status, &words, &said)));
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, post, delete, .. } = item;
    [("get", get), ("post", post), ("delete", delete)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn codes(method: &str, path: &str, operation: &Operation) -> Vec<Code> {
    let mut codes = vec![Code::RateLimited, Code::Internal, Code::Overloaded];
    if path != "/v1/time" {
        codes.push(Code::LedgerUnavailable);
    }
    if operation.security.is_some() {
        codes.push(Code::Unauthorized);
    }
    if path.starts_with("/v1/admin/") {
        codes.push(Code::Forbidden);
    }
    if path.contains('{') {
        codes.push(Code::NotFound);
    }
    if operation.request_body.is_some() {
        codes.extend([Code::InvalidField, Code::MalformedJson, Code::RequestTimeout]);
        codes.extend([Code::BodyTooLarge, Code::UnsupportedMediaType]);
    }
    let mut parameters = operation.parameters.iter().flatten();
    let is_query = |one: &RefOr<_>| {
        matches!(
            one,
            RefOr::T(utoipa::openapi::path::Parameter { parameter_in: ParameterIn::Query, .. })
        )
    };
    if parameters.any(is_query) {
        codes.push(Code::InvalidField);
    }
    codes.extend(own(method, path));
    codes
}

/// What a route decides by itself.
fn own(method: &str, path: &str) -> &'static [Code] {
    match (method, path) {
        ("post", "/v1/bookings") => &[
            Code::IdempotencyKeyMissing,
            Code::IdempotencyKeyMalformed,
            Code::NotFound,
            Code::ReleaseNotOpen,
            Code::ReleasePaused,
            Code::ReleaseClosed,
            Code::NotPreheated,
            Code::SlotBegun,
            Code::SlotExhausted,
            Code::AlreadyBooked,
            Code::LimitReached,
            Code::IdempotencyKeyReused,
            Code::QuotaRecovering,
            Code::InventoryUnavailable,
            Code::BrokerUnavailable,
        ],
        ("get", "/v1/bookings/{id}" | "/v1/bookings/{id}/events") => {
            &[Code::QuotaRecovering, Code::InventoryUnavailable]
        }
        ("post", "/v1/bookings/{id}/cancel") => &[
            Code::NotCancellable,
            Code::CancelTooLate,
            Code::QuotaRecovering,
            Code::InventoryUnavailable,
        ],
        ("post", "/v1/accounts") => &[Code::LoginTaken],
        ("post", "/v1/tokens") => &[Code::InvalidCredentials],
        ("post", "/v1/tokens/refresh") => &[Code::Unauthorized],
        ("post", "/v1/patients") => &[Code::PatientLimitReached],
        ("get", "/v1/sessions") => &[Code::NotFound],
        ("post", "/v1/admin/sessions") => &[Code::Conflict, Code::SlotBegun, Code::SessionOverlap],
        ("post", "/v1/admin/parked/{id}/replay" | "/v1/admin/parked/{id}/discard") => {
            &[Code::Conflict]
        }
        ("post", "/v1/admin/releases") => &[Code::Conflict, Code::SlotBegun],
        (
            "post",
            "/v1/admin/releases/{id}/preheat"
            | "/v1/admin/releases/{id}/pause"
            | "/v1/admin/releases/{id}/resume",
        ) => &[Code::ReleaseState],
        _ => &[],
    }
}

fn problem(status: u16, words: &[&'static str], said: &str) -> Response {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    let mut description = quoted.join(", ");
    if !said.is_empty() {
        description.push_str(". ");
        description.push_str(said);
    }
    let code = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(words.iter().copied()));
    let narrowed = ObjectBuilder::new().property("code", code);
    let schema = AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(narrowed);
    let mut response = ResponseBuilder::new()
        .description(description)
        .content(MEDIA_TYPE, Content::new(Some(RefOr::from(schema))));
    if status == 429 || status == 503 {
        let seconds = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
        response = response.header("Retry-After", Header::new(seconds));
    }
    response.build()
}
