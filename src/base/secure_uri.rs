//! Which URIs secrets may be sent to. Pure.

use http::Uri;

use super::authority::HostAndPort;

/// Checks that secrets may be sent to `uri`: it is `https`, or plain `http` on this machine or where `allow_http` says so.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that begins with what the URI is.
pub(crate) fn check_secure(uri: &Uri, allow_http: bool) -> Result<(), &'static str> {
    Protection::of(uri).check(allow_http)
}

/// What protects the secrets in a request to a URI.
#[derive(Clone, Copy)]
pub(crate) enum Protection {
    /// TLS, or the request stays on this machine.
    Secure,
    PlainHttp,
    /// The URI cannot be used, for this reason.
    Unusable(&'static str),
}

impl Protection {
    pub(crate) fn of(uri: &Uri) -> Self {
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Self::Unusable("is not absolute; give scheme, host and path");
        };
        if authority.as_str().contains('@') {
            return Self::Unusable(
                "contains a user name or a password; use `ClientAuthentication` for them",
            );
        }
        let Some(host) = HostAndPort::of(authority) else {
            return Self::Unusable(
                "has no host, or its host or port is malformed; give scheme, host and path",
            );
        };
        match scheme {
            "https" => Self::Secure,
            "http" if host.is_loopback() => Self::Secure,
            "http" => Self::PlainHttp,
            _ => Self::Unusable("is neither https nor http"),
        }
    }

    /// See [`check_secure`].
    #[inline]
    pub(crate) fn check(self, allow_http: bool) -> Result<(), &'static str> {
        match self {
            Self::Secure => Ok(()),
            Self::PlainHttp if allow_http => Ok(()),
            Self::PlainHttp => Err(
                "is plain http, which would show the secrets to the network; use https, \
                 or `danger_allow_http` if something else protects the connection",
            ),
            Self::Unusable(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https_or_stay_on_this_machine() {
        for (uri, allow_http, expected) in [
            ("https://as.example/token", false, None),
            ("http://localhost:1/token", false, None),
            ("http://as.example/token", true, None),
            ("http://as.example/token", false, Some("is plain http")),
            ("ftp://as.example/", true, Some("is neither https nor http")),
            ("/token", true, Some("is not absolute")),
            ("as.example:443", true, Some("is not absolute")),
            ("https://:443/", true, Some("has no host")),
            (
                "https://as.example:x/",
                true,
                Some("has no host, or its host or port is malformed"),
            ),
            (
                "http://[::1].as.example/",
                true,
                Some("has no host, or its host or port is malformed"),
            ),
            (
                "http://localhost@as.example/",
                false,
                Some("contains a user name"),
            ),
            (
                "https://u:p@as.example/",
                true,
                Some("contains a user name"),
            ),
        ] {
            let checked = check_secure(&uri.parse().unwrap(), allow_http);
            match expected {
                None => assert_eq!(checked, Ok(()), "{uri}"),
                Some(expected) => assert!(checked.unwrap_err().starts_with(expected), "{uri}"),
            }
        }
    }
}
