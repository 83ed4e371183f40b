//! Whether metadata are used, renewed or fetched, and where they are looked for. Pure.

use std::time::Duration;

use http::Uri;

use crate::base::clock::Moment;

/// How long later callers wait for a fetch before they start another, and the minimum time between two renewals.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long metadata that cannot be renewed at the address where they were found are not looked for elsewhere.
///
/// Another address may have another document, so a short failure must not switch to it. A server that has moved its document must be
/// found again without a new process.
const LOYALTY: Duration = Duration::from_secs(24 * 3600);

/// What a caller that needs the metadata does.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Use,
    UseAndRenew,
    Join,
    Fetch,
}

/// `obtained` is when the fetch of the cached metadata began, `begun` when the last fetch began.
pub(super) fn decide(
    now: Moment,
    lifetime: Duration,
    obtained: Option<Moment>,
    begun: Option<Moment>,
    is_under_way: bool,
) -> Step {
    let is_recent = begun.is_some_and(|begun| !now.has_reached(begun.after(PATIENCE)));
    match obtained {
        Some(obtained) if !now.has_reached(obtained.after(lifetime)) => Step::Use,
        // Whether the renewal is under way or has failed, the old metadata stays in use.
        Some(_) if is_recent => Step::Use,
        Some(_) => Step::UseAndRenew,
        None if is_under_way && is_recent => Step::Join,
        None => Step::Fetch,
    }
}

/// Returns the addresses to ask for newer metadata: the one where they were found. After a day without success all of them, that one first.
pub(super) fn renewal_uris(
    all: Vec<Uri>,
    found_at: &Uri,
    now: Moment,
    lifetime: Duration,
    obtained: Moment,
) -> Vec<Uri> {
    let mut uris = vec![found_at.clone()];
    let end = obtained.after(lifetime).after(LOYALTY);
    if now.has_reached(end) {
        uris.extend(all.into_iter().filter(|uri| uri != found_at));
    }
    uris
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_metadata_are_used_and_stale_metadata_are_renewed_once() {
        const fn at(seconds: u64) -> Moment {
            let seconds = Duration::from_secs(seconds);
            Moment::new(seconds, seconds)
        }
        let lifetime = Duration::from_secs(100);
        for (now, obtained, begun, is_under_way, expected) in [
            (0, None, None, false, Step::Fetch),
            (1, None, Some(0), true, Step::Join),
            (1, None, Some(0), false, Step::Fetch),
            (30, None, Some(0), true, Step::Fetch),
            (99, Some(0), Some(0), false, Step::Use),
            (100, Some(0), Some(0), false, Step::UseAndRenew),
            (101, Some(0), Some(100), true, Step::Use),
            (129, Some(0), Some(100), false, Step::Use),
            (130, Some(0), Some(100), false, Step::UseAndRenew),
            (130, Some(0), Some(100), true, Step::UseAndRenew),
            (131, Some(130), Some(130), false, Step::Use),
        ] {
            assert_eq!(
                decide(
                    at(now),
                    lifetime,
                    obtained.map(at),
                    begun.map(at),
                    is_under_way
                ),
                expected,
                "{now} {obtained:?} {begun:?} {is_under_way}"
            );
        }
    }

    #[test]
    fn jump_of_the_wall_clock_renews() {
        let seconds = Duration::from_secs;
        let then = Moment::new(seconds(10), seconds(10));
        let now = Moment::new(seconds(10), seconds(9000));
        let lifetime = seconds(100);
        assert_eq!(
            decide(now, lifetime, Some(then), Some(then), false),
            Step::UseAndRenew
        );
    }

    #[test]
    fn other_addresses_are_asked_only_after_a_day_without_success() {
        let [first, second, third] = [
            "https://a.example",
            "https://b.example",
            "https://c.example",
        ]
        .map(Uri::from_static);
        let all = || vec![first.clone(), second.clone(), third.clone()];
        let at = |seconds| Moment::new(Duration::from_secs(seconds), Duration::from_secs(seconds));
        let day = 24 * 3600;
        for (now, expected) in [
            (100, vec![&second]),
            (100 + day - 1, vec![&second]),
            (100 + day, vec![&second, &first, &third]),
        ] {
            let lifetime = Duration::from_secs(100);
            let uris = renewal_uris(all(), &second, at(now), lifetime, at(0));
            assert_eq!(uris.iter().collect::<Vec<_>>(), expected, "{now}");
        }
    }
}
