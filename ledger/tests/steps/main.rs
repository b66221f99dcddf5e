//! The steps of the protocol on a real PostgreSQL: each once, each twice, each refused, and in
//! races with each other.

mod audit;
mod bookings;
mod changed;
mod epochs;
mod freeze;
mod leases;
mod parked;
mod persist;
mod races;
mod releases;
mod rules;
mod schema;
mod world;
