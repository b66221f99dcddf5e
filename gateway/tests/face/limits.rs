//! Who writes addresses into headers, has very many, or never comes twice from the same.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result};
use axum::http::{HeaderMap, HeaderName};
use clap::Parser;
use gateway::limits::Limits;
use gateway::settings::Cli;

/// How many may ask at once, of one address.
const BURST: usize = 10;

fn limits(args: &[&str]) -> Result<Limits> {
    let urls = ["gateway", "--redis-url=redis://x", "--amqp-url=amqp://x", "--database-url=x"];
    let settings = Cli::try_parse_from(urls.iter().chain(args))?.settings;
    Ok(Limits::new(&settings.limits))
}

fn slow(more: &[&'static str]) -> Result<Limits> {
    let burst = ["--limit-address-per-second=1", "--limit-address-burst=10"];
    limits(&[&burst[..], more].concat())
}

fn forwarded(lines: &[String]) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(HeaderName::from_static("x-forwarded-for"), line.parse()?);
    }
    Ok(headers)
}

/// Resident memory of this process, in KiB.
fn memory_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn an_address_written_by_the_client_itself_counts_for_nothing() -> Result<()> {
    let stranger: IpAddr = "192.0.2.1".parse()?;
    let (direct, behind) = (slow(&[])?, slow(&["--trusted-proxies=10.0.0.0/8"])?);
    let proxy: IpAddr = "10.0.0.1".parse()?;
    let mut passed = [0; 3];
    for n in 0..100 {
        let invented = format!("203.0.113.{n}");
        let own = forwarded(std::slice::from_ref(&invented))?;
        passed[0] += usize::from(direct.admit_address(stranger, &own).is_ok());
        passed[1] += usize::from(behind.admit_address(stranger, &own).is_ok());
        // What our proxy adds stands to the right of what the client wrote.
        let both = forwarded(&[format!("{invented}, 10.9.9.9, 198.51.100.7")])?;
        passed[2] += usize::from(behind.admit_address(proxy, &both).is_ok());
    }
    assert_eq!(passed, [BURST; 3]);
    Ok(())
}

#[test]
fn whoever_has_a_network_of_ipv6_addresses_is_one_client() -> Result<()> {
    let limits = slow(&[])?;
    let network = "2001:db8:1:2::".parse::<Ipv6Addr>()?.to_bits();
    let ask = |bits: u128| {
        limits.admit_address(Ipv6Addr::from_bits(bits).into(), &HeaderMap::new()).is_ok()
    };
    let passed = (1..=1_000).filter(|n| ask(network + n * 0x1_0000_0001)).count();
    assert_eq!(passed, BURST);
    assert!(ask(network + (1 << 64)), "the neighbour's network is another client");
    Ok(())
}

#[test]
fn millions_of_addresses_take_bounded_memory_and_leave_the_known_alone() -> Result<()> {
    const KEYS: u128 = 2_000_000;
    let limits = slow(&["--limit-keys-max=200000"])?;
    let known: IpAddr = "192.0.2.1".parse()?;
    let none = HeaderMap::new();
    assert!(limits.admit_address(known, &none).is_ok());
    let before = memory_kib()?;
    let networks = (0..KEYS).map(|n| Ipv6Addr::from_bits((0x2001_0db8 << 96) + (n << 64)));
    let passed = networks.filter(|one| limits.admit_address((*one).into(), &none).is_ok()).count();
    let grown = memory_kib()?.saturating_sub(before);
    println!("{KEYS} networks: {passed} passed, {grown} KiB more");
    // Each key that found room passed, and of the others a burst of each of the 64 shards.
    assert!((150_000..202_000).contains(&passed), "{passed}");
    assert!(grown < 32 * 1024, "{grown} KiB");
    assert!(limits.admit_address(known, &none).is_ok(), "its own burst is its own");
    Ok(())
}
