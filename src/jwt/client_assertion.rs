//! `ClientAssertion`: the claims of the JWT with which a client authenticates.

use std::{collections::HashSet, fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Signer, jws};
use crate::{
    base::{Quoted, clock},
    error::BoxError,
    secret::Secret,
};

const LIFETIME: Duration = Duration::from_secs(60);

/// The claims and header members that this crate sets, so the caller may not.
const OWN_CLAIMS: [&str; 6] = ["iss", "sub", "aud", "exp", "iat", "jti"];
const OWN_HEADERS: [&str; 3] = ["alg", "kid", "x5t#S256"];

/// The claims of the JWT with which a client authenticates
/// ([RFC 7523 §3](https://www.rfc-editor.org/rfc/rfc7523#section-3)): `private_key_jwt` and `client_secret_jwt`.
///
/// Every assertion has these claims:
///
/// 1. `iss` and `sub`: the client id.
/// 2. `aud`: the issuer if it is known, otherwise the URI of the token endpoint.
/// 3. `iat` and `exp`: the current time, and the current time plus the [lifetime](Self::lifetime), in whole seconds.
/// 4. `jti`: 128 random bits, new for every attempt, because a server may accept each assertion only once.
///
/// It has no `nbf`: that adds nothing to `iat`, and a server whose clock is one second behind would reject the assertion.
///
/// The header contains `alg`, `typ`, and the `kid` and `x5t#S256` of the [`Signer`] if it has them.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_oauth2_client::{
///     ClientAuthentication,
///     jwt::{ClientAssertion, SigningAlgorithm, SigningKey},
/// };
///
/// let key = SigningKey::generate(SigningAlgorithm::ES256)?;
/// let client = ClientAuthentication::private_key_jwt("client", key).assertion(
///     ClientAssertion::new()
///         .audience("https://as.example")
///         .lifetime(Duration::from_secs(30))
///         .header("typ", "client-authentication+jwt"),
/// );
/// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[must_use]
pub struct ClientAssertion {
    audience: Audience,
    lifetime: Duration,
    claims: NamedValues,
    headers: NamedValues,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Audience {
    Server,
    One(String),
    Many(Vec<String>),
}

/// Names and their values as JSON text. Older versions of `serde_json` cannot hash a [`Value`].
type NamedValues = Vec<(String, String)>;

impl ClientAssertion {
    /// Creates an assertion with the default of each setter.
    pub fn new() -> Self {
        Self {
            audience: Audience::Server,
            lifetime: LIFETIME,
            claims: NamedValues::new(),
            headers: NamedValues::new(),
        }
    }

    /// Sets `aud` to one value, sent as a string.
    ///
    /// Default is the issuer if it is known, otherwise the URI of the token endpoint.
    ///
    /// # Security
    ///
    /// Prefer the issuer: it is the only value that prevents a malicious server from using the assertion at another server of the
    /// same client. Set another value only if the server's documentation requires it.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Audience::One(audience.into());
        self
    }

    /// Sets `aud` to several values, sent as an array even if there is only one.
    ///
    /// Default is the default of [`audience`](Self::audience).
    ///
    /// # Security
    ///
    /// Each server in the array can use the assertion at the others. Many servers reject arrays for that reason.
    pub fn audiences<T: Into<String>>(mut self, audiences: impl IntoIterator<Item = T>) -> Self {
        self.audience = Audience::Many(audiences.into_iter().map(Into::into).collect());
        self
    }

