//! Decides whether a refused token is replaced, and how soon. Pure.
//!
//! 1. Refusals replace at most a set number of tokens in any minute, whatever their kind.
//! 2. A token that the same origin had *accepted*, or that had served for half of its life, was good. It is replaced without a pause.
//! 3. Other refusals may come from an API that refuses every token, because of a wrong audience. Two in a row, without an acceptance by
//!    the same origin in between, replace the token. After that one refusal in each pause does, and the pauses double.
//! 4. A replacement that lived for less than two seconds was probably revoked by the next token of another replica. The next one is
//!    fetched after a short random time: the other replica can use its token meanwhile. Two such tokens in a row are replaced in spite of
//!    the first pause.
//! 5. An API that accepts some requests and refuses others, whatever their token, looks like rule 2. So after every eighth replacement
//!    a refused token is kept once, to see what the same origin says to it next. Only requests that are sent after that count. A token that is
//!    accepted again was not the reason: from then on, rule 3 holds for that origin. Four such origins are known.

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
    /// Whether another origin has accepted the token.
    pub(crate) is_accepted_elsewhere: bool,
    /// Whether the token is in the first half of its life.
    pub(crate) is_young: bool,
    pub(crate) age: Duration,
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
    /// How many tokens in a row were replaced that were not known to be good.
    streak: u32,
    streak_at: Option<OriginId>,
    /// How many contested tokens of the streak were replaced during a pause.
    contested: u32,
    last: Option<Moment>,
    pause_until: Option<Moment>,
    /// How many young tokens were replaced since the last probe.
    replaced: u32,
    last_replaced: Option<Moment>,
    /// The origins whose acceptance proves nothing, and until when this holds.
    unreliable: [Option<(OriginId, Moment)>; UNRELIABLE],
}

