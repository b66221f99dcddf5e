//! How many files, sockets among them, the process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the process's limit of open files to at least `needed`, if it is lower. Programs started later
/// inherit it: a server that must take a storm has to be started after this.
///
/// `rustix` because it calls the kernel without unsafe code of ours and `tempfile` has brought it already.
///
/// # Errors
/// If the hard limit is lower and may not be raised; the text says what it is.
pub fn allow_open_files(needed: u64) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // Above the hard limit only a privileged process gets through.
    let maximum = maximum.map(|maximum| maximum.max(needed));
    let wanted = Rlimit { current: Some(needed), maximum };
    setrlimit(Resource::Nofile, wanted).map_err(|error| {
        let allowed = getrlimit(Resource::Nofile).maximum.unwrap_or_default();
        io::Error::other(format!("{needed} open files needed, {allowed} allowed: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_only_rises() {
        let now = || getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let before = now();
        allow_open_files(1).expect("it is enough");
        assert_eq!(now(), before);
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(before);
        allow_open_files(hard).expect("the hard limit is allowed");
        assert!(now() >= hard);
    }
}
