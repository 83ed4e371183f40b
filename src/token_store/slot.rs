//! The rules of an engine as a pure state machine: what one name holds, and how each operation changes it.
//!
//! The scripts of the Redis engine follow the same rules.

use std::time::Duration;

use bytes::Bytes;

use super::{Fence, Found, LeaseOwner, Put};

/// How long a lease is remembered after its end, so that fences grow and the next holder learns that its predecessor was lost.
pub(super) const LEASE_REMEMBERED: Duration = Duration::from_secs(3600);

/// What one name holds. All times are since 1970, by the clock of the engine.
#[derive(Debug, Default)]
pub(super) struct Slot {
    stored: Option<Stored>,
    lease: Option<Lease>,
    /// The greatest fence so far.
    last: Option<Fence>,
    /// Whether a holder was lost since the last entry was stored.
    lost_holder: bool,
    /// When all of this no longer matters.
    end: Duration,
}

#[derive(Debug)]
struct Stored {
    fence: Fence,
    /// `None` after it was removed: the fence stays.
    entry: Option<Bytes>,
    /// When its lease was granted.
    granted: Duration,
    ttl: Duration,
    end: Duration,
}

impl Stored {
    /// How long ago the lease was granted. If the clock was set back since, nobody knows, so the age is the whole `ttl`.
    fn age(&self, now: Duration) -> Duration {
        match self.granted > now.saturating_add(Duration::from_secs(1)) {
            true => self.ttl,
            false => now.saturating_sub(self.granted),
        }
    }
}

#[derive(Debug)]
struct Lease {
    fence: Fence,
    /// `None` during a pause.
    owner: Option<LeaseOwner>,
    granted: Duration,
    length: Duration,
    end: Duration,
}

impl Lease {
    /// How long the lease lasts. If the clock was set back, that is longer than it was granted for.
    fn rest(&self, now: Duration) -> Option<Duration> {
        let rest = self.end.saturating_sub(now);
        (!rest.is_zero()).then_some(rest)
    }

    /// Lets the time of a lease begin again if the clock was set back: the holder may still be working.
    fn follow_clock(&mut self, now: Duration) {
        self.end = self.end.min(now.saturating_add(self.length));
    }
}

impl Slot {
    pub(super) fn look(
        &mut self,
        now: Duration,
        newer_than: Option<Fence>,
        owner: &LeaseOwner,
        lease_for: Duration,
    ) -> Found {
        self.forget(now);
        if let Some((stored, entry)) = self.newer(newer_than) {
            return Found::Entry {
                entry: entry.clone(),
                fence: stored.fence,
                age: stored.age(now),
            };
        }
        let mut after_lost_holder = self.lost_holder;
        if let Some(lease) = &mut self.lease {
            lease.follow_clock(now);
            match (lease.rest(now), &lease.owner) {
                (Some(_), Some(holder)) if holder == owner => {
                    (lease.length, lease.end) = (lease_for, now.saturating_add(lease_for));
                    let fence = lease.fence;
                    self.remember(now, lease_for.saturating_add(LEASE_REMEMBERED));
                    return Found::Leased {
                        fence,
                        after_lost_holder,
                    };
                }
                (Some(rest), Some(_)) => {
                    let fence = lease.fence;
                    return Found::Held { fence, rest };
                }
                (Some(rest), None) => return Found::Paused { rest },
                (None, holder) => after_lost_holder |= holder.is_some(),
            }
        }
        let fence = self.next_fence(now, newer_than);
        (self.last, self.lost_holder) = (Some(fence), after_lost_holder);
        self.lease = Some(Lease {
            fence,
            owner: Some(owner.clone()),
            granted: now,
            length: lease_for,
            end: now.saturating_add(lease_for),
        });
        self.remember(now, lease_for.saturating_add(LEASE_REMEMBERED));
        Found::Leased {
            fence,
            after_lost_holder,
        }
    }

    pub(super) fn renew(&mut self, now: Duration, owner: &LeaseOwner, lease_for: Duration) -> bool {
        let Some(lease) = self.lease_of(now, owner) else {
            return false;
        };
        (lease.length, lease.end) = (lease_for, now.saturating_add(lease_for));
        self.remember(now, lease_for.saturating_add(LEASE_REMEMBERED));
        true
    }

