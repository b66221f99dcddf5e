//! Private servers, a fresh database, queue prefix and Redis per test, a cut network, [`eventually`].
//!
//! Owns: starting, finding and ending `redis-server`, PostgreSQL and RabbitMQ as ordinary child
//! processes, for tests and for the development stack. Linux only: it reads `/proc`.
//!
//! Must never know: anything of Slotrush itself, but who may do what in its RabbitMQ. It uses none of
//! its crates, so that every one of them can use it in tests.
//!
//! Invariants: a server started here is ended here. One that is not detached dies with its owner,
//! even when the owner is killed with SIGKILL. A process is named by id *and* start time, so a
//! recycled id is never signalled. Nothing here touches a server it did not start.
//!
//! Read first: `process_id.rs`, `process.rs`, then `redis.rs`.

mod cpu;
mod database;
mod eventually;
mod port;
mod postgres;
mod process;
mod process_id;
mod programs;
mod proxy;
mod rabbit;
mod redis;
mod shared;

pub use cpu::{cpu_used, cpu_used_by_thread, resident_bytes};
pub use database::{Database, ensure_database, ensure_role, with_role};
pub use eventually::{eventually, unique};
pub use port::{free_port, is_free_port};
pub use postgres::Postgres;
pub use process::{Process, write_private};
pub use process_id::{Detached, ProcessId, Server, Signal};
pub use programs::{Programs, find_program};
pub use proxy::Proxy;
pub use rabbit::{Rabbit, RabbitPasswords, amqp_programs};
pub use redis::Redis;
pub use shared::{amqp_url, postgres_url, stop_shared};
