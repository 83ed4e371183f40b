//! Remembers, by keyed digests, which one-time credentials must not be sent again. Pure, except for its lock: the time is an argument.
//!
//! A cache evicts the entry of a one-time credential like any other. What remains is a digest of its request: no text of it, bounded in
//! number and in time. The digest is keyed randomly for each cache, so it tells nothing to those who read it, and nobody who chooses
//! requests can make two digests collide.
//!
//! There are three tables, so that made-up codes, which anybody can send to a callback URL, do not push out the codes that were used.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::token_cache::pauses::Polling;
use crate::{base::clock::Moment, message::TokenRequest};

/// How many digests a generation of a table holds. A table has two generations.
const PER_GENERATION: usize = 50_000;

/// The same for polling intervals. A forgotten one does little harm: the server asks to slow down again.
const POLLED_PER_GENERATION: usize = 10_000;

/// How long a generation lasts. A digest is remembered for at least one and at most two generations.
const GENERATION: Duration = Duration::from_secs(12 * 60 * 60);

/// What became of a one-time credential that must not be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// The server exchanged it for a token, or may have done so.
    Used,
    /// The server does not accept it.
    Refused,
}

/// Identifies a request, including its one-time credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u128);

/// The one-time credentials that a cache must not send again.
pub(crate) struct SpentCredentials {
    seeds: [RandomState; 2],
    /// Not a lock of [`base::sync`](crate::base::sync): nothing happens while it is locked that a model check could interleave.
    tables: Mutex<Tables>,
}

struct Tables {
    used: Aging<()>,
    refused: Aging<()>,
    polled: Aging<Polling>,
}

impl SpentCredentials {
    pub(crate) fn new() -> Self {
        Self {
            seeds: [RandomState::new(), RandomState::new()],
            tables: Mutex::new(Tables {
                used: Aging::new(PER_GENERATION),
                refused: Aging::new(PER_GENERATION),
                polled: Aging::new(POLLED_PER_GENERATION),
            }),
        }
    }

    /// Returns the digest of everything by which requests are compared, except the name of the sign-in: a code can be sent once under any name.
    ///
    /// The credential must be a fixed text.
    pub(crate) fn digest(&self, request: &TokenRequest) -> Digest {
        let request = &*request.without_sign_in();
        let [high, low] = self
            .seeds
            .each_ref()
            .map(|seed| u128::from(seed.hash_one(request)));
        Digest(high << 64 | low)
    }

    /// Returns what became of a credential, if it must not be sent again.
    pub(crate) fn find(&self, digest: Digest, now: Moment) -> Option<Spent> {
        self.lock().find(digest, now)
    }

    /// Notes a credential as used before it is sent, unless it must not be sent again.
    pub(crate) fn claim(&self, digest: Digest, now: Moment) -> Option<Spent> {
        let mut tables = self.lock();
        let spent = tables.find(digest, now);
        if spent.is_none() {
            tables.used.insert(digest, (), now);
        }
        spent
    }

    /// Notes what became of a credential.
    pub(crate) fn note(&self, digest: Digest, spent: Spent, now: Moment) {
        let mut tables = self.lock();
        tables.remove(digest);
        match spent {
            Spent::Used => tables.used.insert(digest, (), now),
            Spent::Refused => tables.refused.insert(digest, (), now),
        }
    }

    /// Notes that a credential may be sent again.
    pub(crate) fn forget(&self, digest: Digest) {
        self.lock().remove(digest);
    }

    /// Notes how often the server asked to be polled with a credential whose entry is evicted.
    pub(crate) fn note_polling(&self, digest: Digest, polling: Polling, now: Moment) {
        self.lock().polled.insert(digest, polling, now);
    }

    /// Returns how often the server asked to be polled with a credential.
    pub(crate) fn polling(&self, digest: Digest, now: Moment) -> Option<Polling> {
        self.lock().polled.get(digest, now)
    }

    /// Nothing panics while the tables are locked, so a poisoned lock is sound.
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn find(&mut self, digest: Digest, now: Moment) -> Option<Spent> {
        let used = self.used.get(digest, now).map(|()| Spent::Used);
        used.or_else(|| self.refused.get(digest, now).map(|()| Spent::Refused))
    }

    fn remove(&mut self, digest: Digest) {
        self.used.remove(digest);
        self.refused.remove(digest);
    }
}

/// A table that forgets what is old, in two generations: when the young one ends, it becomes the old one, which is dropped.
///
/// This takes less memory than a queue would, and no task. Only the monotonic clock counts, so that a step of the wall clock does not
/// make the table forget too early.
struct Aging<V> {
    young: HashMap<Digest, V>,
    old: HashMap<Digest, V>,
    /// When the young generation ends, if it has begun.
    ends_at: Option<Moment>,
    max: usize,
}

