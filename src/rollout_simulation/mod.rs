//! A rollout over a file of entries, without a broker.
//!
//! [`Line`] is one line of the file. [`Simulation`] takes the lines in order and gives each to the same two folds that
//! a worker runs: the breakers' with the evidence, and the controllers. What a worker would do then is done at once
//! and takes no time: blocks and decisions go to the controllers, steps and tallies into the log. So a plan of weeks
//! takes seconds, and what comes out depends on the file and the plan alone.
//!
//! `docs/rollout-simulate.md` has the format of the file, and what a simulation cannot show.

mod line;
mod run;
mod survey;
#[cfg(test)]
mod tests;
mod worker;
mod written;

pub use line::{CommandLine, Content, Line, RequestLine, parse_moment};
pub use run::{Course, Report, Simulation, Surroundings};
pub use survey::{Requests, Survey};
pub use written::written;
