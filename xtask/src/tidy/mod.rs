//! `cargo xtask tidy`: the rules of the house that compilers do not check.
//!
//! Each check takes text and returns complaints, one line each: `path:line: what is wrong`.

mod crates;
mod documents;
mod failpoints;
mod files;
mod lua;
mod migrations;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Folders without source of ours.
const SKIPPED: [&str; 4] = ["target", "node_modules", "dist", "data"];

/// A source file.
#[derive(Debug)]
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|actual| actual == extension)
    }
}

/// Checks everything; any complaint is an error. `record` first notes new migrations.
pub(crate) fn run(record: bool) -> Result<()> {
    let root = workspace::root();
    if record {
        migrations::record(&root)?;
    }
    let sources = sources(&root)?;
    let complaints = [
        crates::check(&sources),
        failpoints::check(&sources),
        files::check(&sources),
        lua::check(&sources),
        settings::check(&sources),
        documents::check(&sources, &root),
        migrations::check(&root)?,
    ]
    .concat();
    if complaints.is_empty() {
        println!("tidy: {} files, nothing to complain about", sources.len());
        return Ok(());
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    bail!("{} things are not tidy", complaints.len());
}

/// All text files of the kinds that are checked.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if is_checked(&name) {
                sources.push(read(root, &path)?);
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn is_checked(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    matches!(extension, Some("rs" | "lua" | "toml" | "md")) || name == ".env.example"
}

fn read(root: &Path, path: &PathBuf) -> Result<Source> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let path = path.strip_prefix(root)?.components();
    let parts: Vec<_> = path.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    Ok(Source { path: parts.join("/"), text })
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}
