//! Reading streams: what consumers deliver, pull requests, and single stored messages.
//!
//! Streams and consumers are managed elsewhere. What is here is the part of JetStream in which others'
//! bytes arrive, without I/O.
//!
//! | part | what it is for |
//! |---|---|
//! | [`Delivery`] | what a message at a consumer's delivery subject is |
//! | [`Pull`] | when to ask a pull consumer for more, and what its statuses mean |
//! | [`Stored`] | a message as `STREAM.MSG.GET` gives it, and the request for it |

mod delivery;
mod pull;
mod stored;

pub use delivery::{Delivery, Heartbeat, Place};
pub use pull::{Pull, PullSettings, Status, next_subject};
pub use stored::{GetError, Select, Stored};
