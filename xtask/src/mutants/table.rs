//! The mutants of the real parts: Lua, SQL and programs. Those of the protocol are in `model`, and
//! `asked` tells which guard is taken out where.
//!
//! A text to replace must be in its file exactly once: a fast test sees to it, so that the table
//! follows the code.

pub(super) mod asked;
mod postgres;
mod programs;
mod rabbit;
mod redis;

/// A guard taken out, and the test that must fail then.
#[derive(Debug)]
pub(super) struct Mutant {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// What is done to the system.
    pub(super) what: &'static str,
    /// The file.
    pub(super) file: &'static str,
    /// What is replaced by what there, one after the other.
    pub(super) edits: &'static [(&'static str, &'static str)],
    /// What else must be changed so that it can be done: file, text, what it is replaced by.
    pub(super) also: &'static [(&'static str, &'static str, &'static str)],
    /// The package whose test catches it.
    pub(super) package: &'static str,
    /// The test binary; `None` for the tests beside the code.
    pub(super) suite: Option<&'static str>,
    /// The test.
    pub(super) test: &'static str,
}

/// All of them, by the part they are in.
pub(super) fn all() -> impl Iterator<Item = &'static Mutant> {
    [redis::MUTANTS, postgres::MUTANTS, rabbit::MUTANTS, programs::MUTANTS].into_iter().flatten()
}
