//! Decides whether a refused token is replaced, and how soon. Pure.
//!
//! 1. Refusals replace at most a set number of tokens in any minute, whatever their kind.
//! 2. A token that the same origin had *accepted*, or that had served for half of its life, was good. It is replaced at once, or within
//!    [`MAX_WAIT`]. Two replicas whose tokens revoke each other need this.
//! 3. Other refusals may come from an API that refuses every token, because of a wrong audience. The first two in a row replace the
//!    token at once. After that one refusal in each pause does, and the pauses double.
//! 4. An API that accepts some requests and refuses others, whatever their token, looks like rule 2. So every eighth time the refused
//!    token is kept, to see what the same origin says to it next. A token that is accepted again was not the reason: from then on,
//!    rule 3 holds for that origin.

use std::{ops::RangeInclusive, time::Duration};

use crate::base::{back_off, clock::Moment, origin_id::OriginId};

/// How many tokens refusals may replace.
#[derive(Clone, Debug)]
pub(crate) struct RefusalBound {
    /// Zero keeps every refused token, and the greatest number sets no limit.
    pub(crate) per_minute: u32,
    pub(crate) pauses: RangeInclusive<Duration>,
}

/// A refusal of the current token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// Where it happened, if that is known.
    pub(crate) origin: Option<OriginId>,
    pub(crate) standing: Standing,
    /// Whether the token is in the first half of its life.
    pub(crate) is_young: bool,
}

/// What an origin has said to a token before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Unknown,
    Accepted,
    /// It accepted the token, then refused it, and the token was kept for that reason.
    Probed,
}

/// What becomes of a refused token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The token is dropped. Another is fetched after this time at the earliest.
    Replace(Duration),
    Keep,
    /// The token is kept, and its [`Standing`] at this origin becomes [`Standing::Probed`].
    Probe,
}

/// What is remembered about refused tokens of an entry.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Up to when the rate of replacements is used up. This is the theoretical arrival time of the generic cell rate algorithm.
    used_until: Option<Moment>,
    /// How many refusals of tokens that were not known to be good have replaced one, in a row.
    streak: u32,
    last: Option<Moment>,
    pause_until: Option<Moment>,
    /// How many refusals of accepted tokens came in a row.
    spared: u32,
    last_spared: Option<Moment>,
    /// An origin whose acceptance proves nothing, and until when this holds.
    unreliable: Option<(OriginId, Moment)>,
}

/// How many replacements may follow each other without waiting.
const BURST: u32 = 3;
/// A caller waits for at most this long for the rate of replacements. If that is not enough, the token is kept.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);
const FREE_REFUSALS: u32 = 2;
/// After this long without a refusal of the same kind, the next one counts as the first.
const QUIET: Duration = Duration::from_secs(60);
/// Every time this many accepted tokens in a row were refused, the token is probed.
const PROBE_EVERY: u32 = 8;

impl RefusalBound {
    pub(crate) const PER_MINUTE: u32 = 60;
    pub(crate) const PAUSES: RangeInclusive<Duration> =
        Duration::from_secs(5)..=Duration::from_secs(300);

    /// Returns how many replacements may follow each other, and the interval in which one more is allowed.
    ///
    /// In any minute, these allow exactly `per_minute`.
    fn rate(&self) -> (u32, Duration) {
        let burst = BURST.min(self.per_minute);
        let interval = match self.per_minute {
            u32::MAX => Duration::ZERO,
            per_minute => MINUTE / (per_minute - burst + 1),
        };
        (burst, interval)
    }

    fn pause(&self, streak: u32) -> Duration {
        match streak.checked_sub(FREE_REFUSALS) {
            Some(doublings) => {
                back_off::doubled(*self.pauses.start(), doublings, *self.pauses.end())
            }
            None => Duration::ZERO,
        }
    }
}

impl Refusals {
    /// Notes that the current token was refused. `jitter` is from 0 to 1.
    pub(crate) fn note(
        &mut self,
        bound: &RefusalBound,
        now: Moment,
        refusal: Refusal,
        jitter: f64,
    ) -> Verdict {
        if bound.per_minute == 0 {
            return Verdict::Keep;
        }
        let was_good = match refusal.standing {
            Standing::Unknown => false,
            Standing::Accepted => !self.is_unreliable(refusal.origin, now),
            Standing::Probed => true,
        };
        if was_good && refusal.is_young && refusal.standing == Standing::Accepted {
            if has_been_quiet(self.last_spared, QUIET, now) {
                self.spared = 0;
            }
            self.last_spared = Some(now);
            self.spared = self.spared.wrapping_add(1);
            if self.spared % PROBE_EVERY == 0 {
                return Verdict::Probe;
            }
        }
        if was_good || !refusal.is_young {
            return match self.wait_for_turn(bound, now, MAX_WAIT, jitter) {
                Some(wait) => Verdict::Replace(wait),
                None => Verdict::Keep,
            };
        }
        self.note_suspicious(bound, now)
    }

    fn note_suspicious(&mut self, bound: &RefusalBound, now: Moment) -> Verdict {
        let quiet = QUIET.max(bound.pause(self.streak).saturating_mul(2));
        if has_been_quiet(self.last, quiet, now) {
            (self.streak, self.pause_until) = (0, None);
        }
        self.last = Some(now);
        let is_pausing = self
            .pause_until
            .is_some_and(|until| !now.has_reached(until));
        if is_pausing
            || self
                .wait_for_turn(bound, now, Duration::ZERO, 0.0)
                .is_none()
        {
            return Verdict::Keep;
        }
        self.streak = self.streak.saturating_add(1);
        if self.streak >= FREE_REFUSALS {
            self.pause_until = Some(now.after(bound.pause(self.streak)));
        }
        Verdict::Replace(Duration::ZERO)
    }

    /// Notes that an origin accepted the token after it had refused it.
    pub(crate) fn note_accepted_again(&mut self, origin: OriginId, now: Moment) {
        self.spared = 0;
        self.unreliable = Some((origin, now.after(UNRELIABLE_FOR)));
    }

    /// Returns whether acceptance by this origin proves nothing. Each refusal there prolongs that.
    fn is_unreliable(&mut self, origin: Option<OriginId>, now: Moment) -> bool {
        match &mut self.unreliable {
            Some((unreliable, until))
                if Some(*unreliable) == origin && !now.has_reached(*until) =>
            {
                *until = now.after(UNRELIABLE_FOR);
                true
            }
            _ => false,
        }
    }

    /// Takes the next turn if it comes within `max_wait`, and returns how long that takes.
    ///
    /// A turn that must wait is delayed randomly, so that two replicas do not take theirs in the same order again and again.
    fn wait_for_turn(
        &mut self,
        bound: &RefusalBound,
        now: Moment,
        max_wait: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        let (burst, interval) = bound.rate();
        let used = self.used_until.map_or(Duration::ZERO, |at| now.until(at));
        let least = used.saturating_sub(interval.saturating_mul(burst - 1));
        if least > max_wait {
            return None;
        }
        let wait = match least.is_zero() {
            true => least,
            false => least + interval.mul_f64(jitter / 2.0),
        };
        self.used_until = Some(now.after(used.max(wait).saturating_add(interval)));
        Some(wait)
    }
}

/// Longer than twice the longest pause, so that a steady API stays known.
const UNRELIABLE_FOR: Duration = Duration::from_secs(900);

fn has_been_quiet(last: Option<Moment>, quiet: Duration, now: Moment) -> bool {
    last.is_none_or(|last| now.has_reached(last.after(quiet)))
}
