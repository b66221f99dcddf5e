//! Tests on real servers, one Redis per test.

mod connections;
mod conservation;
mod holds;
mod replies;
mod rights;
mod settling;
mod steps;
mod terms;
mod world;
