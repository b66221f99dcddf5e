//! What a gateway said, held against what the document says it may.

use std::sync::LazyLock;

use serde_json::Value;

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) json: Value,
}

impl Answer {
    /// Fails for an answer to `POST /v1/bookings` that the OpenAPI document does not name.
    pub(crate) fn documented(self) -> Self {
        static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
            serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("JSON")
        });
        let responses = &DOCUMENT["paths"]["/v1/bookings"]["post"]["responses"];
        let said = &responses[self.status.to_string()];
        let (status, code) = self.code();
        assert!(said.is_object(), "{status} is not documented");
        if status >= 400 {
            let schema = &said["content"]["application/problem+json"]["schema"];
            let codes = schema["allOf"][1]["properties"]["code"]["enum"].as_array();
            let is_named = codes.is_some_and(|codes| codes.iter().any(|one| one == code));
            assert!(is_named, "{status} {code} is not documented");
        }
        self
    }

    pub(crate) async fn read(response: reqwest::Response) -> anyhow::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Self { status, headers, json })
    }

    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.json["code"].as_str().unwrap_or_default())
    }

    pub(crate) fn status(&self) -> (u16, &str) {
        (self.status, self.json["status"].as_str().unwrap_or_default())
    }

    pub(crate) fn id(&self) -> &str {
        self.json["id"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