/// How many replacements may follow each other without waiting.
const BURST: u32 = 3;
/// A caller waits for at most this long for the rate of replacements. If that is not enough, the token is kept.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(2);
/// How long a turn is delayed randomly at most.
const MAX_DELAY: Duration = Duration::from_millis(500);
const MINUTE: Duration = Duration::from_secs(60);
const FREE_REFUSALS: u32 = 2;
/// How many contested tokens in a row are replaced in spite of the first pause.
const FREE_CONTESTED: u32 = 2;
/// After this long without a refusal of the same kind, the next one counts as the first.
const QUIET: Duration = Duration::from_secs(60);
/// After this many replacements of young tokens, an accepted token that is refused is probed.
const PROBE_AFTER: u32 = 7;
/// A replacement that is refused at this age or earlier was probably revoked by another replica.
const CONTESTED: Duration = Duration::from_secs(2);
/// How long to wait before a contested token is replaced. The least of it is time for the other replica.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(1_000));

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
        let was_good = self.was_good(refusal, now);
        if let Some(origin) = refusal.origin.filter(|it| self.is_unreliable(*it, now)) {
            self.distrust(origin, now);
        }
        if !refusal.is_young {
            let wait = self.wait_for_turn(bound, now, Duration::ZERO, jitter);
            return wait.map_or(Verdict::Keep, Verdict::Replace);
        }
        if has_been_quiet(self.last_replaced, QUIET, now) {
            self.replaced = 0;
        }
        if was_good && refusal.standing == Standing::Accepted && self.replaced >= PROBE_AFTER {
            self.replaced = 0;
            return Verdict::Probe;
        }
        let is_contested = self.is_contested(refusal, now);
        let is_pausing = !was_good && self.is_pausing(bound, now);
        // Later pauses are for an origin that has had several seconds to accept a token.
        let is_free = self.streak == FREE_REFUSALS && self.contested < FREE_CONTESTED;
        if is_pausing && !(is_contested && is_free) {
            return Verdict::Keep;
        }
        let back_off = match is_contested {
            true => BACK_OFF.0 + (BACK_OFF.1 - BACK_OFF.0).mul_f64(jitter),
            false => Duration::ZERO,
        };
        let Some(wait) = self.wait_for_turn(bound, now, back_off, jitter) else {
            return Verdict::Keep;
        };
        self.replaced = self.replaced.saturating_add(1);
        self.last_replaced = Some(now);
        if is_pausing {
            self.contested += 1;
        } else if !was_good {
            self.lengthen_streak(bound, now, refusal.origin);
        }
        Verdict::Replace(wait)
    }

    /// Returns whether the token was good until it was refused, as far as its origin is known.
    pub(crate) fn was_good(&self, refusal: Refusal, now: Moment) -> bool {
        match refusal.standing {
            Standing::Unknown => false,
            Standing::Accepted => !refusal
                .origin
                .is_some_and(|origin| self.is_unreliable(origin, now)),
            Standing::Probed => true,
        }
    }

    /// Returns whether the token was itself a replacement, and did not live for long.
    ///
    /// If nobody knows where it was refused, nobody knows whether another replica uses the same API. If only this origin does not accept
    /// it, no replica has revoked it, and the users at the other origins do not wait.
    fn is_contested(&self, refusal: Refusal, now: Moment) -> bool {
        let is_only_here = refusal.standing == Standing::Unknown && refusal.is_accepted_elsewhere;
        refusal.origin.is_some()
            && !is_only_here
            && refusal.age < CONTESTED
            && !has_been_quiet(self.last_replaced, CONTESTED.saturating_mul(2), now)
    }

    /// Notes a refusal of a token that was not known to be good. Returns whether the pause after the last one has not ended.
    fn is_pausing(&mut self, bound: &RefusalBound, now: Moment) -> bool {
        let quiet = QUIET.max(bound.pause(self.streak).saturating_mul(2));
        if has_been_quiet(self.last, quiet, now) {
            self.end_streak();
        }
        self.last = Some(now);
        self.pause_until
            .is_some_and(|until| !now.has_reached(until))
    }

    fn lengthen_streak(&mut self, bound: &RefusalBound, now: Moment, origin: Option<OriginId>) {
        self.streak = self.streak.saturating_add(1);
        self.streak_at = origin;
        if self.streak >= FREE_REFUSALS {
            self.pause_until = Some(now.after(bound.pause(self.streak)));
        }
    }

    fn end_streak(&mut self) {
        (self.streak, self.contested) = (0, 0);
        (self.streak_at, self.pause_until) = (None, None);
    }

    /// Notes that an origin accepted the current token for the first time.
    pub(crate) fn note_accepted(&mut self, origin: OriginId, now: Moment) {
        if self.streak_at == Some(origin) && !self.is_unreliable(origin, now) {
            self.end_streak();
        }
    }

    /// Notes that an origin accepted the token after it had refused it.
    pub(crate) fn note_accepted_again(&mut self, origin: OriginId, now: Moment) {
        self.distrust(origin, now);
    }

    /// Returns whether acceptance by this origin proves nothing.
    fn is_unreliable(&self, origin: OriginId, now: Moment) -> bool {
        let mut unreliable = self.unreliable.iter().flatten();
        unreliable.any(|(known, until)| *known == origin && !now.has_reached(*until))
    }

    /// Notes that acceptance by this origin proves nothing for a while. If there is no room, another is forgotten.
    fn distrust(&mut self, origin: OriginId, now: Moment) {
        let place = self.unreliable.iter_mut().min_by_key(|place| match place {
            Some((known, _)) if *known == origin => None,
            None => Some(Duration::ZERO),
            Some((_, until)) => Some(now.until(*until)),
        });
        if let Some(place) = place {
            *place = Some((origin, now.after(UNRELIABLE_FOR)));
        }
    }

    /// Takes the next turn, and returns when it comes. The turn is not taken if it comes too late.
    ///
    /// A turn that must wait is delayed randomly, so that two replicas do not take theirs in the same order again and again.
    fn wait_for_turn(
        &mut self,
        bound: &RefusalBound,
        now: Moment,
        back_off: Duration,
        jitter: f64,
    ) -> Option<Duration> {
        let (burst, interval) = bound.rate();
        let used = self.used_until.map_or(Duration::ZERO, |at| now.until(at));
        let turn = used.saturating_sub(interval.saturating_mul(burst - 1));
        if turn > MAX_WAIT {
            return None;
        }
        let wait = match turn.is_zero() {
            true => back_off,
            false => back_off.max(turn + (interval / 2).min(MAX_DELAY).mul_f64(jitter)),
        };
        self.used_until = Some(now.after(used.max(wait).saturating_add(interval)));
        Some(wait)
    }
}

/// As many origins as a token is known to be accepted at.
const UNRELIABLE: usize = 4;
/// Longer than twice the longest pause, so that a steady API stays known.
const UNRELIABLE_FOR: Duration = Duration::from_secs(900);

