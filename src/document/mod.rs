//! How documents that people write are read: policies, and plans of rollouts.
//!
//! A document is JSON from outside. Its reader opens it as a `Block`, which adds a [`Fault`] for each
//! member that the block's `Shape` does not know, and takes the members one by one. What is wrong with a
//! member adds a fault too, and the default stands in for it, so that the reader goes on and one round trip
//! shows all faults of a document. A fault has an RFC 6901 pointer and says what the member must be.
//!
//! What always holds:
//! - A document with a fault is refused as a whole, so a default that stands in is never used.
//! - Faults and their pointers are bounded, however large and wrong the document is. Its size and depth
//!   are the caller's to bound.
//! - A fault never holds a text of the document other than names of its members.
//!
//! A [`serde_json::Value`] keeps the last of two members of one name; [`read_text`] looks at the text and
//! refuses both.
//!
//! Which members a document has, and what they mean, is the business of its own module.

mod durations;
mod faults;
mod fields;
mod lists;
mod names;
#[cfg(test)]
pub(crate) mod testing;
mod text;

pub(crate) use durations::{duration_ms, written, written_in_hours};
pub use faults::{Fault, MAX_FAULTS};
pub(crate) use faults::{Faults, below, item};
pub(crate) use fields::{Block, Shape, described, number_in, ratio, whole_number};
pub(crate) use lists::{Words, distinct};
pub(crate) use text::check_text;
pub use text::read_text;
