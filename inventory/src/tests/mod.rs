//! Tests on real servers.
