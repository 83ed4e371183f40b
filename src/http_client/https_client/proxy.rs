//! The proxies that the environment names.

use std::env;

use http::{Uri, uri::Scheme};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::base::uri::is_loopback;

/// The proxies for `http` and `https`, and the hosts that need none.
pub(super) struct Proxies {
    matcher: Matcher,
    /// Why the variable for `http` or for `https` cannot be used.
    http_problem: Option<String>,
    https_problem: Option<String>,
}

/// How a server is reached.
pub(super) enum Route {
    Direct,
    Proxy(Intercept),
    /// The proxy for this server cannot be used. A direct connection would go around it.
    Unusable(String),
}

impl Proxies {
    pub(super) fn from_env() -> Option<Self> {
        Self::from_variables(|name| env::var(name).ok())
    }

    /// Returns `None` if the variables name no proxy.
    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|&name| {
                let value = get(name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        // A CGI program gets the header `Proxy` of a request as HTTP_PROXY, so anybody could set it.
        let is_cgi = get("REQUEST_METHOD").is_some();
        let http = match is_cgi {
            true => first(&["http_proxy", "ALL_PROXY", "all_proxy"]),
            false => first(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
        };
        let https = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let (_, no_proxy) = first(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let excludes_all = no_proxy.split(',').any(|entry| entry.trim() == "*");
        if excludes_all || (http.is_none() && https.is_none()) {
            return None;
        }

        let [(http, http_problem), (https, https_problem)] = [http, https].map(|variable| {
            let Some((name, value)) = variable else {
                return (String::new(), None);
            };
            match check(&value) {
                Ok(()) => (value, None),
                // The matcher still has to say for which hosts a proxy is needed.
                Err(why) => (
                    "http://unusable.invalid".to_owned(),
                    Some(format!(
                        "the proxy in the environment variable {name} cannot be used: {why}"
                    )),
                ),
            }
        });
        let matcher = Matcher::builder().http(http).https(https).no(no_proxy);
        Some(Self {
            matcher: matcher.build(),
            http_problem,
            https_problem,
        })
    }

    pub(super) fn route(&self, uri: &Uri) -> Route {
        // The secrets of such a request are allowed because they do not leave this machine.
        if uri.scheme() == Some(&Scheme::HTTP) && is_loopback(uri) {
            return Route::Direct;
        }
        let Some(proxy) = self.matcher.intercept(uri) else {
            return Route::Direct;
        };
        let problem = match uri.scheme_str() {
            Some("http") => &self.http_problem,
            _ => &self.https_problem,
        };
        match problem {
            Some(problem) => Route::Unusable(problem.clone()),
            None => Route::Proxy(proxy),
        }
    }
}

/// The error does not quote the value, because it may contain a password.
fn check(value: &str) -> Result<(), &'static str> {
    const NOT_A_PROXY: &str = "it is not the URI of an http:// or https:// proxy";
    let any = Uri::from_static("https://as.example/");
    let proxy = Matcher::builder().all(value).build().intercept(&any);
    match proxy.as_ref().map(Intercept::uri) {
        // The matcher takes what follows the first `@` for the host.
        Some(uri) if uri.authority().is_some_and(|a| a.as_str().contains('@')) => {
            Err("a user name or a password contains an `@`, which must be written as `%40`")
        }
        Some(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(()),
        Some(_) => Err("SOCKS proxies are not supported"),
        None => Err(NOT_A_PROXY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(variables: &[(&str, &str)], uri: &str) -> String {
        let proxies = Proxies::from_variables(|name| {
            let found = variables.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let Some(proxies) = proxies else {
            return "direct".to_owned();
        };
        match proxies.route(&uri.parse().unwrap()) {
            Route::Direct => "direct".to_owned(),
            Route::Proxy(proxy) => proxy.uri().to_string(),
            Route::Unusable(problem) => problem,
        }
    }

    #[test]
    fn scheme_selects_the_variable() {
        for (variables, uri, expected) in [
            (&[][..], "https://as.example/", "direct"),
            (
                &[("HTTPS_PROXY", "http://p:1")],
                "https://as.example/",
                "http://p:1/",
            ),
            (
                &[("https_proxy", "p:1")],
                "https://as.example/",
                "http://p:1/",
            ),
            (
                &[("HTTPS_PROXY", "http://p:1")],
                "http://api.example/",
                "direct",
            ),
            (
                &[("http_proxy", "https://p:1")],
                "http://api.example/",
                "https://p:1/",
            ),
            (
                &[("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", " ")],
                "https://as.example/",
                "http://a:1/",
            ),
            (
                &[("all_proxy", "http://a:1"), ("HTTP_PROXY", "http://p:1")],
                "http://as.example/",
                "http://p:1/",
            ),
            (
                &[("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")],
                "http://api.example/",
                "direct",
            ),
        ] {
            assert_eq!(route(variables, uri), expected, "{variables:?} {uri}");
        }
    }

    #[test]
    fn plain_http_to_loopback_never_leaves_this_machine() {
        for (uri, is_direct) in [
            ("http://localhost:1/", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]:1/", true),
            ("https://localhost:1/", false),
            ("https://127.0.0.1:1/", false),
            ("http://as.example/", false),
        ] {
            let is_actually = route(&[("ALL_PROXY", "http://p:1")], uri) == "direct";
            assert_eq!(is_actually, is_direct, "{uri}");
        }
    }

    #[test]
    fn excluded_hosts_need_no_proxy() {
        for (no_proxy, uri, is_direct) in [
            ("", "https://as.example/", false),
            ("localhost", "https://localhost:1/", true),
            ("127.0.0.0/8", "https://127.8.9.1/", true),
            ("AS.example", "https://as.EXAMPLE/", true),
            ("example", "https://as.example/", true),
            (".example", "https://as.example/", true),
            ("s.example", "https://as.example/", false),
            ("10.0.0.0/8, other", "https://10.1.2.3/", true),
            ("10.0.0.0/8, other", "https://11.1.2.3/", false),
            ("10.0.0.0/8,other", "https://other/", true),
            ("fd00::/8", "https://[fd00::1]/", true),
            ("*", "https://as.example/", true),
            ("*", "https://10.1.2.3/", true),
        ] {
            for name in ["NO_PROXY", "no_proxy"] {
                let variables = [("HTTPS_PROXY", "http://p:1"), (name, no_proxy)];
                let is_actually = route(&variables, uri) == "direct";
                assert_eq!(is_actually, is_direct, "{no_proxy} {uri}");
            }
        }
    }

    #[test]
    fn unusable_proxy_is_named_without_its_value() {
        for (value, expected) in [
            (
                "socks5h://u:sesame@p:1",
                "the proxy in the environment variable ALL_PROXY cannot be used: SOCKS proxies are not supported",
            ),
            (
                "http://u:se@same@p:1",
                "the proxy in the environment variable ALL_PROXY cannot be used: a user name or a password contains an `@`, which must be written as `%40`",
            ),
            (
                "ftp://u:sesame@p:1",
                "the proxy in the environment variable ALL_PROXY cannot be used: it is not the URI of an http:// or https:// proxy",
            ),
        ] {
            let variables = [("ALL_PROXY", value), ("NO_PROXY", "corp.example")];
            assert_eq!(route(&variables, "https://as.example/"), expected);
            assert_eq!(route(&variables, "https://corp.example/"), "direct");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_not_printed() {
        let proxies = Proxies::from_variables(|name| {
            (name == "HTTPS_PROXY").then(|| "http://us%40er:open%20sesame@p:1".to_owned())
        });
        let uri = Uri::from_static("https://as.example/");
        let Route::Proxy(proxy) = proxies.unwrap().route(&uri) else {
            panic!("a proxy is expected");
        };
        // "us@er:open sesame"
        let expected = "Basic dXNAZXI6b3BlbiBzZXNhbWU=";
        assert_eq!(proxy.basic_auth().unwrap(), expected);
        assert_eq!(proxy.uri(), "http://p:1/");
        let shown = format!("{proxy:?} {:?}", proxy.basic_auth().unwrap());
        assert!(
            !shown.contains("sesame") && !shown.contains("dXNA"),
            "{shown}"
        );
    }
}