    pub(super) fn release(&mut self, now: Duration, owner: &LeaseOwner, pause: Duration) {
        let Some(lease) = self.lease_of(now, owner) else {
            return;
        };
        if pause.is_zero() {
            self.lease = None;
        } else {
            lease.owner = None;
            (lease.length, lease.end) = (pause, now.saturating_add(pause));
            self.remember(now, pause);
        }
    }

    pub(super) fn put(
        &mut self,
        now: Duration,
        owner: &LeaseOwner,
        fence: Fence,
        entry: Bytes,
        ttl: Duration,
    ) -> Put {
        let granted = self.granted(fence);
        if self.lease_of(now, owner).is_some() {
            self.lease = None;
        }
        self.forget(now);
        if let Some(stored) = &self.stored {
            let was_removed = stored.entry.is_none();
            if stored.fence > fence || (stored.fence == fence && was_removed) {
                return Put::Superseded;
            }
        }
        (self.last, self.lost_holder) = (self.last.max(Some(fence)), false);
        self.remember(now, ttl);
        self.stored = Some(Stored {
            fence,
            entry: Some(entry),
            granted,
            ttl,
            end: now.saturating_add(ttl),
        });
        Put::Stored
    }

    pub(super) fn remove(&mut self, now: Duration, fence: Fence) -> bool {
        self.forget(now);
        let stored = self.stored.as_mut().filter(|stored| stored.fence == fence);
        stored.is_some_and(|stored| stored.entry.take().is_some())
    }

