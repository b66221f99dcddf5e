//! Named points in the programs where a test kills, stops or slows them down.
//!
//! Owns: what happens at a point, and how that is said from outside: `SLOTRUSH_FAILPOINTS`, see
//! the `plan` module. Also the distortions of a chaos run: doubled envelopes, shuffled batches, a
//! clock that is wrong.
//!
//! Must never know: what the points are for.
//!
//! Invariants: without the feature `armed` every macro here expands to nothing, to a literal, or to the step
//! it is handed, and an optimised build with it does not compile.
//!
//! Read first: [`point!`], then the `plan` module.

#[cfg(all(feature = "armed", not(debug_assertions)))]
compile_error!("failpoints are for debug builds");

#[cfg(feature = "armed")]
#[doc(hidden)]
pub mod armed;
#[cfg(feature = "armed")]
mod plan;

/// Names the place between two steps. In an async function only.
///
/// With `if`, it is passed only when the condition holds.
#[cfg(feature = "armed")]
#[macro_export]
macro_rules! point {
    ($name:literal) => {
        $crate::armed::pass($name).await
    };
    ($name:literal, if $condition:expr) => {
        if $condition {
            $crate::armed::pass($name).await
        }
    };
}

/// Names the place between two steps. In an async function only.
#[cfg(not(feature = "armed"))]
#[macro_export]
macro_rules! point {
    ($($anything:tt)*) => {};
}

/// Names the place before a step that is no part of an async function, and does the step: where something is
/// planned, in a task of its own, which may be held up.
#[cfg(feature = "armed")]
#[macro_export]
macro_rules! before {
    ($name:literal, $step:expr) => {
        $crate::armed::before($name, move || $step)
    };
}

/// Does the step.
#[cfg(not(feature = "armed"))]
#[macro_export]
macro_rules! before {
    ($name:literal, $step:expr) => {
        $step
    };
}

/// Tells whether what is named happens this time: by chance, as the plan says; else never.
#[cfg(feature = "armed")]
#[macro_export]
macro_rules! chance {
    ($name:literal) => {
        $crate::armed::chance($name)
    };
}

/// Tells whether what is named happens this time: never.
#[cfg(not(feature = "armed"))]
#[macro_export]
macro_rules! chance {
    ($name:literal) => {
        false
    };
}

/// Puts a list in a random order, by chance, as the plan says.
#[cfg(feature = "armed")]
#[macro_export]
macro_rules! shuffle {
    ($name:literal, $list:expr) => {
        if $crate::armed::chance($name) {
            $crate::armed::shuffle($list);
        }
    };
}

/// Leaves a list as it is.
#[cfg(not(feature = "armed"))]
#[macro_export]
macro_rules! shuffle {
    ($name:literal, $list:expr) => {
        let _: &mut _ = $list;
    };
}

/// Returns the amount that the plan gives to the name, else 0.
#[cfg(feature = "armed")]
#[macro_export]
macro_rules! amount {
    ($name:literal) => {
        $crate::armed::amount($name)
    };
}

/// Returns 0.
#[cfg(not(feature = "armed"))]
#[macro_export]
macro_rules! amount {
    ($name:literal) => {
        0_i64
    };
}
