//! The system tests. One program, so that it is linked once.

mod rushes;