    /// Whether this lease has not ended.
    pub(super) fn is_held(&self, now: Duration, fence: Fence) -> bool {
        let lease = self.lease.as_ref().filter(|lease| lease.fence == fence);
        lease.is_some_and(|lease| lease.owner.is_some() && lease.rest(now).is_some())
    }

    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.end <= now
    }

    fn remember(&mut self, now: Duration, time: Duration) {
        self.end = self.end.max(now.saturating_add(time));
    }

    /// Drops what has ended.
    fn forget(&mut self, now: Duration) {
        if self.is_over(now) {
            *self = Self::default();
        }
        self.stored.take_if(|stored| stored.end <= now);
    }

    fn newer(&self, newer_than: Option<Fence>) -> Option<(&Stored, &Bytes)> {
        let stored = self.stored.as_ref()?;
        let is_newer = newer_than.is_none_or(|known| stored.fence > known);
        let entry = stored.entry.as_ref().filter(|_| is_newer)?;
        Some((stored, entry))
    }

    fn lease_of(&mut self, now: Duration, owner: &LeaseOwner) -> Option<&mut Lease> {
        let lease = self.lease.as_mut()?;
        let is_held = lease.owner.as_ref() == Some(owner) && lease.rest(now).is_some();
        is_held.then_some(lease)
    }

    /// When the lease with this fence was granted. A fence is mostly that time.
    fn granted(&self, fence: Fence) -> Duration {
        let lease = self.lease.as_ref().filter(|lease| lease.fence == fence);
        let stored = self.stored.as_ref().filter(|stored| stored.fence == fence);
        let known = lease.map(|lease| lease.granted);
        let known = known.or_else(|| stored.map(|stored| stored.granted));
        known.unwrap_or_else(|| Duration::from_micros(fence.get()))
    }

    /// The time in microseconds, but greater than each fence that is known.
    fn next_fence(&self, now: Duration, newer_than: Option<Fence>) -> Fence {
        let known = self.last.max(newer_than);
        let time = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let after = known.map_or(0, |known| known.get().saturating_add(1));
        Fence::new(time.max(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn clock_that_is_set_back_lets_a_lease_begin_again_and_keeps_fences_growing() {
        let (mut slot, a, b) = (Slot::default(), LeaseOwner::random(), LeaseOwner::random());
        let Found::Leased { fence, .. } = slot.look(at(5000), None, &a, LEASE) else {
            panic!("nobody holds the lease");
        };
        assert!(slot.is_held(at(0), fence));
        let held = Found::Held { fence, rest: LEASE };
        assert_eq!(slot.look(at(0), None, &b, LEASE), held, "a is at work");
        let Found::Leased {
            fence: next,
            after_lost_holder,
        } = slot.look(at(10), None, &b, LEASE)
        else {
            panic!("the lease must not last for more than an hour");
        };
        assert!(next > fence && after_lost_holder);
        assert!(!slot.renew(at(10), &a, LEASE));
        let put = slot.put(at(10), &b, next, "next".into(), LEASE);
        assert_eq!(put, Put::Stored);
        let late = slot.put(at(10), &a, fence, "late".into(), LEASE);
        assert_eq!(late, Put::Superseded);
    }

    #[test]
    fn entry_is_as_old_as_its_lease_or_as_can_be_if_the_clock_was_set_back() {
        let (mut slot, a) = (Slot::default(), LeaseOwner::random());
        let (half, hour) = (Duration::from_millis(500), Duration::from_secs(3600));
        let Found::Leased { fence, .. } = slot.look(at(500), None, &a, hour) else {
            panic!("nobody holds the lease");
        };
        slot.put(at(550), &a, fence, "entry".into(), hour);
        for (now, expected) in [
            (at(550), Duration::from_secs(50)),
            (at(500), Duration::ZERO),
            (at(500) - half, Duration::ZERO),
            (at(498), hour),
            (at(0), hour),
        ] {
            let Found::Entry { age, .. } = slot.look(now, None, &a, LEASE) else {
                panic!("it has not ended");
            };
            assert_eq!(age, expected, "{now:?}");
        }

        // What is stored after the clock was set back has a fence in the future, but its age is known.
        let Found::Leased { fence, .. } = slot.look(at(0), Some(fence), &a, hour) else {
            panic!("nobody holds the lease");
        };
        slot.put(at(1), &a, fence, "entry".into(), hour);
        slot.put(at(2), &a, fence, "repeated".into(), hour);
        for now in [2, 300, 600, 1000] {
            let Found::Entry { age, .. } = slot.look(at(now), None, &a, LEASE) else {
                panic!("it has not ended");
            };
            assert_eq!(age, Duration::from_secs(now));
        }
    }

    #[test]
    fn lost_holder_is_remembered_until_something_is_stored() {
        let mut slot = Slot::default();
        let lost_at = |slot: &mut Slot, seconds, owner: &LeaseOwner| match slot.look(
            at(seconds),
            None,
            owner,
            LEASE,
        ) {
            Found::Leased {
                after_lost_holder, ..
            } => after_lost_holder,
            found => panic!("{found:?}"),
        };
        let [a, b, c] = [(); 3].map(|()| LeaseOwner::random());
        assert!(!lost_at(&mut slot, 0, &a));
        slot.release(at(1), &a, Duration::ZERO);
        assert!(!lost_at(&mut slot, 2, &b));
        // It is lost.
        assert!(lost_at(&mut slot, 20, &c));
        assert!(lost_at(&mut slot, 21, &c), "it asks again");
        slot.release(at(22), &c, Duration::ZERO);
        assert!(lost_at(&mut slot, 23, &a));
        slot.release(at(24), &a, LEASE);
        assert!(lost_at(&mut slot, 40, &b));
        let fence = slot.last.unwrap();
        slot.put(at(41), &b, fence, "entry".into(), Duration::from_secs(5));
        assert!(!lost_at(&mut slot, 50, &a));
    }

    #[test]
    fn slot_is_over_when_nothing_in_it_matters() {
        let (mut slot, a) = (Slot::default(), LeaseOwner::random());
        assert!(slot.is_over(at(0)));
        let Found::Leased { fence, .. } = slot.look(at(0), None, &a, LEASE) else {
            panic!("nobody holds the lease");
        };
        let remembered = LEASE_REMEMBERED.as_secs() + LEASE.as_secs();
        assert!(!slot.is_over(at(remembered - 1)) && slot.is_over(at(remembered)));
        let day = Duration::from_secs(24 * 3600);
        slot.put(at(1), &a, fence, "entry".into(), day);
        assert!(!slot.is_over(at(day.as_secs())) && slot.is_over(at(day.as_secs() + 1)));
    }
}
