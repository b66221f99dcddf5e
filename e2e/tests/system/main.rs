//! The system tests. One program, so that it is linked once.

mod deaths;
mod floods;
mod outages;
mod places;
mod privacy;
mod redis;
mod rushes;
mod secrets;
mod settings;
