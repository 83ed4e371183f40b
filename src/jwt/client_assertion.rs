//! `ClientAssertion`: what a client says in the JWT by which it authenticates.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Signer, jws};
use crate::{base::clock, error::BoxError, secret::Secret};

const LIFETIME: Duration = Duration::from_secs(60);

/// What this crate says itself, so that nothing else may.
const OWN_CLAIMS: [&str; 6] = ["iss", "sub", "aud", "exp", "iat", "jti"];
const OWN_HEADERS: [&str; 3] = ["alg", "kid", "x5t#S256"];

/// What a client says in the JWT by which it authenticates
/// ([RFC 7523 §3](https://www.rfc-editor.org/rfc/rfc7523#section-3)): `private_key_jwt` and `client_secret_jwt`.
///
/// It says by itself:
///
/// 1. `iss` and `sub`: the client id.
/// 2. `aud`: the issuer where it is known, else the URI of the token endpoint.
/// 3. `iat` and `exp`: now, and the [lifetime](Self::lifetime) later, in whole seconds.
/// 4. `jti`: 128 random bits, new for every attempt, since a server may take each assertion once only.
///
/// It does not say `nbf`, which adds nothing to `iat` and makes a server refuse it whose clock is a second behind.
///
/// The header holds `alg`, `typ`, and the `kid` and `x5t#S256` that the [`Signer`] has.
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
    claims: Members,
    headers: Members,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Audience {
    Server,
    One(String),
    Many(Vec<String>),
}

/// Names, and values as JSON: a text is compared and hashed, which a [`Value`] is not everywhere.
type Members = Vec<(String, String)>;

impl ClientAssertion {
    /// With the defaults of each setter.
    pub fn new() -> Self {
        Self {
            audience: Audience::Server,
            lifetime: LIFETIME,
            claims: Members::new(),
            headers: Members::new(),
        }
    }

    /// The one value of `aud`, sent as a string. Default is the issuer where it is known, else the URI of the token endpoint.
    ///
    /// # Security
    ///
    /// The issuer is the one value that cannot be turned against another server of the same client; a server that wants
    /// something else says so.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Audience::One(audience.into());
        self
    }

    /// Several values of `aud`, sent as an array, even if it is one. Default is that of [`audience`](Self::audience).
    ///
    /// # Security
    ///
    /// Whoever of them gets the assertion can use it at the others. Many servers refuse arrays for that reason.
    pub fn audiences<T: Into<String>>(mut self, audiences: impl IntoIterator<Item = T>) -> Self {
        self.audience = Audience::Many(audiences.into_iter().map(Into::into).collect());
        self
    }

    /// How long it is valid, rounded up to whole seconds. Default is 60 seconds: enough for a slow connection and for clocks that
    /// differ a little, and soon over for whoever finds one in a log. FAPI 2.0 servers take no long-lived ones.
    ///
    /// It begins before the HTTP service is ready: it must outlast the wait for a place in a queue or a limit below. A cache gives up
    /// before ([`fetch_timeout`](crate::token_cache::TokenCacheBuilder::fetch_timeout), 30 seconds by default).
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// One more claim. Default is none. One that this crate sets by itself, or that is set twice, is refused before anything is
    /// sent.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.push((name.into(), value.into().to_string()));
        self
    }

    /// One more member of the header. Default is `typ` with the value `JWT`, which this replaces if `name` is `typ`. One that this
    /// crate sets by itself, or that is set twice, is refused before anything is sent.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.headers.push((name.into(), value.into().to_string()));
        self
    }

    /// What is wrong with it, in words.
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

    /// A new assertion; `audience` is for one that says none of its own.
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

/// The names only: a claim may be about a person.
impl fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |members: &Members| -> Vec<String> {
            members.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("ClientAssertion")
            .field("lifetime", &self.lifetime)
            .field("claims", &names(&self.claims))
            .field("headers", &names(&self.headers))
            .finish_non_exhaustive()
    }
}

fn check_members(what: &str, members: &Members, own: &[&str]) -> Result<(), String> {
    for (index, (name, _)) in members.iter().enumerate() {
        if own.contains(&name.as_str()) {
            return Err(format!(
                "the {what} `{name}` of the client assertion is set by this crate; leave it out"
            ));
        }
        if members[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(format!(
                "the {what} `{name}` of the client assertion is set twice"
            ));
        }
    }
    Ok(())
}

/// A JSON object in the making, its members in the order in which they are set.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::with_capacity(256))
    }

    fn text(&mut self, name: &str, value: &str) {
        self.member(name, Value::from(value));
    }

    fn members(&mut self, members: &Members) {
        for (name, json) in members {
            self.member(name, json);
        }
    }

    /// `json` is a JSON value.
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
    fn the_claims_are_those_of_the_rfc_and_whole_seconds() {
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
    fn the_header_says_what_the_signer_is() {
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
    fn what_is_set_twice_or_means_nothing_is_refused_by_name() {
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
    fn the_end_of_time_is_not_passed() {
        let assertion = ClientAssertion::new().lifetime(Duration::from_secs(u64::MAX));
        assert!(claims(&assertion).contains(&format!(r#""exp":{}"#, u64::MAX)));
        let assertion = ClientAssertion::new().lifetime(Duration::MAX);
        assert!(claims(&assertion).contains(&format!(r#""exp":{}"#, u64::MAX)));
    }
}
