//! rush
fn main() {}
