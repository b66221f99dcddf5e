//! One at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Held until dropped, or until the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a folder, which is created. Fails at once if another process has it.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Self::of_file(&folder.join("lock"), folder)
    }

    /// Does the same for a folder whose content is deleted at every start: the lock is beside it.
    pub(crate) fn take_beside(folder: &Path) -> Result<Self> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        Self::of_file(&folder.with_extension("lock"), folder)
    }

    fn of_file(path: &Path, folder: &Path) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another `cargo xtask` is starting, stopping or using the servers in {}; wait for it to end",
                crate::workspace::relative(folder)
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_done() {
        let folder = std::env::temp_dir().join(testkit::unique());
        let first = Lock::take(&folder).expect("free");
        let refused = Lock::take(&folder).expect_err("taken").to_string();
        assert!(refused.contains("another"), "{refused}");
        drop(first);
        drop(Lock::take(&folder).expect("free again"));
        let beside = Lock::take_beside(&folder).expect("another lock");
        fs::remove_dir_all(&folder).expect("removed");
        Lock::take_beside(&folder).expect_err("taken, though the folder is gone");
        drop(beside);
        fs::remove_file(folder.with_extension("lock")).expect("removed");
    }
}
