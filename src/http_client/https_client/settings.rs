//! The time limits of an `HttpsClient`, and their defaults.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) tcp_keepalive: Option<Duration>,
    pub(super) tcp_user_timeout: Option<Duration>,
    pub(super) max_silence: Option<Duration>,
    pub(super) http2_keep_alive_timeout: Duration,
    pub(super) token_requests: Limits,
    pub(super) api_requests: Limits,
}

/// The limits that differ between token requests and API requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) http2_keep_alive_interval: Option<Duration>,
    pub(super) response_head_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            connect_timeout: secs(10),
            tcp_keepalive: Some(secs(15)),
            tcp_user_timeout: Some(secs(30)),
            max_silence: Some(secs(5)),
            http2_keep_alive_timeout: secs(5),
            token_requests: Limits {
                http2_keep_alive_interval: Some(secs(5)),
                response_head_timeout: Some(secs(20)),
            },
            // gRPC servers close a connection after a few pings during a silent stream, and an API may use long polling.
            api_requests: Limits {
                http2_keep_alive_interval: None,
                response_head_timeout: None,
            },
        }
    }
}

/// Converts the argument of a setter. Zero turns the feature off too.
pub(super) fn unless_zero(time: impl Into<Option<Duration>>) -> Option<Duration> {
    time.into().filter(|time| !time.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The docs of `HttpsClient` and of its builder state these values.
    #[test]
    fn defaults_are_those_of_the_docs() {
        let expected = "Settings { connect_timeout: 10s, tcp_keepalive: Some(15s), tcp_user_timeout: Some(30s), \
             max_silence: Some(5s), http2_keep_alive_timeout: 5s, \
             token_requests: Limits { http2_keep_alive_interval: Some(5s), response_head_timeout: Some(20s) }, \
             api_requests: Limits { http2_keep_alive_interval: None, response_head_timeout: None } }";
        assert_eq!(format!("{:?}", Settings::default()), expected);
    }

    #[test]
    fn zero_turns_a_limit_off() {
        assert_eq!(unless_zero(Duration::ZERO), None);
        assert_eq!(unless_zero(None), None);
        let second = Duration::from_secs(1);
        assert_eq!(unless_zero(second), Some(second));
    }
}
