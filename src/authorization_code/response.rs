//! `AuthorizationResponse`: what the browser brings to the redirect URI. Pure.

use std::fmt;

use crate::{error::ErrorResponse, secret::Secret};

/// What the browser brought to the redirect URI ([RFC 6749 §4.1.2](https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2)).
///
/// Reading one never fails. Nothing in it is trustworthy before
/// [`PendingAuthorization::accept`](super::PendingAuthorization::accept) has checked it.
///
/// # Security
///
/// `Debug` shows no part of it. The code is a secret, so keep the URI out of logs.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::authorization_code::AuthorizationResponse;
///
/// let uri = "https://app.example/callback?code=SplxlOBeZQQYbYS6WxSbIA&state=xyz";
/// let response = AuthorizationResponse::from_uri(uri);
/// assert_eq!(response.state(), Some("xyz"));
///
/// let response = AuthorizationResponse::from_query("code=SplxlOBeZQQYbYS6WxSbIA&state=xyz");
/// assert_eq!(response.state(), Some("xyz"));
/// ```
pub struct AuthorizationResponse {
    /// The parameters of [`NAMES`], in this order.
    values: [Option<Secret>; NAMES.len()],
    /// A parameter that occurs twice.
    repeated: Option<&'static str>,
}

/// The parameters of RFC 6749 §4.1.2 and §4.1.2.1, RFC 9207, and that of a signed response (JARM).
const NAMES: [&str; 7] = [
    "state",
    "code",
    "iss",
    "error",
    "error_description",
    "error_uri",
    "response",
];

impl AuthorizationResponse {
    /// Reads the query of the request that the browser sent, without or with its question mark.
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        Self::from_form(query.strip_prefix('?').unwrap_or(query))
    }

    /// Reads a whole URI: the one that the browser requested, or the one from its address bar. It may be relative.
    ///
    /// It takes the URI as a `&str`, a `String`, a `Uri`, a `Url`, or anything else that prints it. A fragment is ignored: some servers
    /// add one.
    pub fn from_uri(uri: impl fmt::Display) -> Self {
        let uri = Secret::new(uri.to_string());
        let uri = uri.expose();
        let uri = uri.split_once('#').map_or(uri, |(uri, _)| uri);
        Self::from_form(uri.split_once('?').map_or("", |(_, query)| query))
    }

    /// Reads the body of the `POST` of a server with the response mode `form_post`.
    #[must_use]
    pub fn from_form(body: impl AsRef<[u8]>) -> Self {
        let mut values = [const { None }; NAMES.len()];
        let mut repeated = None;
        for (name, value) in form_urlencoded::parse(body.as_ref()) {
            let Some(index) = NAMES.iter().position(|known| *known == name) else {
                continue;
            };
            if values[index].is_some() {
                repeated = Some(NAMES[index]);
            }
            values[index] = Some(Secret::new(value));
        }
        Self { values, repeated }
    }

    /// Returns `state`, to find the [`PendingAuthorization`](super::PendingAuthorization) among those of several sign-ins.
    ///
    /// It is not checked: anybody can write it.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        let [state, ..] = &self.values;
        state.as_ref().map(Secret::expose)
    }

    /// The `state`, unless there are several.
    pub(super) fn only_state(&self) -> Option<&str> {
        self.state().filter(|_| self.repeated != Some("state"))
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        let [_, _, iss, ..] = &self.values;
        iss.as_ref().map(Secret::expose)
    }

    /// Returns what the response contains, if it is well-formed.
    ///
    /// # Errors
    ///
    /// What is wrong, as the rest of a sentence that begins with the response.
    pub(super) fn content(&self) -> Result<Content, String> {
        let [_, code, _, error, description, uri, response] = &self.values;
        let text = |value: &Option<Secret>| Some(value.as_ref()?.expose().into());
        if let Some(name) = self.repeated {
            return Err(format!("contains the parameter `{name}` twice"));
        }
        // A parameter without a value means the same as none (RFC 6749 §3.1).
        let given =
            |value: &Option<Secret>| value.clone().filter(|value| !value.expose().is_empty());
        match (given(code), given(error)) {
            (Some(_), Some(_)) => Err("contains a code and an error".into()),
            (Some(code), None) => Ok(Content::Code(code)),
            (None, Some(error)) => Ok(Content::Error(ErrorResponse {
                code: error.expose().into(),
                description: text(description),
                uri: text(uri),
            })),
            (None, None) if response.is_some() => Err(
                "is signed (JARM), which this crate does not support; request the response mode `query`".into(),
            ),
            (None, None) => Err("contains neither a code nor an error".into()),
        }
    }
}

