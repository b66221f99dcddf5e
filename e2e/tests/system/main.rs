//! The system tests. One program, so that it is linked once.

mod crash;
mod deaths;
mod floods;
mod leases;
mod outages;
mod pauses;
mod places;
mod privacy;
mod redis;
mod rushes;
mod secrets;
mod settings;
