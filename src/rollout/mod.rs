//! Rollouts: circuit breakers switched on tenant by tenant, on evidence.
//!
//! [`judge`] decides by what is known of both arms whether enforcing refusals does harm.

pub mod judge;
