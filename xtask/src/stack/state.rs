//! What is running, as a file: the next command reads it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use testkit::{ProcessId, Server, free_port, is_free_port};

/// The state of one stack.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Were the programs built optimised?
    pub(crate) release: bool,
    /// By name of a part.
    pub(crate) parts: BTreeMap<String, Part>,
    /// Ports last used, also of what is not running: addresses stay the same if they can.
    pub(crate) ports: BTreeMap<String, u16>,
}

/// A server or a program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its address and processes. Someone else's server has no processes.
    pub(crate) server: Server,
    /// Where a program says of itself how it is.
    pub(crate) admin_url: Option<String>,
    /// Someone else's, named by a setting: neither started nor stopped by us.
    pub(crate) is_foreign: bool,
}

impl Part {
    pub(crate) fn foreign(url: String) -> Self {
        Self { server: Server { url, processes: vec![] }, admin_url: None, is_foreign: true }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.is_foreign || self.server.is_alive()
    }

    /// Its first process.
    pub(crate) fn id(&self) -> Option<ProcessId> {
        self.server.processes.first().map(|process| process.id)
    }

    pub(crate) fn log(&self) -> Option<PathBuf> {
        self.server.processes.first().map(|process| process.log.clone())
    }
}

impl State {
    /// Reads it; nothing there is the empty state.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let file = file(folder);
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&file)?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    /// Writes it in one step: whoever is killed here leaves the old one or the new one.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let next = folder.join("state.json.next");
        testkit::write_private(&next, &serde_json::to_string_pretty(self)?)?;
        fs::rename(&next, file(folder)).context("cannot write state.json")
    }

    /// The port of this name: the last one if it is free, else another.
    pub(crate) fn port(&mut self, name: &str) -> u16 {
        let last = self.ports.get(name).copied().filter(|port| is_free_port(*port));
        let port = last.unwrap_or_else(free_port);
        self.ports.insert(name.to_owned(), port);
        port
    }

    /// Addresses of all running parts of one kind, in order.
    pub(crate) fn urls(&self, kind: &str, pick: impl Fn(&Part) -> Option<String>) -> Vec<String> {
        let parts = self.parts.iter().filter(|(name, _)| kind_of(name) == kind);
        let mut found: Vec<_> =
            parts.filter_map(|(name, part)| Some((number_of(name), pick(part)?))).collect();
        found.sort();
        found.into_iter().map(|(_, url)| url).collect()
    }
}

/// `gateway` of `gateway-2`.
pub(crate) fn kind_of(name: &str) -> &str {
    name.split_once('-').map_or(name, |(kind, _)| kind)
}

fn number_of(name: &str) -> u32 {
    name.split_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_in_the_order_of_their_numbers() {
        let mut state = State::default();
        for name in ["gateway-10", "gateway-2", "redis"] {
            state.parts.insert(name.to_owned(), Part::foreign(name.to_owned()));
        }
        let urls = state.urls("gateway", |part| Some(part.server.url.clone()));
        assert_eq!(urls, ["gateway-2", "gateway-10"]);
    }

    #[test]
    fn what_is_written_is_read_and_a_damaged_file_is_named() {
        let folder = std::env::temp_dir().join(testkit::unique());
        fs::create_dir(&folder).expect("created");
        assert!(State::read(&folder).expect("none yet").parts.is_empty());
        let mut state = State::default();
        let port = state.port("redis");
        assert_eq!(state.port("redis"), port);
        state.write(&folder).expect("written");
        assert_eq!(State::read(&folder).expect("read").ports["redis"], port);
        fs::write(file(&folder), "{").expect("written");
        let error = State::read(&folder).expect_err("damaged").to_string();
        assert!(error.contains("state.json is damaged"), "{error}");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
