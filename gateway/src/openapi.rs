//! The OpenAPI document, made from the routes themselves.

mod problems;

use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use crate::problem::ProblemBody;
use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Slotrush",
        description = "Booking of hospital appointments through the rush of a release. \
            Ids are decimal strings. Errors are RFC 9457 problems with a stable `code`.",
    ),
    servers(
        (url = "http://127.0.0.1:8080", description = "A gateway as it starts without settings"),
    ),
    components(schemas(ProblemBody))
)]
struct Base;

/// Returns the document's frame, for the routes to be added to.
pub fn base() -> utoipa::openapi::OpenApi {
    let mut document = Base::openapi();
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    document
}

/// Returns the document as indented JSON with a line end.
pub fn text() -> String {
    let mut document = routes::router().into_openapi();
    problems::write(&mut document);
    document.to_pretty_json().unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_what_the_routes_say() {
        let committed = include_str!("../../docs/openapi.json");
        assert!(committed == text(), "run: cargo run -p gateway -- openapi > docs/openapi.json");
    }

    #[test]
    fn it_is_openapi_3_1_and_every_booking_route_is_in_it() {
        let document: serde_json::Value = serde_json::from_str(&text()).expect("JSON");
        assert_eq!(document["openapi"], "3.1.0");
        for (path, method) in [
            ("/v1/bookings", "post"),
            ("/v1/bookings", "get"),
            ("/v1/bookings/{id}", "get"),
            ("/v1/bookings/{id}/events", "get"),
            ("/v1/bookings/{id}/cancel", "post"),
        ] {
            let responses = &document["paths"][path][method]["responses"];
            for status in ["401", "429", "500", "503"] {
                assert!(responses[status].is_object(), "{method} {path} {status}");
            }
        }
    }
}
