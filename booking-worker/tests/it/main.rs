//! The worker on real servers. One program, so that it is linked once.

mod audit;
mod consume;
mod process;
mod reconcile;
mod recovery;
mod relay;
mod sql;
mod world;
