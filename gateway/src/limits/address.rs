//! Which client a request comes from.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// A client as the limits see it: an IPv4 address, or the /64 network of an IPv6 address.
///
/// A household or a phone has a whole /64; counting its addresses one by one would count nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
        }
    }
}

/// Finds the client: the peer, or if the peer is one of our proxies, the rightmost address of
/// `X-Forwarded-For` that is not. What stands further left was written by the client itself.
pub fn source(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Source {
    let is_ours =
        |address: IpAddr| trusted.iter().any(|network| network.contains(&address.to_canonical()));
    if !is_ours(peer) {
        return peer.into();
    }
    let mut nearest = peer;
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(text) = value.to_str() else { break };
        for hop in text.rsplit(',') {
            // A hop nobody can read was not written by a proxy of ours: stop before it.
            let Some(address) = parse(hop.trim()) else { return nearest.into() };
            if !is_ours(address) {
                return address.into();
            }
            nearest = address;
        }
    }
    nearest.into()
}

fn parse(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().expect("a header value"));
        }
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        source(peer.parse().expect("an address"), &headers, &trusted).0.to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(found("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
    }

    #[test]
    fn behind_our_proxies_the_rightmost_stranger_is_the_client() {
        assert_eq!(found("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.2.0.1"]), "198.51.100.7");
        assert_eq!(found("10.0.0.1", &["203.0.113.9", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(found("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
    }

    #[test]
    fn nothing_readable_leaves_the_nearest_proxy() {
        assert_eq!(found("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(found("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        assert_eq!(found("2001:db8:1:2:3:4:5:6", &[]), "2001:db8:1:2::");
        assert_eq!(found("::ffff:192.0.2.1", &[]), "192.0.2.1");
    }
}
