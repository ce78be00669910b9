//! The memory by log time beside the plainest one that does the same, and what it is for.

use proptest::prelude::*;

use super::*;

/// All rows in one list.
struct Plain {
    limits: Limits,
    rows: Vec<PlainRow>,
    /// By slot; a tenant without rows has none.
    slots: Vec<Option<u8>>,
    last: u64,
    elapsed: u64,
}

struct PlainRow {
    tenant: u8,
    identity: u64,
    kind: Kind,
    at: u64,
}

impl Plain {
    /// What the identity was seen as, and whether one was forgotten early.
    fn note(&mut self, tenant: u8, identity: u64, kind: Kind, now: u64) -> (Option<Kind>, bool) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.identity == identity) {
            let before = row.kind;
            row.kind = if kind == Kind::Result { kind } else { before };
            return (Some(before), false);
        }
        self.elapsed += now.saturating_sub(self.last);
        self.last = now;
        for _ in 0..AT_ONCE {
            let oldest = self.oldest();
            if self.rows.len() > self.limits.enough && oldest.is_some_and(|n| self.is_old(n)) {
                self.forget(oldest.unwrap(), None);
            }
        }
        let own = self.rows.iter().filter(|row| row.tenant == tenant).count();
        let mut early = false;
        if !has_share(own, self.rows.len(), self.limits.most) {
            let first =
                self.rows.iter().position(|row| row.tenant == tenant).or_else(|| self.oldest()).unwrap();
            early = !self.is_old(first);
            self.forget(first, Some(tenant));
        }
        if !self.slots.contains(&Some(tenant)) {
            match self.slots.iter_mut().find(|slot| slot.is_none()) {
                Some(free) => *free = Some(tenant),
                None => self.slots.push(Some(tenant)),
            }
        }
        self.rows.push(PlainRow { tenant, identity, kind, at: self.elapsed });
        (None, early)
    }

    fn is_old(&self, n: usize) -> bool {
        self.elapsed - self.rows[n].at >= self.limits.keep_ms
    }

    /// Of those that came in the same millisecond, the one whose tenant has the least slot.
    fn oldest(&self) -> Option<usize> {
        let slot = |tenant| self.slots.iter().position(|slot| *slot == Some(tenant));
        (0..self.rows.len()).min_by_key(|n| (self.rows[*n].at, slot(self.rows[*n].tenant)))
    }

    fn forget(&mut self, n: usize, comes_again: Option<u8>) {
        let tenant = Some(self.rows.remove(n).tenant);
        if tenant != comes_again && !self.rows.iter().any(|row| Some(row.tenant) == tenant) {
            self.slots.iter_mut().filter(|slot| **slot == tenant).for_each(|slot| *slot = None);
        }
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (1_usize..40, 0_usize..40, 0_u64..200).prop_map(|(most, enough, keep_ms)| Limits {
        most,
        enough: enough.min(most),
        keep_ms,
    })
}

fn saved(timed: &Timed) -> Vec<u8> {
    postcard::to_stdvec(timed).unwrap()
}

fn restored(limits: Limits, bytes: &[u8]) -> Result<Timed, &'static str> {
    Timed::restore_within(limits, postcard::from_bytes(bytes).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_does_what_a_plain_list_does_also_after_a_snapshot(
        limits in limits(),
        steps in prop::collection::vec(
            (0_u8..6, 0_u64..60, prop::bool::weighted(0.2), prop_oneof![6 => 0_i64..20, 1 => -50_i64..0, 1 => 0_i64..500],
             prop::bool::weighted(0.03)),
            1..400,
        ),
    ) {
        let mut timed = Timed::new(limits, Stamp(1_000));
        let mut plain = Plain { limits, rows: Vec::new(), slots: Vec::new(), last: 1_000, elapsed: 0 };
        let mut now = 1_000_u64;
        for (tenant, identity, ended, gap, snapshot) in steps {
            now = now.saturating_add_signed(gap);
            let kind = if ended { Kind::Ended } else { Kind::Result };
            timed.glance([identity, identity + 1].into_iter());
            let before = timed.note(&format!("t{tenant}"), identity, kind, Stamp(now));
            let expected = plain.note(tenant, identity, kind, now);
            prop_assert_eq!((before, timed.take_forgotten_early()), expected);
            prop_assert_eq!(timed.len, plain.rows.len());
            prop_assert!(timed.len <= limits.most);
            for n in 0..60 {
                prop_assert_eq!(timed.contains(n), plain.rows.iter().any(|row| row.identity == n));
            }
            if snapshot {
                let bytes = saved(&timed);
                timed = restored(limits, &bytes).unwrap();
                prop_assert_eq!(saved(&timed), bytes);
            }
        }
        let held = |timed: &Timed| timed.slots.len();
        prop_assert_eq!(held(&timed), plain.slots.iter().flatten().count());
    }
}

