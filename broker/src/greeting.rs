//! The server's greeting: `connection.start`, the only place where it tells its version.
//!
//! lapin 4.12 reads it and keeps it to itself, so one short connection asks again. Which
//! arguments a queue may carry depends on it (see [`crate::topology`]).

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};

use crate::fault::Fault;

/// What a client says first: AMQP 0-9-1.
const HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// Class and method of `connection.start`.
const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];
/// More than any server says of itself.
const GREETING_BYTES_MAX: usize = 64 * 1024;

/// A server's version, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u16,
}

/// Reads the version out of the greeting.
pub(crate) async fn read_version(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<Version, Fault> {
    stream.write_all(&HEADER).await?;
    // Frame: type, channel (2), size (4), payload; the end mark is not waited for.
    let mut frame = [0; 7];
    stream.read_exact(&mut frame).await?;
    let [1, 0, 0, size @ ..] = frame else {
        return Err(Fault::Greeting("no method frame"));
    };
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if size > GREETING_BYTES_MAX {
        return Err(Fault::Greeting("too long"));
    }
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload).await?;
    parse(&payload)
}

fn parse(payload: &[u8]) -> Result<Version, Fault> {
    // Class, method, then two bytes of protocol version, then the properties.
    let Some((CONNECTION_START, rest)) =
        payload.split_at_checked(4).and_then(|(id, rest)| Some((id.try_into().ok()?, rest)))
    else {
        return Err(Fault::Greeting("not connection.start"));
    };
    let properties = rest.get(2..).ok_or(Fault::Greeting("cut short"))?;
    let (_, properties) =
        parse_field_table(properties).map_err(|_| Fault::Greeting("unreadable properties"))?;
    major_of(&properties).map(|major| Version { major }).ok_or(Fault::Greeting("no version"))
}

fn major_of(properties: &FieldTable) -> Option<u16> {
    let Some(AMQPValue::LongString(version)) = properties.inner().get("version") else {
        return None;
    };
    std::str::from_utf8(version.as_bytes()).ok()?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(version: &[u8]) -> Vec<u8> {
        let mut table = vec![7];
        table.extend(b"versionS");
        table.extend(u32::try_from(version.len()).expect("short").to_be_bytes());
        table.extend(version);
        let mut payload = CONNECTION_START.to_vec();
        payload.extend([0, 9]);
        payload.extend(u32::try_from(table.len()).expect("short").to_be_bytes());
        payload.extend(table);
        payload
    }

    #[test]
    fn the_major_version_is_read_from_the_greeting() {
        for (text, major) in [("3.10.8", 3), ("4.0.0", 4), ("13.1.0-rc.1", 13)] {
            assert_eq!(parse(&greeting(text.as_bytes())).expect("reads"), Version { major });
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(&greeting(b"latest")).is_err());
        assert!(parse(&greeting(b"3.10.8")[..12]).is_err());
        assert!(parse(&[0, 10, 0, 11, 0, 9]).is_err());
    }
}
