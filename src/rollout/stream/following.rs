use serde::{Deserialize, Serialize};

use super::parts::{Assembly, Piece};
use crate::domain::Stamp;
use crate::rollout::controller::{Controllers, Effects, Message};

/// The controllers, and the parts of messages that have come so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Following {
    controllers: Controllers,
    assembly: Assembly,
    /// The place of the last message, whether it could be read or not.
    applied: u64,
}

impl Following {
    /// Nothing of a stream that was made then, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn new(made: i64) -> Self {
        Self { controllers: Controllers::new(made), assembly: Assembly::default(), applied: 0 }
    }

    /// Applies what stands at a place of the stream; `None` where it cannot be read. Gives the message that is
    /// complete with it, and what follows from it.
    pub fn apply(&mut self, sequence: u64, stamp: Stamp, piece: Option<Piece>) -> Option<(Message, Effects)> {
        if sequence <= self.applied {
            return None;
        }
        self.applied = sequence;
        let message = match piece? {
            Piece::Whole(message) => *message,
            Piece::Part(part) => serde_json::from_str(&self.assembly.take(part)?).ok()?,
        };
        let effects = self.controllers.apply(sequence, stamp, &message);
        Some((message, effects))
    }

    /// The place of the last message.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// How the rollouts stand.
    #[must_use]
    pub const fn controllers(&self) -> &Controllers {
        &self.controllers
    }

    /// The state as bytes; equal states give equal bytes.
    ///
    /// # Errors
    /// Those of the format.
    pub fn snapshot(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The state that [`Self::snapshot`] wrote, if it is of the stream that was made then.
    ///
    /// # Errors
    /// Those of the format, and a state of another stream.
    pub fn restore(bytes: &[u8], made: i64) -> Result<Self, serde_json::Error> {
        let restored: Self = serde_json::from_slice(bytes)?;
        if restored.controllers.made() == made {
            Ok(restored)
        } else {
            Err(serde::de::Error::custom("of another stream"))
        }
    }
}
