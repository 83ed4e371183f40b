//! Reads `expires_in` and `interval`. Pure.

use std::time::Duration;

use super::PollingInterval;
use crate::{authorization_server::endpoint::JsonValue, message::PollingTimes};

/// Reads the members `expires_in` and `interval` of a response.
///
/// What makes no sense counts as absent: an interval or a lifetime of zero, and an interval that would allow no poll while the user can
/// decide.
pub(crate) fn times(expires_in: &JsonValue<'_>, interval: &JsonValue<'_>) -> PollingTimes {
    let positive = |value: &JsonValue<'_>| value.seconds().filter(|time| *time > Duration::ZERO);
    let expires_in = positive(expires_in);
    let lifetime = expires_in.unwrap_or(PollingTimes::DEFAULT_LIFETIME);
    let interval = positive(interval)
        .filter(|interval| *interval < lifetime)
        .map_or(PollingInterval::DEFAULT, PollingInterval::new);
    PollingTimes {
        expires_in,
        interval: interval.as_duration(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization_server::endpoint::JsonObject;

    #[test]
    fn times_are_read_from_whatever_servers_send() {
        for (members, expires_in, interval) in [
            (r#""expires_in":600,"interval":10"#, Some(600.0), 10.0),
            (r#""expires_in":"600","interval":"10""#, Some(600.0), 10.0),
            (r#""expires_in":600,"interval":2.5"#, Some(600.0), 2.5),
            (r#""expires_in":600,"interval":0.5"#, Some(600.0), 1.0),
            (r#""expires_in":600"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":null"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":0"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":"0""#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":-1"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":"soon""#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":[5]"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":{"s":1}"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":true"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":599"#, Some(600.0), 599.0),
            // Milliseconds.
            (r#""expires_in":600,"interval":5000"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":600"#, Some(600.0), 5.0),
            (r#""expires_in":600,"interval":1e400"#, Some(600.0), 5.0),
            (
                r#""expires_in":600,"interval":18446744073709551615"#,
                Some(600.0),
                5.0,
            ),
            (r#""interval":10"#, None, 10.0),
            (r#""interval":1800"#, None, 5.0),
            (r#""expires_in":0,"interval":10"#, None, 10.0),
            (r#""expires_in":-5,"interval":10"#, None, 10.0),
            (r#""expires_in":null,"interval":10"#, None, 10.0),
            (r#""expires_in":"never","interval":10"#, None, 10.0),
            (r#""expires_in":1764362400,"interval":10"#, None, 10.0),
            (r#""expires_in":3,"interval":5"#, Some(3.0), 5.0),
            (
                r#""expires_in":2147483647,"interval":10"#,
                Some(315_360_000.0),
                10.0,
            ),
        ] {
            let body = format!("{{{members}}}");
            let object = JsonObject::read(body.as_bytes(), &["expires_in", "interval"]);
            let [read_expires_in, read_interval] = object.unwrap().values;
            let expected = PollingTimes {
                expires_in: expires_in.map(Duration::from_secs_f64),
                interval: Duration::from_secs_f64(interval),
            };
            assert_eq!(
                times(&read_expires_in, &read_interval),
                expected,
                "{members}"
            );
        }
    }
}
