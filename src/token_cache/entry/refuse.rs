//! Takes in what an API said to a token: it accepted it, or refused it.

use std::time::Duration;

use super::{Entry, EntryState, News, SentTo};
use crate::{
    base::{clock::Moment, origin_id::OriginId},
    token_cache::{
        events,
        learned_lifetime::LearnedLifetime,
        refusals::{Refusal, Refusals, Standing, Verdict},
        state::CachedToken,
    },
};

/// What became of a token that an API refused; see [`TokenSource::invalidate`](crate::TokenSource::invalidate).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Invalidation {
    /// The token is gone. The next caller fetches another.
    Dropped,
    /// The token was not the current one, so nothing happened. It had been dropped or replaced before, or never was in the cache.
    Replaced,
    /// The token stays, because tokens were refused too often recently, to see whether it is refused again, or because the source has a
    /// fixed token.
    Kept,
}

/// What an entry remembers of its refused tokens.
#[derive(Default)]
pub(super) struct RefusalHistory {
    refusals: Refusals,
    pub(super) lifetime: LearnedLifetime,
}

impl Entry {
    /// Says what is known about the token of this generation at `origin`, for a request that is about to be sent there.
    #[inline]
    pub(crate) fn sent_to(&self, origin: Option<OriginId>, generation: u64) -> SentTo {
        match origin {
            Some(origin) => self.accepted.sent_to(origin, generation),
            None => SentTo::NOWHERE,
        }
    }

    /// Notes that `origin` accepted the token of this generation.
    pub(crate) fn note_accepted(&self, origin: OriginId, generation: u64, news: News) {
        let mut state = self.lock();
        if self.generation() != generation {
            return;
        }
        match news {
            News::Nothing => {}
            News::Accepted => {
                self.accepted.note(origin, generation);
                if let Some(history) = &mut state.history {
                    history.refusals.note_accepted(origin, self.now());
                }
            }
            News::AcceptedAgain => {
                if self.accepted.standing(origin, generation) == Standing::Probed {
                    self.accepted.end_probe(origin, generation);
                    let now = self.now();
                    let history = state.history();
                    history.refusals.note_accepted_again(origin, now);
                    // Its refusals had another reason than the age of the tokens.
                    history.lifetime = LearnedLifetime::default();
                }
            }
        }
    }

    /// Drops the current token if it is the refused one, unless [`Refusals`] keeps it. `sent_to` is where it was refused, if known.
    pub(crate) fn invalidate(
        &self,
        sent_to: SentTo,
        is_refused: impl FnOnce(&CachedToken) -> bool,
    ) -> Invalidation {
        let origin = sent_to.origin();
        let (now, jitter) = (self.now(), fastrand::f64());
        let mut state = self.lock();
        let (mut learned, mut called) = (None, None);
        let invalidation = match self.current.load_full().filter(|cached| is_refused(cached)) {
            None => Invalidation::Replaced,
            Some(cached) => {
                called = cached.called.clone();
                let generation = cached.generation;
                let standing = origin.map_or(Standing::Unknown, |origin| {
                    self.accepted.standing(origin, generation)
                });
                // A refusal of a request that was sent before the probe began is not what the origin says to it.
                let is_late = standing == Standing::Probed && sent_to.news() != News::AcceptedAgain;
                let refusal = Refusal {
                    origin,
                    standing,
                    is_accepted_elsewhere: self.accepted.is_accepted_elsewhere(standing),
                    is_young: !now.has_reached(cached.young_until),
                    age: cached.age(now),
                };
                let bound = &self.settings.refusal_bound;
                let refusals = &mut state.history().refusals;
                let was_good = refusals.was_good(refusal, now);
                let verdict = match is_late {
                    true => Verdict::Keep,
                    false => refusals.note(bound, now, refusal, jitter),
                };
                match verdict {
                    Verdict::Replace(wait) => {
                        if was_good && self.settings.learn_lifetime {
                            learned = state.learn_lifetime(&cached, now);
                        }
                        self.drop_token(&mut state);
                        state.next_fetch_at = (!wait.is_zero()).then(|| now.after(wait));
                        Invalidation::Dropped
                    }
                    Verdict::Probe => {
                        if let Some(origin) = origin {
                            self.accepted.probe(origin, generation);
                        }
                        Invalidation::Kept
                    }
                    Verdict::Keep => Invalidation::Kept,
                }
            }
        };
        drop(state);
        if invalidation == Invalidation::Dropped {
            self.wake_watchers();
        }
        events::refused(self.whose(called.as_deref()), invalidation);
        if let Some(lifetime) = learned {
            events::learned_lifetime(self.whose(called.as_deref()), lifetime);
        }
        invalidation
    }
}

impl EntryState {
    fn history(&mut self) -> &mut RefusalHistory {
        self.history.get_or_insert_default()
    }

    /// Learns from a refused token whose server did not say how long it lives.
    ///
    /// While the token is being renewed, the new one may have revoked it. Then its age says nothing.
    fn learn_lifetime(&mut self, refused: &CachedToken, now: Moment) -> Option<Duration> {
        if !refused.is_lifetime_guessed || self.fetch.is_some() {
            return None;
        }
        let age = refused.age(now);
        self.history().lifetime.note_refusal(age)
    }
}
