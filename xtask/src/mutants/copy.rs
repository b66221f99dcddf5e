//! A copy of the work tree that keeps what is built from it good.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Makes `to` the same as the files that git knows or would take in `from`. Only what differs is
/// written, so that cargo builds only that again.
pub(super) fn renew(from: &Path, to: &Path) -> Result<()> {
    let wanted = files(from)?;
    fs::create_dir_all(to)?;
    for file in existing(to, to)?.difference(&wanted) {
        fs::remove_file(to.join(file))?;
    }
    for file in &wanted {
        let (source, copy) = (from.join(file), to.join(file));
        // Deleted, but not yet for git.
        let Ok(content) = fs::read(&source) else { continue };
        if fs::read(&copy).is_ok_and(|old| old == content) {
            continue;
        }
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(&source, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    Ok(())
}

fn files(tree: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(tree)
        .output()
        .context("cannot start git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("a file's name is not text")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn existing(tree: &Path, folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // Servers and programs of the copy keep their data there.
            if entry.file_name() != ".slotrush" {
                found.extend(existing(tree, &entry.path())?);
            }
        } else if let Ok(file) = entry.path().strip_prefix(tree) {
            found.insert(file.to_path_buf());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_tree_and_touches_only_what_differs() {
        let (from, to) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        let git = Command::new("git").arg("init").arg("-q").current_dir(from.path()).status();
        assert!(git.expect("git").success());
        fs::create_dir(from.path().join("sub")).expect("made");
        for (file, text) in [("one", "1"), ("sub/two", "2")] {
            fs::write(from.path().join(file), text).expect("written");
        }
        renew(from.path(), to.path()).expect("copied");
        let written = fs::metadata(to.path().join("one")).expect("there").modified().expect("time");
        fs::write(from.path().join("sub/two"), "22").expect("written");
        fs::write(to.path().join("stray"), "x").expect("written");
        renew(from.path(), to.path()).expect("copied");
        assert_eq!(fs::read_to_string(to.path().join("sub/two")).expect("read"), "22");
        assert!(!to.path().join("stray").exists());
        let again = fs::metadata(to.path().join("one")).expect("there").modified().expect("time");
        assert_eq!(written, again);
    }
}
