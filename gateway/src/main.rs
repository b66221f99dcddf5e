//! Settings, run, exit code.

fn main() {}
