//! Free ports.

use std::net::{Ipv4Addr, TcpListener};

use rand::Rng;

/// A free TCP port of 127.0.0.1.
///
/// Taken from below the kernel's ephemeral range, so that no outgoing connection sits on it between
/// this call and the server's bind, nor between a server's end and its restart.
///
/// # Panics
/// If none of 2,000 random ports is free.
pub fn free_port() -> u16 {
    let mut random = rand::rng();
    for _ in 0..2_000 {
        let port = random.random_range(10_240..32_768);
        if is_free_port(port) {
            return port;
        }
    }
    panic!("no free port of 127.0.0.1 below 32768");
}

/// Could a server listen on this TCP port of 127.0.0.1 now?
pub fn is_free_port(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
