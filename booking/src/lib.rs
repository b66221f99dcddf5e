//! The domain of Slotrush: what a booking is, how it is named and what may become of it.
//!
//! Owns: identifiers and the snowflake layout, partitions, epochs, booking states and their only
//! legal transitions, the patients' limits as data, the messages on the wire, and the [`Clock`].
//!
//! Must never know: sockets, SQL, Redis, AMQP, HTTP, async. Everything here is a value or a pure
//! function; time and randomness come in as parameters.
//!
//! Read first: [`id`], then [`message`], then [`state`].

pub mod clock;
pub mod digest;
pub mod epoch;
pub mod id;
pub mod message;
pub mod partition;
pub mod rules;
pub mod snowflake;
pub mod state;

pub use clock::{Clock, SystemClock, UnixMs};
pub use digest::Digest;
pub use epoch::{Epoch, Nonce, Term};
pub use id::{
    AccountId, BookingId, DepartmentId, DoctorId, HospitalId, ParkedId, PatientId, ReleaseId,
    SessionId, SlotId,
};
pub use message::{Booking, Envelope};
pub use partition::{Partition, PartitionCount};
pub use state::{Reason, State};
