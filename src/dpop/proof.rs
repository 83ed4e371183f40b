//! The claims of a proof (RFC 9449 §4.2). Pure functions.

use http::Uri;
use serde_json::Error;

use crate::base::origin::Origin;

/// The claims of a proof. The key and the algorithm are in its header.
pub(super) struct Claims<'a> {
    pub(super) jti: &'a str,
    pub(super) htm: &'a str,
    pub(super) htu: &'a str,
    /// In seconds since the Unix epoch.
    pub(super) iat: u64,
    pub(super) ath: Option<&'a str>,
    pub(super) nonce: Option<&'a str>,
}

impl Claims<'_> {
    /// Writes the claims as JSON.
    ///
    /// It is written by hand because a map of values would cost more than everything else except the signature.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, Error> {
        let mut json = Vec::with_capacity(256);
        json.extend_from_slice(b"{\"iat\":");
        serde_json::to_writer(&mut json, &self.iat)?;
        let texts = [
            ("jti", Some(self.jti)),
            ("htm", Some(self.htm)),
            ("htu", Some(self.htu)),
            ("ath", self.ath),
            ("nonce", self.nonce),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                json.push(b',');
                serde_json::to_writer(&mut json, name)?;
                json.push(b':');
                serde_json::to_writer(&mut json, text)?;
            }
        }
        json.push(b'}');
        Ok(json)
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
        let mut claims = Claims {
            jti: "1",
            htm: "GET",
            htu: "https://a.example/\"{}",
            iat: 1_700_000_000,
            ath: None,
            nonce: None,
        };
        assert_eq!(
            claims.to_json().unwrap(),
            br#"{"iat":1700000000,"jti":"1","htm":"GET","htu":"https://a.example/\"{}"}"#
        );
        (claims.ath, claims.nonce) = (Some("hash"), Some("nonce"));
        let json: serde_json::Value = serde_json::from_slice(&claims.to_json().unwrap()).unwrap();
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
