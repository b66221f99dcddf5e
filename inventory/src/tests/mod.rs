//! Tests on real servers, one Redis per test.

mod connections;
mod conservation;
mod forms;
mod holds;
mod replies;
mod rights;
mod settling;
mod sharing;
mod steps;
mod terms;
mod world;
