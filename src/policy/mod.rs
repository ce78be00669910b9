//! The document that an operator writes, and the checked [`Policy`] that it becomes.
//!
//! [`parse`] reads a document as [`crate::document`] has it, all faults at once; or it gives a
//! [`Policy`], past which nothing checks again: ids are ids, weights are integers with a sum above 0,
//! a fallback's target is an index, breaker settings are within their ranges. What is refused: unknown
//! fields, since a misspelt threshold that is silently ignored protects nobody; fields of the older
//! router that this one does not implement, since they would silently not work; and names that occur
//! twice, since two readers may take different ones.
//!
//! What always holds:
//! - `parse(policy.effective())` gives an equal policy, whichever older form the document had.
//! - Providers stand first among the candidates, in document order (by name where the older `weights`
//!   map gives none); after them, targets that only fallbacks name, with weight 0.
//! - A policy has 1 to 256 providers and a total weight above 0.
//!
//! Warnings are for what is legal and probably not meant; they never stop a document.
//!
//! Nothing here draws a provider: `routing/` does.

mod breaker_block;
mod candidates;
mod document;
mod effective;
mod fallbacks;
mod model;
mod overlay;
mod patch;
mod retry;
#[cfg(test)]
mod tests;
mod text;
mod warnings;

pub use crate::document::{Fault, MAX_FAULTS};
pub(crate) use breaker_block::read as read_breaker_block;
pub use breaker_block::shown as breaker_block;
pub use document::{ASSIGNMENT_SUBJECTS, Checked, parse};
pub use model::{Candidate, Fallback, Policy, StatusMatch, Sticky, When};
pub use overlay::{Overlaid, Overlay, parse_under, states_its_share, written_into};
pub use patch::merge_patch;
pub use retry::{Backoff, Growth};
pub use text::parse_text;
