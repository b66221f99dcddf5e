//! The whole gateway over HTTP, without RabbitMQ: accounts, tokens, patients, catalogue,
//! administration.

mod accounts;
mod administration;
mod catalogue;
mod garbage;
mod limits;
mod tokens;
mod world;
