//! The hot path on real servers, over HTTP.

mod access;
mod ahead;
mod answer;
mod book;
mod clinic;
mod door;
mod follow;
mod outages;
mod places;
mod refuse;
mod stage;
mod worker;
