//! How far a reading of a bucket is, whatever becomes of its consumers.

use beamline_nats::jetstream::Place;

/// Where a reading of a bucket begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this revision: it and all that follow.
    At(u64),
    /// With the last revision of each key.
    LastOfEach,
}

/// So many consumers are made in succession of which none delivers anything.
const TRIES: u32 = 5;

/// How far a reading is, over all consumers that are made for it.
#[derive(Debug)]
pub(super) struct Course {
    start: Start,
    /// Where the bucket ended when the reading began.
    end: u64,
    /// What the present consumer has delivered.
    delivered: u64,
    /// Consumers since something was delivered, the present one included.
    tries: u32,
}

/// A delivery is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed;

impl Course {
    pub(super) const fn new(start: Start, end: u64) -> Self {
        Self { start, end, delivered: 0, tries: 0 }
    }

    /// Where the next consumer begins; `None` where another one is of no use.
    pub(super) fn begin(&mut self) -> Option<Start> {
        self.delivered = 0;
        self.tries += 1;
        (self.tries <= TRIES).then_some(self.start)
    }

    /// A message is delivered. Whether it is the last one.
    pub(super) fn take(&mut self, place: &Place) -> Result<bool, Missed> {
        if place.consumer != self.delivered + 1 {
            return Err(Missed);
        }
        self.delivered = place.consumer;
        // Of keys that changed meanwhile the older revisions come, too.
        self.start = Start::At(place.stream + 1);
        self.tries = 0;
        Ok(place.pending == 0 || place.stream >= self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(stream: u64, consumer: u64, pending: u64) -> Place {
        Place { delivered: 1, stream, consumer, nanos: 0, pending }
    }

    #[test]
    fn it_ends_with_the_last_message_or_where_the_bucket_ended() {
        let mut course = Course::new(Start::LastOfEach, 90);
        assert_eq!(course.begin(), Some(Start::LastOfEach));
        assert_eq!(course.take(&place(7, 1, 2)), Ok(false));
        assert_eq!(course.take(&place(80, 2, 0)), Ok(true), "the last one was removed");
        let mut course = Course::new(Start::At(5), 90);
        course.begin();
        assert_eq!(course.take(&place(89, 1, 4)), Ok(false));
        assert_eq!(course.take(&place(90, 2, 3)), Ok(true), "others came since");
    }

    #[test]
    fn what_is_missed_is_read_again_from_where_it_was() {
        let mut course = Course::new(Start::LastOfEach, 90);
        course.begin();
        assert_eq!(course.take(&place(7, 1, 9)), Ok(false));
        assert_eq!(course.take(&place(30, 3, 7)), Err(Missed));
        assert_eq!(course.begin(), Some(Start::At(8)));
        assert_eq!(course.take(&place(12, 1, 9)), Ok(false));
    }

    #[test]
    fn consumers_that_deliver_nothing_are_made_so_many_times() {
        let mut course = Course::new(Start::At(1), 90);
        for _ in 0..TRIES - 1 {
            assert_eq!(course.begin(), Some(Start::At(1)));
        }
        course.begin();
        assert_eq!(course.take(&place(1, 1, 9)), Ok(false));
        for _ in 0..TRIES {
            assert_eq!(course.begin(), Some(Start::At(2)));
        }
        assert_eq!(course.begin(), None);
    }
}