fn has_been_quiet(last: Option<Moment>, quiet: Duration, now: Moment) -> bool {
    last.is_none_or(|last| now.has_reached(last.after(quiet)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Standing::*, Verdict::*, *};

    const NOW: Verdict = Replace(Duration::ZERO);

    fn bound(per_minute: u32) -> RefusalBound {
        RefusalBound {
            per_minute,
            pauses: RefusalBound::PAUSES,
        }
    }

    fn origin(name: &str) -> Option<OriginId> {
        OriginId::of(&format!("https://{name}.example").parse().unwrap())
    }

    fn at(time: Duration) -> Moment {
        Moment::new(time, time)
    }

    #[test]
    fn refusals_replace_probe_or_keep_the_token() {
        let refusal = |standing, is_young| Refusal {
            origin: origin("api"),
            standing,
            is_accepted_elsewhere: false,
            is_young,
            age: CONTESTED,
        };
        let (unknown, old, accepted, probed) = (
            refusal(Unknown, true),
            refusal(Unknown, false),
            refusal(Accepted, true),
            refusal(Probed, true),
        );
        let wait = |millis| Replace(Duration::from_millis(millis));
        for (name, per_minute, steps) in [
            (
                "never accepted: two at once, then one after each pause",
                60,
                &[
                    (0, unknown, NOW),
                    (0, unknown, NOW),
                    (0, unknown, Keep),
                    (4_999, unknown, Keep),
                    (5_000, unknown, NOW),
                    (14_999, unknown, Keep),
                    (15_000, unknown, NOW),
                ][..],
            ),
            (
                "accepted: no pause, but one a second, and a probe each eighth time",
                // 60 seconds in 60 parts.
                62,
                &[
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, wait(1_000)),
                    (1_000, accepted, wait(1_000)),
                    (2_000, accepted, wait(1_000)),
                    (3_000, accepted, wait(1_000)),
                    (4_000, accepted, Probe),
                    (4_000, probed, wait(1_000)),
                    (5_500, accepted, wait(500)),
                    (7_000, accepted, NOW),
                ],
            ),
            (
                "an accepted token is replaced during the pause of others, which goes on",
                60,
                &[
                    (0, unknown, NOW),
                    (0, unknown, NOW),
                    (2_000, accepted, NOW),
                    (2_000, unknown, Keep),
                    (4_999, unknown, Keep),
                    (5_000, unknown, NOW),
                ],
            ),
            (
                "a token that has served for half of its life does not count",
                60,
                &[
                    (0, old, NOW),
                    (1_000, old, NOW),
                    (2_000, old, NOW),
                    (3_000, unknown, NOW),
                    (4_000, unknown, NOW),
                    (5_000, unknown, Keep),
                ],
            ),
            (
                "a turn that does not come within two seconds is not waited for",
                1,
                &[
                    (0, accepted, NOW),
                    (57_999, accepted, Keep),
                    (58_000, accepted, wait(2_000)),
                ],
            ),
            (
                "the limit is shared by all kinds of refusals",
                2,
                &[
                    (0, unknown, NOW),
                    (0, old, NOW),
                    (1, accepted, Keep),
                    (1, unknown, Keep),
                    (1, old, Keep),
                    (60_000, unknown, NOW),
                ],
            ),
            (
                "a limit of zero keeps every token",
                0,
                &[(0, unknown, Keep), (0, accepted, Keep), (0, old, Keep)],
            ),
            (
                "without a limit, accepted tokens are replaced at once",
                u32::MAX,
                &[
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, NOW),
                    (0, accepted, Probe),
                    (0, probed, NOW),
                ],
            ),
        ] {
            let mut refusals = Refusals::default();
            for (millis, refusal, expected) in steps {
                let now = at(Duration::from_millis(*millis));
                let verdict = refusals.note(&bound(per_minute), now, *refusal, 0.0);
                assert_eq!(verdict, *expected, "{name}: {millis} {refusal:?}");
            }
        }
    }

    #[test]
    fn an_origin_that_accepts_a_refused_token_is_believed_no_longer() {
        let mut refusals = Refusals::default();
        let refusal = |name| Refusal {
            origin: origin(name),
            standing: Accepted,
            is_accepted_elsewhere: false,
            is_young: true,
            age: CONTESTED,
        };
        let note = |refusals: &mut Refusals, secs, name| {
            refusals.note(
                &bound(60),
                at(Duration::from_secs(secs)),
                refusal(name),
                0.0,
            )
        };
        refusals.note_accepted_again(origin("mixed").unwrap(), at(Duration::from_secs(0)));
        for (secs, name, expected) in [
            (100, "mixed", NOW),
            (110, "mixed", NOW),
            (111, "mixed", Keep),
            (111, "other", NOW),
            (115, "mixed", NOW),
            (116, "mixed", Keep),
            // Fifteen minutes after the last refusal, it is believed again.
            (1_016, "mixed", NOW),
            (1_018, "mixed", NOW),
            (1_020, "mixed", NOW),
        ] {
            assert_eq!(
                note(&mut refusals, secs, name),
                expected,
                "{secs} s: {name}"
            );
        }
    }

    /// Each refusal by that origin is another sign that its acceptances say nothing.
    #[test]
    fn a_refusal_prolongs_the_time_in_which_an_origin_is_not_believed() {
        let refusal = Refusal {
            origin: origin("mixed"),
            standing: Accepted,
            is_accepted_elsewhere: false,
            is_young: true,
            age: CONTESTED,
        };
        for (refused_at, expected) in [(None, NOW), (Some(800), Keep)] {
            let mut refusals = Refusals::default();
            refusals.note_accepted_again(refusal.origin.unwrap(), at(Duration::ZERO));
            let mut note = |secs| {
                let now = at(Duration::from_secs(secs));
                refusals.note(&bound(60), now, refusal, 0.0)
            };
            if let Some(secs) = refused_at {
                assert_eq!(note(secs), NOW);
            }
            let verdicts = [1_000, 1_002, 1_004].map(note);
            assert_eq!(verdicts, [NOW, NOW, expected], "{refused_at:?}");
        }
    }

    /// The times pass while the host is suspended, as far as one of its clocks tells.
    #[test]
    fn pauses_end_when_either_clock_reaches_their_end() {
        let refusal = |standing| Refusal {
            origin: origin("api"),
            standing,
            is_accepted_elsewhere: false,
            is_young: true,
            age: CONTESTED,
        };
        let moment = |secs, suspended| {
            Moment::new(
                Duration::from_secs(secs),
                Duration::from_secs(secs + suspended),
            )
        };
        let bound = bound(u32::MAX);

        let mut pausing = Refusals::default();
        let mut note = |now| pausing.note(&bound, now, refusal(Unknown), 0.0);
        for (now, expected) in [
            (moment(100, 0), NOW),
            (moment(100, 0), NOW),
            (moment(100, 4), Keep),
            (moment(100, 5), NOW),
            (moment(100, 6), Keep),
            // Quiet
            (moment(101, 500), NOW),
            (moment(101, 500), NOW),
            (moment(101, 500), Keep),
        ] {
            assert_eq!(note(now), expected, "{now:?}");
        }

        let mut mixed = Refusals::default();
        mixed.note_accepted_again(origin("api").unwrap(), moment(100, 0));
        let mut note = |now| mixed.note(&bound, now, refusal(Accepted), 0.0);
        let verdicts = [900, 900, 900].map(|suspended| note(moment(100, suspended)));
        assert_eq!(verdicts, [NOW; 3]);
    }

    /// At most a half of the interval between two turns, so that the turns are not missed.
    #[test]
    fn turn_is_waited_for_a_random_part_of_the_interval_longer() {
        for (per_minute, jitter, expected) in [
            // One turn each half second
            (122, 0.0, 500),
            (122, 0.5, 625),
            (122, 1.0, 750),
            // One turn each second
            (62, 1.0, 1_500),
            // One turn in two seconds
            (32, 0.0, 2_000),
            (32, 1.0, 2_500),
        ] {
            let refusal = Refusal {
                origin: origin("api"),
                standing: Accepted,
                is_accepted_elsewhere: false,
                is_young: true,
                age: CONTESTED,
            };
            let mut refusals = Refusals::default();
            let mut note = || refusals.note(&bound(per_minute), at(MINUTE), refusal, jitter);
            assert_eq!([note(), note(), note()], [NOW; 3]);
            let wait = Replace(Duration::from_millis(expected));
            assert_eq!(note(), wait, "{per_minute} {jitter}");
        }
    }

    #[test]
    fn several_origins_are_believed_no_longer_until_they_stop_refusing() {
        let mut refusals = Refusals::default();
        let names = ["a", "b", "c", "d", "e"];
        let origins = names.map(|name| origin(name).unwrap());
        let is_unreliable = |refusals: &Refusals, secs| {
            origins.map(|origin| refusals.is_unreliable(origin, at(Duration::from_secs(secs))))
        };
        for (secs, origin) in [0, 1, 2, 3].into_iter().zip(origins) {
            refusals.note_accepted_again(origin, at(Duration::from_secs(secs)));
        }
        assert_eq!(
            is_unreliable(&refusals, 10),
            [true, true, true, true, false]
        );
        // There is room for four, and the first is the oldest.
        refusals.note_accepted_again(origins[4], at(Duration::from_secs(10)));
        assert_eq!(
            is_unreliable(&refusals, 10),
            [false, true, true, true, true]
        );
        let refusal = Refusal {
            origin: Some(origins[1]),
            standing: Accepted,
            is_accepted_elsewhere: false,
            is_young: true,
            age: CONTESTED,
        };
        refusals.note(&bound(60), at(Duration::from_secs(800)), refusal, 0.0);
        // Accepted tokens prolong nothing.
        for secs in [850, 900, 1_000, 1_600] {
            for origin in origins {
                refusals.note_accepted(origin, at(Duration::from_secs(secs)));
            }
        }
        assert_eq!(
            is_unreliable(&refusals, 1_000),
            [false, true, false, false, false]
        );
        assert_eq!(is_unreliable(&refusals, 1_700), [false; 5]);
    }

    #[test]
    fn a_contested_token_is_replaced_after_a_random_time() {
        let refusal = |name: Option<&str>, age| Refusal {
            origin: name.and_then(origin),
            standing: Unknown,
            is_accepted_elsewhere: false,
            is_young: true,
            age: Duration::from_millis(age),
        };
        let wait = |millis| Replace(Duration::from_millis(millis));
        for is_accepted_elsewhere in [false, true] {
            let mut refusals = Refusals::default();
            let refusal = Refusal {
                is_accepted_elsewhere,
                ..refusal(Some("api"), 20)
            };
            let verdicts = [0, 1].map(|_| refusals.note(&bound(60), at(MINUTE), refusal, 0.0));
            let expected = match is_accepted_elsewhere {
                true => NOW,
                false => wait(250),
            };
            assert_eq!(verdicts, [NOW, expected], "{is_accepted_elsewhere}");
        }
        for (first, second, millis, jitter, expected) in [
            (Some("api"), Some("api"), 20, 0.0, wait(250)),
            (Some("api"), Some("api"), 20, 1.0, wait(1_000)),
            (Some("api"), Some("api"), 1_999, 0.5, wait(625)),
            (Some("api"), Some("api"), 2_000, 1.0, NOW),
            // A caller of `TokenSource::invalidate` does not say where.
            (Some("api"), None, 20, 1.0, NOW),
            (None, Some("api"), 20, 1.0, wait(1_000)),
        ] {
            let mut refusals = Refusals::default();
            let mut note = |now, refusal| refusals.note(&bound(60), at(now), refusal, jitter);
            assert_eq!(
                note(MINUTE, refusal(first, 0)),
                NOW,
                "the first is replaced at once"
            );
            let now = MINUTE + Duration::from_millis(millis);
            assert_eq!(
                note(now, refusal(second, millis)),
                expected,
                "{second:?} {millis}"
            );
        }
    }

    /// Rule 4: another replica may revoke two tokens in a row. What refuses the third refuses every token.
    #[test]
    fn two_contested_tokens_are_replaced_during_the_first_pause_and_none_later() {
        let contested = |age| Refusal {
            origin: origin("api"),
            standing: Unknown,
            is_accepted_elsewhere: false,
            is_young: true,
            age: Duration::from_millis(age),
        };
        let wait = Replace(BACK_OFF.0);
        for (name, steps) in [
            (
                "in the first pause",
                &[
                    (0, 2_000, NOW),
                    (300, 20, wait),
                    // The pause of five seconds has begun.
                    (600, 20, wait),
                    (900, 20, wait),
                    (1_200, 20, Keep),
                    (1_500, 20, Keep),
                    (5_299, 20, Keep),
                    (5_300, 2_000, NOW),
                    // The second pause, of ten seconds.
                    (5_600, 20, Keep),
                    (15_299, 20, Keep),
                    (15_300, 2_000, NOW),
                ][..],
            ),
            (
                "one that is not contested waits for the end of the pause",
                &[
                    (0, 2_000, NOW),
                    (300, 20, wait),
                    (600, 2_000, Keep),
                    (600, 20, wait),
                    (900, 2_000, Keep),
                    // The last replacement was four seconds ago.
                    (4_600, 20, Keep),
                    (5_300, 2_000, NOW),
                ],
            ),
            (
                "the second pause begins without a contested token",
                &[
                    (0, 2_000, NOW),
                    (300, 2_000, NOW),
                    (5_300, 2_000, NOW),
                    (5_600, 20, Keep),
                ],
            ),
        ] {
            let mut refusals = Refusals::default();
            for (millis, age, expected) in steps {
                let now = at(MINUTE + Duration::from_millis(*millis));
                let verdict = refusals.note(&bound(u32::MAX), now, contested(*age), 0.0);
                assert_eq!(verdict, *expected, "{name}: {millis} {age}");
            }
        }
    }

    /// Rule 5 is about replacements that follow each other.
    #[test]
    fn replacements_before_a_quiet_minute_do_not_count_towards_a_probe() {
        let refusal = |name, standing| Refusal {
            origin: origin(name),
            standing,
            is_accepted_elsewhere: false,
            is_young: true,
            age: CONTESTED,
        };
        for (quiet, expected) in [(59_999, Probe), (60_000, NOW)] {
            let mut refusals = Refusals::default();
            let mut note = |millis, refusal| {
                let now = at(Duration::from_millis(millis));
                refusals.note(&bound(u32::MAX), now, refusal, 0.0)
            };
            for _ in 0..PROBE_AFTER {
                assert_eq!(note(0, refusal("api", Accepted)), NOW);
            }
            let last = refusal("api", Accepted);
            assert_eq!(note(quiet, last), expected, "{quiet}");
            for n in 1..PROBE_AFTER {
                assert_eq!(note(quiet, refusal("api", Accepted)), NOW, "{quiet} {n}");
            }
        }

        // An origin that is not believed is not asked again.
        let mut refusals = Refusals::default();
        refusals.note_accepted_again(origin("mixed").unwrap(), at(MINUTE));
        for _ in 0..PROBE_AFTER {
            let refusal = refusal("api", Accepted);
            let verdict = refusals.note(&bound(u32::MAX), at(MINUTE), refusal, 0.0);
            assert_eq!(verdict, NOW);
        }
        let refusal = refusal("mixed", Accepted);
        let verdict = refusals.note(&bound(u32::MAX), at(MINUTE), refusal, 0.0);
        assert_eq!(verdict, NOW);
    }

    #[test]
    fn only_an_acceptance_by_the_origin_that_refused_ends_the_streak() {
        let refusal = Refusal {
            origin: origin("bad"),
            standing: Unknown,
            is_accepted_elsewhere: false,
            is_young: true,
            age: CONTESTED,
        };
        for (accepting, is_unreliable, expected) in [
            ("bad", false, NOW),
            ("good", false, Keep),
            ("bad", true, Keep),
        ] {
            let mut refusals = Refusals::default();
            if is_unreliable {
                refusals.note_accepted_again(origin("bad").unwrap(), at(MINUTE));
            }
            for _ in 0..2 {
                let verdict = refusals.note(&bound(60), at(MINUTE), refusal, 0.0);
                assert_eq!(verdict, NOW);
            }
            refusals.note_accepted(origin(accepting).unwrap(), at(MINUTE));
            let verdict = refusals.note(&bound(60), at(MINUTE), refusal, 0.0);
            assert_eq!(verdict, expected, "{accepting} {is_unreliable}");
        }
    }

    #[test]
    fn a_pause_of_zero_switches_the_pauses_off() {
        let bound = RefusalBound {
            per_minute: u32::MAX,
            pauses: Duration::ZERO..=Duration::ZERO,
        };
        let mut refusals = Refusals::default();
        let refusal = Refusal {
            origin: None,
            standing: Unknown,
            is_accepted_elsewhere: false,
            is_young: true,
            age: Duration::ZERO,
        };
        for _ in 0..100 {
            assert_eq!(refusals.note(&bound, at(MINUTE), refusal, 0.5), NOW);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However often tokens that were never accepted are refused, no three are dropped within the first pause, and none is kept for
        /// longer than the longest.
        #[test]
        fn unknown_tokens_are_dropped_rarely_and_kept_only_for_a_while(steps in steps(400)) {
            let mut refusals = Refusals::default();
            let mut now = Duration::ZERO;
            let mut dropped = Vec::new();
            for (step, refusal, jitter) in steps {
                now += step;
                let refusal = Refusal { standing: Unknown, is_young: true, age: refusal.age + CONTESTED, ..refusal };
                match refusals.note(&bound(RefusalBound::PER_MINUTE), at(now), refusal, jitter) {
                    Replace(wait) => {
                        prop_assert!(wait <= BACK_OFF.1);
                        now += wait;
                        dropped.push(now);
                    }
                    _ => {
                        let last = dropped.last().copied();
                        prop_assert!(last.is_some_and(|last| now - last < *RefusalBound::PAUSES.end()), "{last:?} {now:?}");
                    }
                }
            }
            for three in dropped.windows(3) {
                prop_assert!(three[2] - three[0] >= *RefusalBound::PAUSES.start(), "{dropped:?}");
            }
        }

        /// Whatever is refused, by whom and how often.
        #[test]
        fn no_more_tokens_than_allowed_are_replaced_in_any_minute(steps in steps(600), per_minute in 0..100_u32) {
            let mut refusals = Refusals::default();
            let bound = bound(per_minute);
            let mut now = Duration::ZERO;
            let mut sent = Vec::new();
            for (step, refusal, jitter) in steps {
                now += step;
                match refusals.note(&bound, at(now), refusal, jitter) {
                    Replace(wait) => {
                        prop_assert!(wait <= MAX_WAIT + MAX_DELAY, "{wait:?}");
                        // The fetch is sent at this time, and until then there is no token that could be refused.
                        now += wait;
                        sent.push(now);
                    }
                    Probe => {
                        if step.subsec_millis() % 2 == 0 {
                            refusals.note_accepted_again(refusal.origin.unwrap(), at(now));
                        }
                    }
                    Keep => {}
                }
            }
            for window in sent.windows(per_minute as usize + 1) {
                let took = *window.last().unwrap() - window[0];
                // A part of a minute is rounded to whole nanoseconds.
                prop_assert!(took + Duration::from_micros(1) >= MINUTE, "{took:?}");
            }
        }

        /// Two replicas at a server that revokes the last token with each new one.
        #[test]
        fn accepted_tokens_are_replaced_within_two_seconds_but_for_each_eighth(steps in steps(200)) {
            let mut refusals = Refusals::default();
            let bound = bound(RefusalBound::PER_MINUTE);
            let mut now = Duration::ZERO;
            let (mut kept, mut replaced) = (0, 0);
            let mut standing = Accepted;
            for (step, refusal, jitter) in steps {
                now += step;
                let refusal = Refusal { standing, is_young: true, ..refusal };
                match refusals.note(&bound, at(now), refusal, jitter) {
                    Replace(wait) => {
                        prop_assert!(wait < MAX_WAIT);
                        now += wait;
                        replaced += 1;
                        standing = Accepted;
                    }
                    Probe => {
                        kept += 1;
                        standing = Probed;
                    }
                    Keep => prop_assert!(false),
                }
            }
            prop_assert!(kept * 7 <= replaced, "{kept} {replaced}");
        }
    }

    fn steps(max: usize) -> impl Strategy<Value = Vec<(Duration, Refusal, f64)>> {
        let step = prop_oneof![0..2_000_u64, 0..100_000_u64, 0..700_000_u64];
        let standing = prop_oneof![Just(Unknown), Just(Accepted), Just(Accepted), Just(Probed)];
        let origins = prop_oneof![Just(origin("one")), Just(origin("other"))];
        let refusal = (standing, any::<bool>(), origins, 0..5_000_u64).prop_map(
            |(standing, is_young, origin, age)| Refusal {
                origin,
                standing,
                is_accepted_elsewhere: age % 3 == 0,
                is_young,
                age: Duration::from_millis(age),
            },
        );
        let step = (step.prop_map(Duration::from_millis), refusal, 0.0..1.0);
        prop::collection::vec(step, 1..max)
    }
}
