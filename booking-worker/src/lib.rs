//! booking-worker
