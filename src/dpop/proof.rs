//! The claims of a proof (RFC 9449 §4.2). Pure functions.

use http::Uri;

use crate::{
    base::origin::Origin,
    jwt::{JsonObject, Members},
};

/// The claims that this crate sets, so the caller may not.
pub(super) const OWN_CLAIMS: [&str; 6] = ["iat", "jti", "htm", "htu", "ath", "nonce"];

/// The claims of a proof. The key and the algorithm are in its header.
pub(super) struct Claims<'a> {
    pub(super) jti: &'a str,
    pub(super) htm: &'a str,
    pub(super) htu: &'a str,
    /// In seconds since the Unix epoch.
    pub(super) iat: u64,
    pub(super) ath: Option<&'a str>,
    pub(super) nonce: Option<&'a str>,
    /// What the caller has added.
    pub(super) more: &'a Members,
}

impl Claims<'_> {
    /// Writes the claims as JSON.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut json = JsonObject::new();
        json.member("iat", self.iat);
        json.member("jti", self.jti);
        json.member("htm", self.htm);
        json.member("htu", self.htu);
        for (name, text) in [("ath", self.ath), ("nonce", self.nonce)] {
            if let Some(text) = text {
                json.member(name, text);
            }
        }
        json.members(self.more);
        json.end()
    }
}

/// Returns the `htu` claim for a request: its target without query and fragment (RFC 9449 §4.2).
///
/// Scheme, host and port are normalized. The path stays exactly as it is sent, except that an empty path or `*` becomes `/`.
pub(super) fn htu(origin: &Origin, uri: &Uri) -> String {
    let path = match uri.path() {
        // The target of `OPTIONS *` has no path (RFC 9110 §7.1).
        "" | "*" => "/",
        path => path,
    };
    format!("{origin}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_escaped_and_absent_ones_left_out() {
        let mut more = Members::default();
        let none = more.clone();
        let mut claims = Claims {
            jti: "1",
            htm: "GET",
            htu: "https://a.example/\"{}",
            iat: 1_700_000_000,
            ath: None,
            nonce: None,
            more: &none,
        };
        assert_eq!(
            claims.to_json(),
            br#"{"iat":1700000000,"jti":"1","htm":"GET","htu":"https://a.example/\"{}"}"#
        );
        (claims.ath, claims.nonce) = (Some("hash"), Some("nonce"));
        more.push("n\"", serde_json::json!([{"a": null}]));
        claims.more = &more;
        let json: serde_json::Value = serde_json::from_slice(&claims.to_json()).unwrap();
        assert_eq!(json["n\""], serde_json::json!([{"a": null}]));
        assert_eq!(
            (&json["ath"], &json["nonce"]),
            (&"hash".into(), &"nonce".into())
        );
    }

    #[test]
    fn htu_has_no_query_no_default_port_and_no_upper_case_host() {
        for (uri, expected) in [
            ("https://as.example/token", "https://as.example/token"),
            (
                "HTTPS://As.Example:443/Token?a=b",
                "https://as.example/Token",
            ),
            ("http://as.example:80", "http://as.example/"),
            ("http://as.example:443/", "http://as.example:443/"),
            ("https://as.example?x", "https://as.example/"),
            ("WSS://as.example:443/chat", "https://as.example/chat"),
            ("ws://as.example:443/chat", "http://as.example:443/chat"),
            ("https://as.example:/a", "https://as.example/a"),
            ("https://user:pass@as.example/a", "https://as.example/a"),
            (
                "https://[::1]:8443/a/../b//c",
                "https://[::1]:8443/a/../b//c",
            ),
            (
                "https://as.example/%7e%2F;p=1",
                "https://as.example/%7e%2F;p=1",
            ),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let origin = Origin::over_http(&uri).unwrap();
            assert_eq!(htu(&origin, &uri), expected, "{uri}");
        }
    }
}
