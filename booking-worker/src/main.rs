//! booking-worker
fn main() {}