impl<V: Copy> Aging<V> {
    fn new(max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            ends_at: None,
            max,
        }
    }

    fn insert(&mut self, digest: Digest, value: V, now: Moment) {
        self.forget_old(now);
        self.old.remove(&digest);
        if self.young.len() >= self.max && !self.young.contains_key(&digest) {
            self.turn();
        }
        self.ends_at.get_or_insert(now.after(GENERATION));
        self.young.insert(digest, value);
    }

    fn get(&mut self, digest: Digest, now: Moment) -> Option<V> {
        self.forget_old(now);
        let found = self.young.get(&digest).or_else(|| self.old.get(&digest));
        found.copied()
    }

    fn remove(&mut self, digest: Digest) {
        self.young.remove(&digest);
        self.old.remove(&digest);
    }

    fn forget_old(&mut self, now: Moment) {
        let Some(ends_at) = self.ends_at else {
            return;
        };
        if now.has_outlasted(ends_at.after(GENERATION)) {
            (self.young, self.old) = (HashMap::new(), HashMap::new());
            self.ends_at = None;
        } else if now.has_outlasted(ends_at) {
            self.turn();
            self.ends_at = Some(ends_at.after(GENERATION));
        }
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.ends_at = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn junk_does_not_push_out_what_was_used() {
        let spent = SpentCredentials::new();
        let now = Moment::new(Duration::ZERO, Duration::ZERO);
        let used = spent.digest(&TokenRequest::authorization_code(
            "used",
            "https://app.test",
        ));
        assert_eq!(spent.claim(used, now), None);
        for junk in 0..5 * PER_GENERATION as u128 {
            spent.note(Digest(junk), Spent::Refused, now);
        }
        assert_eq!(spent.claim(used, now), Some(Spent::Used));
        assert_eq!(spent.find(used, now), Some(Spent::Used));
        let tables = spent.lock();
        let refused = &tables.refused;
        assert!(refused.young.len() + refused.old.len() <= 2 * PER_GENERATION);
    }

    #[test]
    fn equal_requests_have_equal_digests_and_others_do_not() {
        let spent = SpentCredentials::new();
        let base = || TokenRequest::refresh_token("r").scope("a b");
        let digest = |request: TokenRequest| spent.digest(&request);
        assert_eq!(
            digest(base()),
            digest(TokenRequest::refresh_token("r").scope("b a"))
        );
        let two = |first, second| base().header(first, "1").header(second, "2");
        assert_eq!(
            digest(two("x", "y")),
            digest(base().header("y", "2").header("x", "1"))
        );
        assert_eq!(digest(base()), digest(base().sign_in("session 7")));
        for other in [
            TokenRequest::refresh_token("s").scope("a b"),
            TokenRequest::refresh_token("r").scope("a"),
            two("x", "y"),
            base().token_endpoint("https://other.test"),
        ] {
            assert_ne!(digest(base()), digest(other));
        }
        assert_ne!(digest(two("x", "y")), digest(two("y", "x")));
        // The digests of another cache tell nothing about those of this one.
        assert_ne!(digest(base()), SpentCredentials::new().digest(&base()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_newest_are_remembered_for_one_to_two_generations(
            steps in prop::collection::vec((0..40_u128, 0..6_u64), 1..200),
        ) {
            const MAX: usize = 8;
            let mut table = Aging::new(MAX);
            // Newest first, each digest once.
            let mut inserted: Vec<(Digest, Duration)> = Vec::new();
            let mut now = Duration::ZERO;
            for (digest, passed) in steps {
                now += GENERATION / 4 * u32::try_from(passed).unwrap();
                let digest = Digest(digest);
                inserted.retain(|(other, _)| *other != digest);
                inserted.insert(0, (digest, now));
                // The wall clock plays no role.
                let moment = Moment::new(now, Duration::ZERO);
                table.insert(digest, (), moment);
                prop_assert!(table.young.len() <= MAX && table.old.len() <= MAX);
                for (age, (digest, since)) in inserted.iter().enumerate() {
                    let is_found = table.get(*digest, moment).is_some();
                    let lived = now - *since;
                    if age < MAX && lived < GENERATION {
                        prop_assert!(is_found, "{digest:?} after {lived:?}");
                    }
                    if age >= 2 * MAX || lived >= 2 * GENERATION {
                        prop_assert!(!is_found, "{digest:?} after {lived:?}");
                    }
                }
            }
        }
    }
}
