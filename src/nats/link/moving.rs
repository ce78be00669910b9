use std::time::Duration;

use tokio::sync::watch;

use super::{Link, Main};
use crate::telemetry::Metrics;

/// How far the management connection is with being made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// It is not.
    #[default]
    Resting,
    /// It will be cut.
    Begun,
    /// It is cut.
    Cut,
    /// It is there again.
    Back,
}

/// See [`Link::begin_move`].
#[derive(Debug, Default)]
pub(super) struct Moving(watch::Sender<Stage>);

impl Moving {
    /// The connection is gone; whether that is part of a move.
    pub(super) fn note_cut(&self) -> bool {
        self.0.send_if_modified(|stage| {
            let is_moving = *stage != Stage::Resting;
            if is_moving {
                *stage = Stage::Cut;
            }
            is_moving
        })
    }

    /// There is a connection.
    pub(super) fn note_back(&self) {
        self.0.send_if_modified(|stage| {
            let was_cut = *stage == Stage::Cut;
            if was_cut {
                *stage = Stage::Back;
            }
            was_cut
        });
    }
}

/// The management connection is being made anew; dropped, that is over.
#[derive(Debug)]
pub struct Move<'l> {
    link: &'l Link,
    metrics: &'l Metrics,
}

impl Link {
    /// From now on a management connection that is lost and found again was never down, since this worker cuts it
    /// itself.
    pub fn begin_move<'l>(&'l self, metrics: &'l Metrics) -> Move<'l> {
        self.moving.0.send_replace(Stage::Begun);
        Move { link: self, metrics }
    }
}

impl Move<'_> {
    /// Waits until the connection was cut and is there again; `false` if it was away for longer than `patience`.
    pub async fn done(self, patience: Duration) -> bool {
        let mut stage = self.link.moving.0.subscribe();
        let back = stage.wait_for(|stage| *stage == Stage::Back);
        tokio::time::timeout(patience, back).await.is_ok()
    }
}

impl Drop for Move<'_> {
    fn drop(&mut self) {
        if self.link.moving.0.send_replace(Stage::Resting) == Stage::Cut {
            self.link.went_down(Main::Management, true, self.metrics);
        }
    }
}
