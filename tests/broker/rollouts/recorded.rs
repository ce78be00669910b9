//! What the streams hold of a rollout, folded anew from their first messages.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use beamline_router::domain::Stamp;
use beamline_router::log::{Entry, StepEntry};
use beamline_router::rollout::controller::{Event, Message};
use beamline_router::rollout::stream::Following;
use beamline_router::wire::{decode_entry, decode_rollout};
use futures_util::TryStreamExt as _;

use crate::support::Caller;

const PREFIX: &str = "beamline.router.v1.rollout.";

/// The stream of rollouts.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// The numbers of the decisions that took effect, in their order.
    pub(super) decided: Vec<u64>,
    /// Records of decisions, those without effect included.
    pub(super) records: usize,
    /// The steps that decisions made for the log, by number.
    pub(super) steps: BTreeMap<u64, StepEntry>,
    /// Where the controllers of this build would have decided otherwise.
    pub(super) differing: Vec<String>,
}

impl Caller {
    pub(super) async fn recorded(&self) -> Recorded {
        let stream = self.jetstream.get_stream("BEAMLINE_ROLLOUTS").await.unwrap();
        let info = stream.cached_info();
        let mut following = Following::new(i64::try_from(info.created.unix_timestamp_nanos()).unwrap());
        let mut recorded = Recorded::default();
        for sequence in 1..=info.state.last_sequence {
            let stored = stream.get_raw_message(sequence).await.unwrap();
            let subject = stored.subject.strip_prefix(PREFIX).unwrap();
            let piece = decode_rollout(subject, &stored.payload);
            let stamp = Stamp(u64::try_from(stored.time.unix_timestamp_nanos() / 1_000_000).unwrap());
            let Some((message, effects)) = following.apply(sequence, stamp, piece) else { continue };
            recorded.records += usize::from(matches!(message, Message::Decision(_)));
            for event in effects.events {
                match event {
                    Event::Decided { n, .. } => recorded.decided.push(n),
                    Event::Differs { .. } => recorded.differing.push(event.to_string()),
                    _ => {}
                }
            }
            recorded.steps.extend(effects.step.map(|step| (step.number.n, step)));
        }
        recorded
    }

    /// The steps in the log, in their order.
    pub(super) async fn logged_steps(&self) -> Vec<StepEntry> {
        let config = pull::Config {
            ack_policy: AckPolicy::None,
            filter_subject: "beamline.router.v1.log.step".to_owned(),
            ..Default::default()
        };
        let consumer = self.log().await.create_consumer(config).await.unwrap();
        let pending = usize::try_from(consumer.cached_info().num_pending).unwrap();
        let messages = consumer.fetch().max_messages(pending).messages().await.unwrap();
        let messages: Vec<_> = messages.try_collect().await.unwrap();
        let step = |payload: &[u8]| match decode_entry("step", payload) {
            Entry::Step(step) => step,
            other => panic!("{other:?}"),
        };
        messages.iter().map(|message| step(&message.payload)).collect()
    }
}