    /// Sets how long the assertion is valid, rounded up to whole seconds. Default is 60 seconds.
    ///
    /// The default is long enough for a slow connection and for clocks that differ a little, and too short to be useful to somebody
    /// who finds the assertion in a log. FAPI 2.0 servers reject long-lived assertions.
    ///
    /// The lifetime starts before the HTTP service is ready, so it must be longer than the wait in a queue or for a concurrency limit
    /// in the inner service. A token cache waits no longer than
    /// [`fetch_timeout`](crate::token_cache::TokenCacheBuilder::fetch_timeout) (30 seconds by default).
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Adds a claim. Default is none.
    ///
    /// A claim that this crate sets, or that is set twice, makes the request fail before anything is sent.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.push((name.into(), value.into().to_string()));
        self
    }

    /// Adds a member to the header. Default is `typ` with the value `JWT`, which you can replace.
    ///
    /// A member that this crate sets, or that is set twice, makes the request fail before anything is sent.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.headers.push((name.into(), value.into().to_string()));
        self
    }

    /// Returns an error message if a setting is invalid.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_members("claim", &self.claims, &OWN_CLAIMS)?;
        check_members("header", &self.headers, &OWN_HEADERS)?;
        if self.lifetime.is_zero() {
            return Err("the lifetime of the client assertion is zero".into());
        }
        let is_empty = match &self.audience {
            Audience::Server => false,
            Audience::One(audience) => audience.is_empty(),
            Audience::Many(audiences) => {
                audiences.is_empty() || audiences.iter().any(String::is_empty)
            }
        };
        match is_empty {
            true => Err("the audience of the client assertion is empty".into()),
            false => Ok(()),
        }
    }

    /// Signs a new assertion. `audience` is used if the caller did not set one.
    pub(crate) async fn sign(
        &self,
        client_id: &str,
        audience: &str,
        signer: &dyn Signer,
    ) -> Result<Secret, BoxError> {
        let now = clock::unix_now();
        let header = BASE64_URL_SAFE_NO_PAD.encode(self.header_json(signer));
        let claims = self.claims_json(client_id, audience, now, &jws::jti()?);
        let assertion = jws::sign(signer, &header, claims.as_bytes()).await?;
        Ok(Secret::new(assertion))
    }

    fn header_json(&self, signer: &dyn Signer) -> String {
        let mut json = Object::new();
        json.text("alg", signer.algorithm().as_str());
        if self.headers.iter().all(|(name, _)| name != "typ") {
            json.text("typ", "JWT");
        }
        if let Some(key_id) = signer.key_id() {
            json.text("kid", key_id);
        }
        if let Some(thumbprint) = signer.certificate_thumbprint() {
            json.text("x5t#S256", thumbprint);
        }
        json.members(&self.headers);
        json.end()
    }

    fn claims_json(&self, client_id: &str, audience: &str, now: u64, jti: &str) -> String {
        let rounded_up = u64::from(self.lifetime.subsec_nanos() > 0);
        let lifetime = self.lifetime.as_secs().saturating_add(rounded_up);
        let mut json = Object::new();
        json.text("iss", client_id);
        json.text("sub", client_id);
        match &self.audience {
            Audience::Server => json.text("aud", audience),
            Audience::One(audience) => json.text("aud", audience),
            Audience::Many(audiences) => json.member("aud", Value::from(audiences.as_slice())),
        }
        json.member("iat", now);
        json.member("exp", now.saturating_add(lifetime));
        json.text("jti", jti);
        json.members(&self.claims);
        json.end()
    }
}

impl Default for ClientAssertion {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows only the names, because a claim may be about a person.
impl fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAssertion")
            .field("lifetime", &self.lifetime)
            .field("claims", &names(&self.claims))
            .field("headers", &names(&self.headers))
            .finish_non_exhaustive()
    }
}

fn names(members: &NamedValues) -> Vec<Quoted<'_>> {
    members.iter().map(|(name, _)| Quoted(name)).collect()
}

fn check_members(what: &str, members: &NamedValues, own: &[&str]) -> Result<(), String> {
    let mut earlier = HashSet::new();
    for (name, _) in members {
        if own.contains(&name.as_str()) {
            return Err(format!(
                "this crate sets the {what} `{name}` of the client assertion; remove yours"
            ));
        }
        if !earlier.insert(name) {
            return Err(format!(
                "the {what} `{}` of the client assertion is set twice",
                Quoted(name)
            ));
        }
    }
    Ok(())
}

