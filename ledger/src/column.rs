//! What a column's value means in the domain, and the reverse.

use booking::{Digest, Partition};

/// A stored value that this version cannot read.
pub(crate) fn unreadable(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

/// Reads a count or ordinal.
pub(crate) fn count(stored: i32) -> Result<u32, sqlx::Error> {
    u32::try_from(stored).map_err(|_| unreadable("a count is not negative"))
}

/// Writes a count; one that does not fit becomes the largest, which no check lets pass.
pub(crate) fn stored_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Reads a partition's number.
pub(crate) fn partition(stored: i16) -> Result<Partition, sqlx::Error> {
    u8::try_from(stored)
        .ok()
        .filter(|number| *number < booking::partition::PARTITIONS_MAX)
        .map(Partition::new)
        .ok_or_else(|| unreadable("a partition is below 64"))
}

/// Writes a partition's number.
pub(crate) fn stored_partition(partition: Partition) -> i16 {
    i16::from(partition.get())
}

/// Reads a digest.
pub(crate) fn digest(stored: &[u8]) -> Result<Digest, sqlx::Error> {
    let bytes = stored.try_into().map_err(|_| unreadable("a digest has 16 bytes"))?;
    Ok(Digest::from_bytes(bytes))
}

/// Reads one of the stored words.
pub(crate) fn word<T: std::str::FromStr>(stored: &str) -> Result<T, sqlx::Error> {
    stored.parse().map_err(|_| unreadable("a word this version does not know"))
}
