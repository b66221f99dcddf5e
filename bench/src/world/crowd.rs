//! Patients with tokens, and the requests they send.

use anyhow::Result;
use booking::SlotId;
use bytes::Bytes;
use hyper::header::HeaderValue;
use ledger::Ledger;
use rush::prepare::{self, Member};
use rush::tokens::Minter;

/// Patients, each with an account, a token and an address of their own.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<(Member, HeaderValue)>,
}

impl Crowd {
    /// Makes accounts and signs their tokens.
    ///
    /// # Errors
    /// If PostgreSQL can't be reached.
    pub async fn gather(ledger: &Ledger, minter: &Minter, patients: u32) -> Result<Self> {
        let members = prepare::gather(ledger, patients).await?;
        let members = members.into_iter().map(|member| Ok((member, minter.mint(member)?)));
        Ok(Self { members: members.collect::<Result<_>>()? })
    }

    /// The same people with new tokens.
    ///
    /// # Errors
    /// If a token can't be signed.
    pub fn renewed(&self, minter: &Minter) -> Result<Self> {
        let members = self.members.iter().map(|(member, _)| Ok((*member, minter.mint(*member)?)));
        Ok(Self { members: members.collect::<Result<_>>()? })
    }

    /// People without accounts, for tests of what they would ask.
    #[cfg(test)]
    pub(crate) fn of_nobody(count: i64) -> Self {
        let member = |id: i64| Member { account: id.into(), patient: id.into() };
        let nothing = HeaderValue::from_static("Bearer none");
        Self { members: (1..=count).map(|id| (member(id), nothing.clone())).collect() }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The request by which patient `number` asks for a slot, at a path; whoever comes after the last
    /// is the first again. One patient asks once for one slot: its key is theirs.
    pub fn booking(&self, path: &str, number: usize, slot: SlotId) -> Bytes {
        let (member, authorization) = &self.members[number % self.members.len()];
        let patient = member.patient;
        let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{patient}"}}"#);
        let authorization = authorization.to_str().unwrap_or_default();
        Bytes::from(format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: {authorization}\r\n\
             x-forwarded-for: {}\r\nidempotency-key: {slot}-{patient}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            address(number % self.members.len()),
            body.len()
        ))
    }

    /// The same wish as headers and a body, for a client that makes the request of them.
    ///
    /// # Errors
    /// If the key can't be a header.
    pub fn wish(
        &self,
        number: usize,
        slot: SlotId,
    ) -> Result<(Vec<(&'static str, HeaderValue)>, Bytes)> {
        let patient = self.members[number % self.members.len()].0.patient;
        let key = HeaderValue::from_str(&format!("{slot}-{patient}"))?;
        let mut headers = self.headers(number).to_vec();
        headers.push(("idempotency-key", key));
        let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{patient}"}}"#);
        Ok((headers, body.into()))
    }

    /// What patient `number` sends with every request.
    pub fn headers(&self, number: usize) -> [(&'static str, HeaderValue); 2] {
        let number = number % self.members.len();
        let address = HeaderValue::from_str(&address(number));
        let address = address.unwrap_or(HeaderValue::from_static("10.0.0.0"));
        [("authorization", self.members[number].1.clone()), ("x-forwarded-for", address)]
    }

    /// The request by which patient `number` asks what became of a booking.
    pub fn status(&self, number: usize, id: &str, wait_s: u8) -> Bytes {
        let query = if wait_s > 0 { format!("?wait={wait_s}") } else { String::new() };
        self.get(number, &format!("/v1/bookings/{id}{query}"))
    }

    /// The request by which patient `number` follows a booking.
    pub fn events(&self, number: usize, id: &str) -> Bytes {
        self.get(number, &format!("/v1/bookings/{id}/events"))
    }

    fn get(&self, number: usize, path: &str) -> Bytes {
        let (_, authorization) = &self.members[number % self.members.len()];
        let authorization = authorization.to_str().unwrap_or_default();
        Bytes::from(format!(
            "GET {path} HTTP/1.1\r\nhost: bench\r\n\
             authorization: {authorization}\r\nx-forwarded-for: {}\r\n\r\n",
            address(number % self.members.len()),
        ))
    }
}

/// An address of a patient's own.
fn address(number: usize) -> String {
    let [.., high, middle, low] = number.to_be_bytes();
    format!("10.{high}.{middle}.{low}")
}
