//! Rollouts: circuit breakers switched on tenant by tenant, on evidence.
//!
//! [`evidence`] turns the entries of the log into counts of both arms. [`judge`] decides by these counts whether
//! enforcing refusals does harm.

pub mod evidence;
pub mod judge;
