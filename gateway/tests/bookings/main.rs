//! The hot path on real servers, over HTTP.

mod answer;
mod book;
mod clinic;
mod door;
mod follow;
mod outages;
mod refuse;
mod worker;
