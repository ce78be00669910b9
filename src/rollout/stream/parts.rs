use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::domain::RolloutId;
use crate::rollout::controller::Message;

/// The longest text of one part. In quotes it grows, and must stay below the broker's 1 MiB.
const PART: usize = 384 * 1_024;
/// Parts of one message: far more than 10,000 tenants need.
const MAX_PARTS: usize = 64;
/// Messages that wait for parts; of more, the oldest is dropped. Its sender publishes it again.
const MAX_WAITING: usize = 64;

/// What one message of the stream holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// All of it.
    Whole(Box<Message>),
    /// A part of one that is longer than the broker takes.
    Part(Part),
}

/// A part of a message's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its place, from 0.
    pub part: usize,
    /// How many there are.
    pub parts: usize,
    /// The hash of the whole text: parts of one message have the same.
    pub digest: u64,
    /// Which rollout.
    pub rollout: RolloutId,
    /// The text.
    pub text: String,
}

/// Cuts a message's text into parts; none where one message of the broker holds it.
#[must_use]
pub fn split(rollout: &RolloutId, text: &str) -> Vec<Part> {
    if text.len() <= PART {
        return Vec::new();
    }
    let digest = xxh3_64(text.as_bytes());
    let mut texts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut ends = (0..=PART.min(rest.len())).rev();
        let end = ends.find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        texts.push(head);
        rest = tail;
    }
    let parts = texts.len();
    let part = |(part, text): (usize, &str)| Part {
        part,
        parts,
        digest,
        rollout: rollout.clone(),
        text: text.to_owned(),
    };
    texts.into_iter().enumerate().map(part).collect()
}

/// Messages of which parts have come, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Assembly(VecDeque<Waiting>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    rollout: RolloutId,
    digest: u64,
    texts: Vec<Option<String>>,
}

impl Assembly {
    /// Takes a part. Gives the message's text if it was the last one.
    pub(super) fn take(&mut self, part: Part) -> Option<String> {
        let Part { part: place, parts, digest, rollout, text } = part;
        if place >= parts || parts > MAX_PARTS {
            return None;
        }
        let is_it = |w: &Waiting| w.digest == digest && w.rollout == rollout && w.texts.len() == parts;
        let at = match self.0.iter().position(is_it) {
            Some(at) => at,
            None => {
                if self.0.len() >= MAX_WAITING {
                    self.0.pop_front();
                }
                self.0.push_back(Waiting { rollout, digest, texts: vec![None; parts] });
                self.0.len().saturating_sub(1)
            }
        };
        let waiting = self.0.get_mut(at)?;
        *waiting.texts.get_mut(place)? = Some(text);
        if waiting.texts.iter().any(Option::is_none) {
            return None;
        }
        let whole: String = self.0.remove(at)?.texts.into_iter().flatten().collect();
        (xxh3_64(whole.as_bytes()) == digest).then_some(whole)
    }
}