#[test]
fn a_flood_of_one_tenant_forgets_none_of_anothers_however_long_it_lasts() {
    let limits = Limits { most: 4_000, enough: 1_000, keep_ms: KEEP_MS };
    let mut timed = Timed::new(limits, Stamp(0));
    let mut early = 0;
    for n in 0..200_000_u64 {
        // For two minutes, but for the last 6 ms.
        let now = Stamp(n * 3 / 5);
        if n.is_multiple_of(1_000) {
            assert_eq!(timed.note("quiet", n, Kind::Result, now), None);
            assert!(!timed.take_forgotten_early());
        }
        timed.note("flood", 1 << 32 | n, Kind::Result, now);
        early += u64::from(timed.take_forgotten_early());
    }
    assert!((0..200).all(|n| timed.contains(n * 1_000)));
    assert!(early > 190_000, "{early} were counted");
    assert!(!timed.contains(1 << 32));
    // What is old goes first, whoever it is of.
    for n in 0..1_600 {
        timed.note("third", 1 << 33 | n, Kind::Result, Stamp(2 * KEEP_MS));
        assert!(!timed.take_forgotten_early());
    }
    assert!(!timed.contains(0));
}

#[test]
fn at_17000_results_a_second_each_is_remembered_for_two_minutes() {
    let mut timed = Timed::new(LIMITS, Stamp(0));
    let mut in_order = Seen::<CAPACITY>::default();
    let tenants: Vec<String> = (0..1_000).map(|n| format!("tenant-{n}")).collect();
    for n in 0..17_000 * 120_u64 {
        timed.note(&tenants[n as usize % 1_000], n, Kind::Result, Stamp(n / 17));
        in_order.note(n, Kind::Result);
    }
    assert!(!timed.take_forgotten_early());
    assert_eq!(timed.len, 17_000 * 120);
    assert!(timed.contains(0) && !in_order.contains(17_000 * 58));
    // From then on as many go as come.
    for n in 17_000 * 120..17_000 * 125_u64 {
        timed.note(&tenants[n as usize % 1_000], n, Kind::Result, Stamp(n / 17));
    }
    assert!(!timed.take_forgotten_early());
    assert!((17_000 * 120 - 1_000..=17_000 * 120 + 1_000).contains(&timed.len), "{}", timed.len);
    assert!(!timed.contains(17_000 * 4) && timed.contains(17_000 * 6));
}

#[test]
fn a_tenant_does_not_keep_the_room_of_its_largest_flood() {
    let limits = Limits { most: 100_000, enough: 0, keep_ms: 1_000 };
    let mut timed = Timed::new(limits, Stamp(0));
    for n in 0..80_000 {
        timed.note("flood", n, Kind::Result, Stamp(0));
    }
    let room = |timed: &Timed| timed.queues.iter().map(|queue| queue.rows.capacity()).sum::<usize>();
    assert!(room(&timed) >= 80_000);
    for n in 0..79_000 {
        timed.note("quiet", 1 << 32 | n, Kind::Result, Stamp(1_000 + n));
    }
    assert!(room(&timed) < 10_000, "{}", room(&timed));
    assert_eq!(timed.slots.len(), 1, "who holds nothing has no queue");
}

#[test]
fn a_clock_that_was_wrong_for_a_while_makes_nothing_last_for_ever() {
    let limits = Limits { most: 100, enough: 0, keep_ms: 1_000 };
    let mut timed = Timed::new(limits, Stamp(86_400_000));
    timed.note("a", 1, Kind::Result, Stamp(86_400_000));
    // Set back by a day.
    timed.note("a", 2, Kind::Result, Stamp(500));
    assert!(timed.contains(1));
    timed.note("a", 3, Kind::Result, Stamp(1_500));
    assert!(!timed.contains(1) && !timed.contains(2));
}

#[test]
fn what_does_not_fit_together_is_not_restored() {
    let limits = Limits { most: 2, enough: 1, keep_ms: 1_000 };
    let form = |queues: &[(&str, &[(u64, u64)])]| {
        let row = |(identity, packed): &(u64, u64)| (identity.to_le_bytes(), *packed);
        let queues: Vec<(String, Vec<_>)> =
            queues.iter().map(|(t, rows)| ((*t).to_owned(), rows.iter().map(row).collect())).collect();
        let clock = Clock { last: Stamp(9), elapsed_ms: 5 };
        restored(limits, &postcard::to_stdvec(&Form { clock, queues }).unwrap()).map(|timed| timed.len)
    };
    assert_eq!(form(&[("a", &[(1, 10)]), ("", &[]), ("b", &[(2, 0)])]), Ok(2));
    assert!(form(&[("a", &[(1, 10), (2, 2)])]).is_err(), "later than the end");
    assert!(form(&[("a", &[(1, 0), (1, 0)])]).is_err(), "twice");
    assert!(form(&[("a", &[(1, 0)]), ("a", &[(2, 0)])]).is_err(), "two queues");
    assert!(form(&[("a", &[(1, 0), (2, 0), (3, 0)])]).is_err(), "too many");
    assert!(form(&[("a", &[(1, u64::MAX), (2, u64::MAX)])]).is_err());
}
