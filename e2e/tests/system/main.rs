//! The system tests. One program, so that it is linked once.

mod crash;
mod deaths;
mod outages;
mod places;
mod privacy;
mod redis;
mod rushes;
mod settings;
