//! How far the clock of a server is from the clock of this machine, by the `Date` of a response (RFC 9110 §6.6.1).

use std::time::{Duration, SystemTime};
#[cfg(feature = "jwt")]
use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::{
    HeaderMap,
    header::{AGE, DATE},
};

#[cfg(feature = "jwt")]
use super::{clock, origin::Origin, per_server::PerServer};

/// A difference that is too small to matter to a server.
const SMALL: u64 = 60;

/// A larger difference is not corrected.
#[cfg(feature = "jwt")]
const MAX_CORRECTION: u64 = 10 * 60;

/// Returns by how many seconds the server's clock is ahead of this machine's; negative if it is behind.
///
/// `now` is the time at which the response arrived. A response with `Age` comes from a cache (RFC 9111 §5.1), so its `Date` is old.
pub(crate) fn seconds_ahead(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    if headers.contains_key(AGE) {
        return None;
    }
    let mut dates = headers.get_all(DATE).iter();
    let (date, None) = (dates.next()?, dates.next()) else {
        return None;
    };
    let date = httpdate::parse_http_date(date.to_str().ok()?).ok()?;
    // `Date` has whole seconds, cut off.
    let seconds = |time: Duration| i64::try_from(time.as_secs()).ok();
    let [date, now] = [date, now].map(|time| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        seconds(since)
    });
    Some(date? - now?)
}

/// Returns a hint for the message of an error that a wrong clock may have caused.
pub(crate) fn hint(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let ahead = seconds_ahead(headers, now)?;
    let direction = if ahead < 0 { "behind" } else { "ahead of" };
    (ahead.unsigned_abs() > SMALL).then(|| {
        let seconds = ahead.unsigned_abs();
        format!("the server's clock is {seconds} seconds {direction} this machine's")
    })
}

/// How far the clock of each server is ahead of this machine's. Clones share it.
///
/// This is what was learned, not what was set, so all values are equal. For the same reason, it is behind a trait: a type with a lock in it
/// makes a poor key of a map.
#[cfg(feature = "jwt")]
#[derive(Clone)]
pub(crate) struct ServerClocks(Arc<dyn SecondsAhead>);

#[cfg(feature = "jwt")]
trait SecondsAhead: Send + Sync {
    fn get(&self, server: &Origin) -> i64;
    fn set(&self, server: Origin, seconds: i64);
}

#[cfg(feature = "jwt")]
impl SecondsAhead for PerServer<Origin, i64> {
    fn get(&self, server: &Origin) -> i64 {
        self.get(server).unwrap_or(0)
    }

    fn set(&self, server: Origin, seconds: i64) {
        self.set(server, seconds);
    }
}

#[cfg(feature = "jwt")]
impl ServerClocks {
    /// Stores the difference to the clock of a server whose response arrived just now.
    pub(crate) fn note(&self, server: Origin, headers: &HeaderMap) {
        let ahead = seconds_ahead(headers, clock::wall_now());
        if let Some(ahead) = ahead.filter(|ahead| ahead.unsigned_abs() <= MAX_CORRECTION) {
            self.0.set(server, ahead);
        }
    }

    /// Returns by how many seconds the clock of a server is ahead of this machine's, or zero if that is not known.
    pub(crate) fn seconds_ahead(&self, server: &Origin) -> i64 {
        self.0.get(server)
    }

    /// Returns the time by the clock of a server, in seconds since the Unix epoch.
    pub(crate) fn unix_now(&self, server: &Origin) -> u64 {
        clock::unix_now().saturating_add_signed(self.seconds_ahead(server))
    }
}

#[cfg(feature = "jwt")]
impl Default for ServerClocks {
    fn default() -> Self {
        Self(Arc::new(PerServer::default()))
    }
}

#[cfg(feature = "jwt")]
impl PartialEq for ServerClocks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(feature = "jwt")]
impl Eq for ServerClocks {}

#[cfg(feature = "jwt")]
impl Hash for ServerClocks {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const DATE_TEXT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let value = |text| HeaderValue::from_static(text);
        let mut headers = HeaderMap::new();
        for (name, text) in pairs {
            headers.append(name, value(text));
        }
        headers
    }

    fn at(seconds: i64) -> SystemTime {
        let date = httpdate::parse_http_date(DATE_TEXT).unwrap();
        let since = date.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let since = since.as_secs().checked_add_signed(seconds).unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_millis(since * 1000 + 900)
    }

    #[test]
    fn difference_is_read_from_the_date_of_a_response_that_was_not_cached() {
        let date = (DATE, DATE_TEXT);
        for (pairs, now, expected) in [
            (vec![date.clone()], 0, Some(0)),
            (vec![date.clone()], 300, Some(-300)),
            (vec![date.clone()], -7200, Some(7200)),
            (vec![(DATE, "Sunday, 06-Nov-94 08:49:37 GMT")], 5, Some(-5)),
            (vec![(DATE, "Sun Nov  6 08:49:37 1994")], 5, Some(-5)),
            (vec![], 0, None),
            (vec![(DATE, "")], 0, None),
            (vec![(DATE, "784111777")], 0, None),
            (vec![date.clone(), date.clone()], 0, None),
            (vec![date.clone(), (AGE, "0")], 300, None),
            (vec![date, (AGE, "nonsense")], 300, None),
        ] {
            assert_eq!(
                seconds_ahead(&headers(&pairs), at(now)),
                expected,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_difference_of_more_than_a_minute_is_worth_a_hint() {
        let headers = headers(&[(DATE, DATE_TEXT)]);
        for (now, expected) in [
            (0, None),
            (60, None),
            (-60, None),
            (
                61,
                Some("the server's clock is 61 seconds behind this machine's"),
            ),
            (
                -3600,
                Some("the server's clock is 3600 seconds ahead of this machine's"),
            ),
        ] {
            assert_eq!(hint(&headers, at(now)).as_deref(), expected);
        }
    }

    #[cfg(feature = "jwt")]
    #[test]
    fn each_server_has_its_own_clock_and_large_differences_are_ignored() {
        let origin = |host: &str| Origin::of(&format!("https://{host}").parse().unwrap()).unwrap();
        let dated = |ahead: i64| {
            let now = clock::unix_now().checked_add_signed(ahead).unwrap();
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let mut headers = HeaderMap::new();
            headers.insert(DATE, httpdate::fmt_http_date(date).parse().unwrap());
            headers
        };
        let clocks = ServerClocks::default();
        let difference = |server: &Origin| clocks.unix_now(server).abs_diff(clock::unix_now());
        let (a, b) = (origin("a.example"), origin("b.example"));
        assert_eq!(difference(&a), 0);
        clocks.note(a.clone(), &dated(-300));
        assert!((-301..=-299).contains(&clocks.seconds_ahead(&a)));
        assert!((298..=302).contains(&difference(&a)));
        assert_eq!(difference(&b), 0);
        for ignored in [-660, 660, 1 << 30] {
            clocks.note(a.clone(), &dated(ignored));
            assert!((298..=302).contains(&difference(&a)));
        }
        clocks.note(a.clone(), &HeaderMap::new());
        assert!((298..=302).contains(&difference(&a)));
        clocks.note(a.clone(), &dated(0));
        assert!(difference(&a) <= 2);
    }
}
