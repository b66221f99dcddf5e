//! Replies of scripts: a word, then values in a fixed order.

use std::str::FromStr;

use redis::Value;

use crate::error::{Error, unreadable};

/// A reply being read from its first word to its last value.
#[derive(Debug)]
pub(crate) struct Reply {
    word: String,
    rest: std::vec::IntoIter<Value>,
}

impl Reply {
    /// Takes a reply apart. Every script answers with an array that begins with a word.
    pub(crate) fn parse(value: Value) -> Result<Self, Error> {
        let Value::Array(values) = value else {
            return Err(unreadable("reply"));
        };
        let mut rest = values.into_iter();
        let word = text(rest.next().unwrap_or_default())?;
        Ok(Self { word, rest })
    }

    /// Returns the word.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// Reads the next value as something that has a text form, such as a number.
    pub(crate) fn next<T: FromStr>(&mut self) -> Result<T, Error> {
        self.next_if_present()?.ok_or_else(|| unreadable("reply"))
    }

    /// Reads the next value, which may be nil.
    pub(crate) fn next_if_present<T: FromStr>(&mut self) -> Result<Option<T>, Error> {
        match self.rest.next().unwrap_or_default() {
            Value::Nil => Ok(None),
            value => text(value)?.parse().map(Some).map_err(|_| unreadable("reply")),
        }
    }

    /// Reads the next value as fields and values of a hash.
    pub(crate) fn next_fields(&mut self) -> Result<Vec<(String, String)>, Error> {
        match self.rest.next() {
            Some(value) => fields(value),
            None => Err(unreadable("reply")),
        }
    }
}

/// Reads an array of fields and values in turn.
pub(crate) fn fields(value: Value) -> Result<Vec<(String, String)>, Error> {
    let Value::Array(values) = value else {
        return Err(unreadable("hash"));
    };
    let mut pairs = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter();
    while let Some(field) = values.next() {
        let value = values.next().ok_or_else(|| unreadable("hash"))?;
        pairs.push((text(field)?, text(value)?));
    }
    Ok(pairs)
}

fn text(value: Value) -> Result<String, Error> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        _ => Err(unreadable("reply")),
    }
}
