//! rush
