//! A message costs no allocation: what one read returns does, and that is a handful.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

use beamline_nats::Batch;
use beamline_nats::encode::Outgoing;
use beamline_nats::reader::{Reader, Taken};
use beamline_nats::session::Session;

/// Messages in one read.
const MESSAGES: usize = 100;

#[test]
fn reading_and_answering_a_batch_allocates_a_few_times_however_many_messages_it_has() {
    let body = b"{\"version\":\"1\",\"request_id\":\"r-1\",\"tenant_id\":\"acme\"}";
    let line = format!("MSG beamline.router.v1.decide 1 _INBOX.abcdefgh.12 {}\r\n", body.len());
    let stream = [line.as_bytes(), body, b"\r\n"].concat().repeat(MESSAGES);
    let mut reader = Reader::default();
    let mut session: Session<(), (), ()> = Session::new(1 << 20);
    let prelude = session.prelude();
    let _ = session.move_to(&prelude);
    let mut sent = Vec::new();
    let mut round = || {
        reader.room().extend_from_slice(&stream);
        let Taken { bytes, frames, .. } = reader.take().unwrap().unwrap();
        let batch = Batch::new(bytes, frames);
        assert_eq!(batch.len(), MESSAGES);
        for message in batch.iter() {
            let message = message.read().unwrap();
            let (subject, payload) = (message.reply.unwrap().as_bytes(), message.payload);
            session.publish(&Outgoing { subject, reply: b"", headers: &[], payload }).unwrap();
        }
        assert!(session.take(&mut sent));
    };
    // Buffers take their size in the first rounds.
    (0..4).for_each(|_| round());
    let counted = allocation_counter::measure(|| (0..10).for_each(|_| round()));
    assert!(counted.count_total <= 10 * 6, "{} allocations in ten reads", counted.count_total);
}
