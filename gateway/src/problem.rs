//! Errors of the HTTP face, in the form of RFC 9457, and the one place that names them.

mod body;

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use booking::UnixMs;
use serde::Serialize;

use crate::header_number;
use crate::limits::Allowance;
use crate::request_id;
use crate::time_text;

pub use body::ProblemBody;

/// The stable word for what went wrong. Clients act on it; it never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is not JSON.
    MalformedJson,
    /// A field of body, path or query is missing, unknown or out of range.
    InvalidField,
    /// `Idempotency-Key` is missing.
    IdempotencyKeyMissing,
    /// `Idempotency-Key` is not 1 to 64 visible ASCII characters.
    IdempotencyKeyMalformed,
    /// No token, or one that is not good here.
    Unauthorized,
    /// Login and password do not belong together.
    InvalidCredentials,
    /// The role may not do this.
    Forbidden,
    /// There is no such thing, or it is someone else's.
    NotFound,
    /// The path knows other methods.
    MethodNotAllowed,
    /// The request did not come in time.
    RequestTimeout,
    /// The login name is in use.
    LoginTaken,
    /// The account acts for as many patients as it may.
    PatientLimitReached,
    /// The release opens later.
    ReleaseNotOpen,
    /// The release is paused.
    ReleasePaused,
    /// The release is over.
    ReleaseClosed,
    /// The slot has begun: it is neither booked nor put on offer any more.
    SlotBegun,
    /// No place is left in the slot now.
    SlotExhausted,
    /// The patient has a live booking in this session.
    AlreadyBooked,
    /// The patient reached one of the hospital's limits.
    LimitReached,
    /// The slot's places are not on offer yet.
    NotPreheated,
    /// The booking is not one that can be cancelled now.
    NotCancellable,
    /// The slot has begun.
    CancelTooLate,
    /// The release is in a state that does not allow this.
    ReleaseState,
    /// The doctor has another session then.
    SessionOverlap,
    /// The thing is not in a state that allows this, or clashes with another.
    Conflict,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// The same `Idempotency-Key` came before with another request.
    IdempotencyKeyReused,
    /// Too many requests from one source.
    RateLimited,
    /// A fault of this program.
    Internal,
    /// More work than this gateway takes.
    Overloaded,
    /// The slot's quota is being put in order after a loss.
    QuotaRecovering,
    /// Redis does not answer.
    InventoryUnavailable,
    /// RabbitMQ takes nothing.
    BrokerUnavailable,
    /// PostgreSQL does not answer.
    LedgerUnavailable,
}

impl Code {
    /// Returns the word on the wire.
    pub const fn as_str(self) -> &'static str {
        self.parts().0
    }

    /// Returns the HTTP status.
    pub const fn status(self) -> StatusCode {
        self.parts().1
    }

    /// Returns the title for people.
    pub const fn title(self) -> &'static str {
        self.parts().2
    }

    #[rustfmt::skip]
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::MalformedJson => ("malformed_json", S::BAD_REQUEST, "The body is not valid JSON"),
            Self::InvalidField => ("invalid_field", S::BAD_REQUEST, "A field is not valid"),
            Self::IdempotencyKeyMissing => ("idempotency_key_missing", S::BAD_REQUEST, "Idempotency-Key is missing"),
            Self::IdempotencyKeyMalformed => ("idempotency_key_malformed", S::BAD_REQUEST, "Idempotency-Key must be 1 to 64 visible ASCII characters"),
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid access token is needed"),
            Self::InvalidCredentials => ("invalid_credentials", S::UNAUTHORIZED, "Login or password is wrong"),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "Not allowed for this account"),
            Self::NotFound => ("not_found", S::NOT_FOUND, "Not found"),
            Self::MethodNotAllowed => ("method_not_allowed", S::METHOD_NOT_ALLOWED, "Method not allowed"),
            Self::RequestTimeout => ("request_timeout", S::REQUEST_TIMEOUT, "The request took too long to arrive"),
            Self::LoginTaken => ("login_taken", S::CONFLICT, "This login is in use"),
            Self::PatientLimitReached => ("patient_limit_reached", S::CONFLICT, "No more patients fit this account"),
            Self::ReleaseNotOpen => ("release_not_open", S::CONFLICT, "The release is not open yet"),
            Self::ReleasePaused => ("release_paused", S::CONFLICT, "The release is paused"),
            Self::ReleaseClosed => ("release_closed", S::CONFLICT, "The release is closed"),
            Self::SlotBegun => ("slot_begun", S::CONFLICT, "The slot has begun"),
            Self::SlotExhausted => ("slot_exhausted", S::CONFLICT, "No place is left in this slot"),
            Self::AlreadyBooked => ("already_booked", S::CONFLICT, "The patient already has a booking in this session"),
            Self::LimitReached => ("limit_reached", S::CONFLICT, "The patient reached a limit of the hospital"),
            Self::NotPreheated => ("not_preheated", S::CONFLICT, "The slot is not on offer"),
            Self::NotCancellable => ("not_cancellable", S::CONFLICT, "This booking can not be cancelled"),
            Self::CancelTooLate => ("cancel_too_late", S::CONFLICT, "It is too late to cancel"),
            Self::ReleaseState => ("release_state", S::CONFLICT, "The release is in a state that does not allow this"),
            Self::SessionOverlap => ("session_overlap", S::CONFLICT, "The doctor has another session then"),
            Self::Conflict => ("conflict", S::CONFLICT, "Not possible in the present state"),
            Self::BodyTooLarge => ("body_too_large", S::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UnsupportedMediaType => ("unsupported_media_type", S::UNSUPPORTED_MEDIA_TYPE, "The body must be application/json"),
            Self::IdempotencyKeyReused => ("idempotency_key_reused", S::UNPROCESSABLE_ENTITY, "This Idempotency-Key stands for another request"),
            Self::RateLimited => ("rate_limited", S::TOO_MANY_REQUESTS, "Too many requests"),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Something went wrong here"),
            Self::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "Too much is going on right now"),
            Self::QuotaRecovering => ("quota_recovering", S::SERVICE_UNAVAILABLE, "Quota is being put in order"),
            Self::InventoryUnavailable => ("inventory_unavailable", S::SERVICE_UNAVAILABLE, "Quota can not be reached"),
            Self::BrokerUnavailable => ("broker_unavailable", S::SERVICE_UNAVAILABLE, "Bookings can not be taken right now"),
            Self::LedgerUnavailable => ("ledger_unavailable", S::SERVICE_UNAVAILABLE, "Bookings can not be read or written right now"),
        }
    }
}