/// What a response contains.
pub(super) enum Content {
    Code(Secret),
    Error(ErrorResponse),
}

impl fmt::Debug for AuthorizationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationResponse")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(query: &str) -> Result<String, String> {
        Ok(match AuthorizationResponse::from_query(query).content()? {
            Content::Code(code) => format!("code {}", code.expose()),
            Content::Error(error) => format!("error {error}"),
        })
    }

    #[test]
    fn a_response_has_a_code_or_an_error() {
        for (query, expected) in [
            ("code=a", Ok("code a")),
            ("?code=a", Ok("code a")),
            ("code=a%2Bb+c%26", Ok("code a+b c&")),
            ("code=a&tag=1&tag=2&session_state=s&scope=x", Ok("code a")),
            ("c%6Fde=a", Ok("code a")),
            ("code=a&error=", Ok("code a")),
            ("error=access_denied", Ok("error access_denied")),
            (
                "code=&error=access_denied&error_description=no%21",
                Ok("error access_denied (no!)"),
            ),
            ("", Err("neither a code nor an error")),
            ("code=", Err("neither a code nor an error")),
            ("CODE=a", Err("neither a code nor an error")),
            ("error_description=x", Err("neither a code nor an error")),
            ("code=a&error=b", Err("a code and an error")),
            ("code=a&code=a", Err("`code` twice")),
            ("code=a&c%6fde=a", Err("`code` twice")),
            ("code=a&iss=x&iss=x", Err("`iss` twice")),
            ("error=a&error=b", Err("`error` twice")),
            ("code=a&code", Err("`code` twice")),
            ("response=e30.e30.", Err("is signed (JARM)")),
            ("code[]=a", Err("neither a code nor an error")),
            ("<html>", Err("neither a code nor an error")),
        ] {
            match (content(query), expected) {
                (Ok(found), expected) => assert_eq!(Ok(&*found), expected, "{query}"),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{query}: {why}"),
                (Err(why), Ok(_)) => panic!("{query}: {why}"),
            }
        }
    }

    #[test]
    fn the_query_of_any_uri_is_read() {
        for uri in [
            "https://app.example/cb?code=a&state=s",
            "https://app.example/cb?state=s&code=a#_=_",
            "https://app.example/cb=1?state=s&code=a#?code=b&state=t",
            "/cb?code=a&state=s",
            "com.example.app:/cb?code=a&state=s",
            "?code=a&state=s",
        ] {
            let response = AuthorizationResponse::from_uri(uri);
            assert_eq!(response.state(), Some("s"), "{uri}");
            assert!(matches!(response.content(), Ok(Content::Code(code)) if code.expose() == "a"));
        }
        for uri in [
            "",
            "https://app.example/cb",
            "code=a&state=s",
            "https://app.example/cb#code=a&state=s",
        ] {
            assert_eq!(AuthorizationResponse::from_uri(uri).state(), None, "{uri}");
        }
        let body = AuthorizationResponse::from_form(b"code=a&state=s");
        assert_eq!(body.state(), Some("s"));
        // No text of any encoding is a panic.
        assert_eq!(
            AuthorizationResponse::from_form(b"\xff=\xff&state=%FF").state(),
            Some("\u{fffd}")
        );
    }

    #[test]
    fn a_state_that_occurs_twice_is_none() {
        let twice = AuthorizationResponse::from_query("state=s&code=a&state=s");
        assert_eq!(twice.only_state(), None);
        let other = AuthorizationResponse::from_query("state=s&code=a&code=b");
        assert_eq!(other.only_state(), Some("s"));
    }

    #[test]
    fn debug_shows_nothing() {
        let response = AuthorizationResponse::from_query("code=SECRET&state=SECRET&iss=SECRET");
        assert!(!format!("{response:?} {response:#?}").contains("SECRET"));
    }
}
