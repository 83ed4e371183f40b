//! Times in the answers of servers.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// The end of the year 9999. A later time stands for "never".
const MAX_SECONDS: f64 = 253_402_300_799.0;

/// Reads a number of seconds since 1970, also as a string, as some servers send it. A negative one is 1970.
pub(crate) fn json_time(value: &Value) -> Option<SystemTime> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    let is_number = seconds.is_finite();
    is_number
        .then(|| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_from_whatever_servers_send() {
        for (value, expected) in [
            (json!(1_419_356_238), Some(1_419_356_238)),
            (json!("1419356238"), Some(1_419_356_238)),
            (json!(" 1419356238 "), Some(1_419_356_238)),
            (json!(1_419_356_238.0), Some(1_419_356_238)),
            (json!(0), Some(0)),
            (json!(-1), Some(0)),
            (json!(u64::MAX), Some(253_402_300_799)),
            (json!(1e300), Some(253_402_300_799)),
            (json!("1e400"), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!("soon"), None),
            (json!(""), None),
            (json!(true), None),
            (json!([1]), None),
            (json!({}), None),
            (json!(null), None),
        ] {
            let expected = expected.map(|it| SystemTime::UNIX_EPOCH + Duration::from_secs(it));
            assert_eq!(json_time(&value), expected, "{value}");
        }
    }
}
