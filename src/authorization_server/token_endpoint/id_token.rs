//! How long an ID token is valid, if it is used as the access token.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, header::DATE};

use crate::authorization_server::endpoint::{JsonObject, JsonValue};

/// The lifetime of an ID token, counted from when the server sent it. `None` if it has no readable `exp`.
///
/// The `expires_in` beside it is that of an access token. The times of the server are compared with each other where possible, so that
/// a wrong clock of this machine does no harm.
pub(super) fn lifetime(id_token: &str, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let payload = id_token.split('.').nth(1)?.trim_end_matches('=');
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let [exp, iat] = JsonObject::read(&payload, &["exp", "iat"]).ok()?.values;
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let issued = match (date.map(seconds), number(&iat)) {
        // A server may send a token that it issued before.
        (Some(date), Some(iat)) => date.max(iat),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => seconds(now),
    };
    let lifetime = number(&exp)? - issued;
    JsonValue::Number(lifetime).seconds()
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

fn number(value: &JsonValue<'_>) -> Option<f64> {
    match value {
        JsonValue::Number(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_lifetime_ends_with_exp_and_starts_when_the_token_was_sent() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_000);
        // Sat, 01 Jan 2000 00:00:00 GMT is 946684800.
        for (claims, date, expected) in [
            (r#"{"exp":946688400,"iat":946684800}"#, None, Some(3600)),
            (r#"{"exp":946688400}"#, None, Some(4400)),
            (
                r#"{"exp":946688400}"#,
                Some("Sat, 01 Jan 2000 00:00:00 GMT"),
                Some(3600),
            ),
            (
                r#"{"exp":946688400,"iat":946680000}"#,
                Some("Sat, 01 Jan 2000 00:00:00 GMT"),
                Some(3600),
            ),
            (
                r#"{"exp":946688400,"iat":946684800}"#,
                Some("Fri, 31 Dec 1999 00:00:00 GMT"),
                Some(3600),
            ),
            (r#"{"exp":946680000,"iat":946684800}"#, None, Some(0)),
            (r#"{"iat":946684800}"#, None, None),
            (r#"{"exp":"soon"}"#, None, None),
            ("[]", None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims));
            let expected = expected.map(Duration::from_secs);
            assert_eq!(
                lifetime(&token, &headers, now),
                expected,
                "{claims} {date:?}"
            );
        }
        for token in ["", "opaque", "a.b", "i.i.i", "..", "e30.é.x"] {
            assert_eq!(lifetime(token, &HeaderMap::new(), now), None, "{token}");
        }
    }
}
