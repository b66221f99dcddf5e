//! The broker on a real RabbitMQ.

mod barriers;
mod consuming;
mod outages;
mod publishing;
mod rights;
mod support;