/// One field that was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body, or `?name` and `{name}` for query and path.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    retry_after_s: Option<u32>,
    opens_at: Option<String>,
    limit: Option<&'static str>,
    allowance: Option<Allowance>,
}

impl Problem {
    /// Starts a problem. Those with status 429 and 503 say to come back after a second.
    pub const fn new(code: Code) -> Self {
        let retry_after_s = match code.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        Self {
            code,
            detail: None,
            errors: Vec::new(),
            retry_after_s,
            opens_at: None,
            limit: None,
            allowance: None,
        }
    }

    /// Returns the code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Says in one line what is wrong, for a terminal.
    pub fn summary(&self) -> String {
        let fields = self.errors.iter().map(|one| format!("{}: {}", one.pointer, one.detail));
        let fields: Vec<String> = fields.collect();
        format!("{} ({})", self.code.title(), fields.join("; "))
    }

    /// Adds a sentence for people. No personal data.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says when to come back, in whole seconds (at least one).
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Says when the release opens.
    #[must_use]
    pub fn with_opens_at(mut self, opens_at: UnixMs, zone: &jiff::tz::TimeZone) -> Self {
        self.opens_at = Some(time_text(opens_at, zone));
        self
    }

    /// Names the limit that was reached.
    #[must_use]
    pub const fn with_limit(mut self, limit: &'static str) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Says what the source has left of its rate.
    #[must_use]
    pub const fn with_allowance(mut self, allowance: Allowance) -> Self {
        self.allowance = Some(allowance);
        self
    }

    /// Points at a field.
    #[must_use]
    pub fn with_field(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

/// What a failed call to PostgreSQL means for the client. The fault itself is logged here, once.
impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Self {
        use ledger::Error as E;
        match error {
            E::Unavailable(_) => Code::LedgerUnavailable.into(),
            E::Contended => Code::Overloaded.into(),
            E::Refused { constraint } => {
                tracing::warn!(constraint, "the ledger refused");
                Self::new(Code::Conflict).with_detail(constraint)
            }
            E::Unexpected(source) => {
                tracing::error!(error = %source, "unexpected answer of PostgreSQL");
                Code::Internal.into()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = ProblemBody {
            r#type: "about:blank",
            title: self.code.title(),
            status: status.as_u16(),
            code: self.code.as_str(),
            detail: self.detail,
            instance: request_id::current(),
            errors: self.errors,
            opens_at: self.opens_at,
            limit: self.limit,
        };
        let mut response = Response::new(Body::from(body.into_json()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allowance) = self.allowance {
            allowance.write(headers);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, header_number::of(seconds.into()));
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
