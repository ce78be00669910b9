//! The stream of rollouts, as a worker follows it: what its messages add up to ([`Following`]), and what the worker
//! must do where the stream or the log lacks something ([`Agenda`]).
//!
//! A message may be longer than the broker takes. [`split`] cuts its text into [`Part`]s, and the last part that
//! comes is the message's place in the stream.
//!
//! **What a worker does** follows from how stream, log and evidence stand, not from what just happened: a task that
//! failed is still there a moment later, and one that another worker did is gone. [`tasks`] lists them, [`Agenda`]
//! spaces the tries. All workers do the same tasks; each carries a name under which the broker drops copies, and
//! copies that pass have no effect.

mod agenda;
mod following;
mod parts;
#[cfg(test)]
mod tests;

pub use agenda::{Agenda, Due, DueKey, Logged, Task, tasks};
pub use following::Following;
pub use parts::{Part, Piece, split};
