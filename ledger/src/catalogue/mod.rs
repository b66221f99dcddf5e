//! What there is to book: hospitals, departments, doctors, their sessions and slots.
//!
//! Lists go by id, upwards, from behind `after`. Whoever creates something is noted in the audit
//! log by the same statement.

pub mod department;
pub mod doctor;
pub mod hospital;
pub mod session;
pub mod slot;

pub use department::{Department, DepartmentCreated};
pub use doctor::{Doctor, DoctorCreated, DoctorPlace, NewDoctor, Rank};
pub use hospital::{Hospital, HospitalCreated};
pub use session::{NewSession, Period, Session, SessionCreated, SessionFacts, SessionFilter};
pub use slot::{NewSlot, Slot, SlotRelease};