/// Writes a JSON object, with its members in the order in which they are added.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::with_capacity(256))
    }

    fn text(&mut self, name: &str, value: &str) {
        self.member(name, Value::from(value));
    }

    fn members(&mut self, members: &NamedValues) {
        for (name, json) in members {
            self.member(name, json);
        }
    }

    /// Adds a member. `json` must be valid JSON.
    fn member(&mut self, name: &str, json: impl fmt::Display) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&Value::from(name).to_string());
        self.0.push(':');
        self.0.push_str(&json.to_string());
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{SigningAlgorithm, SigningKey};

    const JTI: &str = "_____________________w";

    fn claims(assertion: &ClientAssertion) -> String {
        assertion.claims_json("a\"b", "https://as.example", 100, JTI)
    }

    #[test]
    fn claims_follow_the_rfc_with_times_in_whole_seconds() {
        let rest = r#""jti":"_____________________w""#;
        let start = r#"{"iss":"a\"b","sub":"a\"b","aud":"#;
        for (assertion, expected) in [
            (
                ClientAssertion::new(),
                r#""https://as.example","iat":100,"exp":160,"#,
            ),
            (
                ClientAssertion::new().audience("x\\"),
                r#""x\\","iat":100,"exp":160,"#,
            ),
            (
                ClientAssertion::new().audiences(["x"]),
                r#"["x"],"iat":100,"exp":160,"#,
            ),
            (
                ClientAssertion::new()
                    .audiences(["x", "y"])
                    .lifetime(Duration::from_millis(1001)),
                r#"["x","y"],"iat":100,"exp":102,"#,
            ),
        ] {
            assert_eq!(claims(&assertion), format!("{start}{expected}{rest}}}"));
        }
        let more = ClientAssertion::new()
            .claim("n\"", 1)
            .claim("o", serde_json::json!({"p": [null]}));
        assert!(claims(&more).ends_with(r#","n\"":1,"o":{"p":[null]}}"#));
    }

    #[test]
    fn header_describes_the_signer() {
        let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let assertion = ClientAssertion::new();
        assert_eq!(
            assertion.header_json(&key),
            r#"{"alg":"ES256","typ":"JWT"}"#
        );
        let key = key.kid("k\"");
        assert_eq!(
            assertion.header_json(&key),
            r#"{"alg":"ES256","typ":"JWT","kid":"k\""}"#
        );
        let assertion = assertion
            .header("typ", "client-authentication+jwt")
            .header("x", true);
        assert_eq!(
            assertion.header_json(&key),
            r#"{"alg":"ES256","kid":"k\"","typ":"client-authentication+jwt","x":true}"#
        );
    }

    #[test]
    fn reserved_repeated_or_empty_members_are_refused_by_name() {
        let new = ClientAssertion::new;
        for (assertion, named) in [
            (new().claim("iss", "x"), "`iss`"),
            (new().claim("sub", "x"), "`sub`"),
            (new().claim("aud", "x"), "`aud`"),
            (new().claim("exp", 1), "`exp`"),
            (new().claim("iat", 1), "`iat`"),
            (new().claim("jti", "x"), "`jti`"),
            (new().header("alg", "none"), "`alg`"),
            (new().header("kid", "x"), "`kid`"),
            (new().header("x5t#S256", "x"), "`x5t#S256`"),
            (new().claim("a", 1).claim("b", 1).claim("a", 1), "`a`"),
            (new().header("typ", "a").header("typ", "b"), "`typ`"),
            (new().lifetime(Duration::ZERO), "lifetime"),
            (new().audience(""), "audience"),
            (new().audiences(["x", ""]), "audience"),
            (new().audiences([""; 0]), "audience"),
        ] {
            let error = assertion.check().unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        let good = new()
            .claim("kid", "x")
            .header("iss", "x")
            .header("typ", "x")
            .audience("a");
        assert_eq!(good.check(), Ok(()));
    }

    #[test]
    fn names_are_printed_on_one_short_line() {
        let name = format!("x\nERROR\u{202e}\u{3164}{}", "y".repeat(10_000));
        let assertion = ClientAssertion::new().claim(&*name, 1).claim(&*name, 2);
        let header = ClientAssertion::new().header(&*name, 1).header(&*name, 2);
        for shown in [
            format!("{assertion:?}"),
            format!("{header:?}"),
            assertion.check().unwrap_err(),
            header.check().unwrap_err(),
        ] {
            assert!(shown.is_ascii() && !shown.contains('\n'), "{shown}");
            assert!(shown.contains("x\\nERROR") && shown.len() < 1000, "{shown}");
        }
    }

    #[test]
    fn expiry_saturates_instead_of_overflowing() {
        let assertion = ClientAssertion::new().lifetime(Duration::from_secs(u64::MAX));
        assert!(claims(&assertion).contains(&format!(r#""exp":{}"#, u64::MAX)));
        let assertion = ClientAssertion::new().lifetime(Duration::MAX);
        assert!(claims(&assertion).contains(&format!(r#""exp":{}"#, u64::MAX)));
    }
}
