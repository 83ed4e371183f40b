//! `ClientAssertion`: the claims of the JWT with which a client authenticates.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderMap;
use serde_json::Value;

use super::{
    Signer, jws,
    members::{JsonObject, Members},
};
use crate::{
    base::{clock, origin::Origin, server_clock::ServerClocks},
    error::BoxError,
    secret::Secret,
};

const LIFETIME: Duration = Duration::from_secs(60);

/// The claims and header members that this crate sets, so the caller may not.
const OWN_CLAIMS: [&str; 5] = ["iss", "sub", "aud", "exp", "jti"];
const OWN_HEADERS: [&str; 3] = ["alg", "kid", "x5t#S256"];

/// The claims of the JWT with which a client authenticates
/// ([RFC 7523 §3](https://www.rfc-editor.org/rfc/rfc7523#section-3)): `private_key_jwt` and `client_secret_jwt`.
///
/// Every assertion has these claims:
///
/// 1. `iss` and `sub`: the client id.
/// 2. `aud`: the issuer if it is known, otherwise the URI of the token endpoint.
/// 3. `iat` and `exp`: the current time, and the current time plus the [lifetime](Self::lifetime), in whole seconds. `iat` can be
///    [set back](Self::iat_before_now), and the current time can be that of [the server's clock](Self::follow_server_clock).
/// 4. `jti`: 128 random bits, new for every attempt, because a server may accept each assertion only once.
///
/// It has no `nbf`, unless you [ask for it](Self::nbf_before_now): that adds nothing to `iat`, and a server whose clock is one second
/// behind would reject the assertion.
///
/// The header contains `alg`, `typ`, and the `kid`, `x5t#S256` and `x5c` of the [`Signer`] if it has them.
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
    iat_before_now: Duration,
    nbf_before_now: Option<Duration>,
    server_clocks: Option<ServerClocks>,
    claims: Members,
    headers: Members,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Audience {
    Server,
    One(String),
    Many(Vec<String>),
}

impl ClientAssertion {
    /// Creates an assertion with the default of each setter.
    pub fn new() -> Self {
        Self {
            audience: Audience::Server,
            lifetime: LIFETIME,
            iat_before_now: Duration::ZERO,
            nbf_before_now: None,
            server_clocks: None,
            claims: Members::default(),
            headers: Members::default(),
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

    /// Sets `iat` back by this time, rounded up to whole seconds. Default is zero.
    ///
    /// Use it for a server that rejects an assertion "issued in the future" because its clock is a little behind, as older versions of
    /// Bluesky's authorization server do. A few seconds are enough. `exp` stays where it is, so the assertion is valid for as long as
    /// without this setting.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::jwt::ClientAssertion;
    ///
    /// let assertion = ClientAssertion::new().iat_before_now(Duration::from_secs(5));
    /// ```
    pub fn iat_before_now(mut self, time: Duration) -> Self {
        self.iat_before_now = time;
        self
    }

    /// Adds `nbf`, which is the current time minus this time, rounded up to whole seconds. Default is no `nbf`.
    ///
    /// Use it for a server that requires `nbf`: Entra ID lists it among the claims of an assertion. A server may compare it with its clock
    /// without any tolerance, so leave some seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::jwt::ClientAssertion;
    ///
    /// let assertion = ClientAssertion::new().nbf_before_now(Duration::from_secs(30));
    /// ```
    pub fn nbf_before_now(mut self, time: Duration) -> Self {
        self.nbf_before_now = Some(time);
        self
    }

    /// Computes `iat`, `nbf` and `exp` from the server's clock instead of this machine's. Default is this machine's clock.
    ///
    /// Use it on machines whose clock cannot be trusted, such as devices without a battery. The difference between the clocks is learned
    /// from the header `Date` of each response of the endpoint, and applies to the requests after it. It is known for each server (by
    /// origin), for up to 1,024 servers. A response with the header `Age` comes from a cache and is ignored. So is a difference of more
    /// than ten minutes.
    ///
    /// If the server rejects the client (`invalid_client`, `invalid_dpop_proof`) and its responses show that the request was signed by a
    /// wrong time, the request is sent a second time at once. The expiry of tokens is not affected. For DPoP proofs, see `DpopKey::follow_server_clock`.
    ///
    /// # Security
    ///
    /// The server can make this client sign assertions for up to ten minutes ahead, and keep them. They are only of use to whoever received
    /// them, for the [audience](Self::audience) that they name. With
    /// [`danger_allow_http`](crate::TokenEndpoint::danger_allow_http), everybody on the network can do so.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{
    ///     ClientAuthentication,
    ///     jwt::{ClientAssertion, SigningAlgorithm, SigningKey},
    /// };
    ///
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?;
    /// let client = ClientAuthentication::private_key_jwt("client", key)
    ///     .assertion(ClientAssertion::new().follow_server_clock());
    /// # Ok::<_, tower_oauth2_client::jwt::InvalidKey>(())
    /// ```
    pub fn follow_server_clock(mut self) -> Self {
        self.server_clocks = Some(ServerClocks::default());
        self
    }

    /// Adds a claim. Default is none.
    ///
    /// A claim that this crate sets, or that is set twice, makes the request fail before anything is sent. The exception is `iat`: yours
    /// replaces that of this crate, and is the same in every assertion. To set it back, use [`iat_before_now`](Self::iat_before_now).
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.push(name, value);
        self
    }

    /// Adds a member to the header. Default is none.
    ///
    /// A member that this crate sets, or that is set twice, makes the request fail before anything is sent. The exceptions are `typ`, whose
    /// default is `JWT`, and `x5c`: yours replace those of this crate.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Returns what the caller adds: whether it is a claim, its name and its value.
    #[cfg(feature = "token-store")]
    pub(crate) fn own_members(&self) -> impl Iterator<Item = (bool, &str, &str)> {
        let claims = self.claims.iter().map(|(name, value)| (true, name, value));
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (false, name, value));
        claims.chain(headers)
    }

    /// Returns an error message if a setting is invalid.
    pub(crate) fn check(&self) -> Result<(), String> {
        const JWT: &str = "client assertion";
        self.claims.check("claim", JWT, &OWN_CLAIMS)?;
        self.headers.check("header", JWT, &OWN_HEADERS)?;
        for (name, is_set) in [
            ("iat", !self.iat_before_now.is_zero()),
            ("nbf", self.nbf_before_now.is_some()),
        ] {
            if is_set && self.claims.contains(name) {
                return Err(format!(
                    "the claim `{name}` of the client assertion is set twice, with `{name}_before_now` and with `claim`"
                ));
            }
        }
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

    /// Signs a new assertion.
    pub(crate) async fn sign(
        &self,
        client_id: &str,
        recipient: Recipient<'_>,
        signer: &dyn Signer,
    ) -> Result<Secret, BoxError> {
        let now = match self.server_clocks.as_ref().zip(recipient.origin) {
            Some((clocks, server)) => clocks.unix_now(server),
            None => clock::unix_now(),
        };
        let header = self.header_json(recipient.algorithm, signer);
        let claims = self.claims_json(client_id, recipient.audience, now, &jws::jti()?);
        let header = BASE64_URL_SAFE_NO_PAD.encode(header);
        let assertion = jws::sign(signer, &header, &claims).await?;
        Ok(Secret::new(assertion))
    }

    /// Returns by how many seconds the current time is corrected for a server.
    pub(crate) fn seconds_ahead(&self, server: &Origin) -> i64 {
        let clocks = self.server_clocks.as_ref();
        clocks.map_or(0, |clocks| clocks.seconds_ahead(server))
    }

    /// Learns from a response of `server` how far the clocks differ, if the server's is followed.
    pub(crate) fn note_clock(&self, server: Origin, headers: &HeaderMap) {
        if let Some(clocks) = &self.server_clocks {
            clocks.note(server, headers);
        }
    }

    fn header_json(&self, algorithm: Option<&str>, signer: &dyn Signer) -> Vec<u8> {
        let mut json = JsonObject::new();
        json.member("alg", algorithm.unwrap_or(signer.algorithm().as_str()));
        if !self.headers.contains("typ") {
            json.member("typ", "JWT");
        }
        if let Some(key_id) = signer.key_id() {
            json.member("kid", key_id);
        }
        if let Some(thumbprint) = signer.certificate_thumbprint() {
            json.member("x5t#S256", thumbprint);
        }
        if let Some(chain) = signer
            .certificate_chain()
            .filter(|_| !self.headers.contains("x5c"))
        {
            json.member("x5c", chain);
        }
        json.members(&self.headers);
        json.end()
    }

    fn claims_json(&self, client_id: &str, audience: &str, now: u64, jti: &str) -> Vec<u8> {
        let before_now = |time| now.saturating_sub(whole_seconds(time));
        let mut json = JsonObject::new();
        json.member("iss", client_id);
        json.member("sub", client_id);
        match &self.audience {
            Audience::Server => json.member("aud", audience),
            Audience::One(audience) => json.member("aud", audience),
            Audience::Many(audiences) => json.member("aud", audiences),
        }
        if !self.claims.contains("iat") {
            json.member("iat", before_now(self.iat_before_now));
        }
        if let Some(time) = self.nbf_before_now {
            json.member("nbf", before_now(time));
        }
        json.member("exp", now.saturating_add(whole_seconds(self.lifetime)));
        json.member("jti", jti);
        json.members(&self.claims);
        json.end()
    }
}

/// Whom an assertion is for.
#[derive(Clone, Copy)]
pub(crate) struct Recipient<'a> {
    /// The audience, unless the caller has set one.
    pub(crate) audience: &'a str,
    /// The server that verifies the assertion.
    pub(crate) origin: Option<&'a Origin>,
    /// The name by which the server knows the algorithm of the signer, if it is another than that of the signer.
    pub(crate) algorithm: Option<&'static str>,
}

/// Returns a number of seconds, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    let rounded_up = u64::from(time.subsec_nanos() > 0);
    time.as_secs().saturating_add(rounded_up)
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
            .field("claims", &self.claims)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{SigningAlgorithm, SigningKey};

    const JTI: &str = "_____________________w";

    fn claims(assertion: &ClientAssertion) -> String {
        let json = assertion.claims_json("a\"b", "https://as.example", 100, JTI);
        String::from_utf8(json).unwrap()
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
    fn iat_and_nbf_are_set_back_and_exp_is_not() {
        let new = ClientAssertion::new;
        let millis = Duration::from_millis;
        for (assertion, expected) in [
            (new().iat_before_now(millis(5000)), r#""iat":95,"exp":160,"#),
            (new().iat_before_now(millis(1)), r#""iat":99,"exp":160,"#),
            (new().iat_before_now(Duration::MAX), r#""iat":0,"exp":160,"#),
            (
                new().nbf_before_now(millis(0)),
                r#""iat":100,"nbf":100,"exp":160,"#,
            ),
            (
                new()
                    .nbf_before_now(millis(30_000))
                    .iat_before_now(millis(2500)),
                r#""iat":97,"nbf":70,"exp":160,"#,
            ),
            (new().claim("nbf", 7), r#""iat":100,"exp":160,"#),
            (
                new().claim("iat", 7),
                r#""aud":"https://as.example","exp":160,"#,
            ),
        ] {
            let claims = claims(&assertion);
            assert!(claims.contains(expected), "no {expected} in {claims}");
        }
    }

    #[test]
    fn header_describes_the_signer() {
        let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
        let assertion = ClientAssertion::new();
        assert_eq!(
            assertion.header_json(None, &key),
            br#"{"alg":"ES256","typ":"JWT"}"#
        );
        let key = key.kid("k\"");
        assert_eq!(
            assertion.header_json(None, &key),
            br#"{"alg":"ES256","typ":"JWT","kid":"k\""}"#
        );
        let assertion = assertion
            .header("typ", "client-authentication+jwt")
            .header("x", true);
        assert_eq!(
            assertion.header_json(None, &key),
            br#"{"alg":"ES256","kid":"k\"","typ":"client-authentication+jwt","x":true}"#
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
            (
                new().claim("iat", 1).iat_before_now(Duration::from_secs(1)),
                "`iat`",
            ),
            (new().claim("iat", 1).claim("iat", 2), "`iat`"),
            (
                new().nbf_before_now(Duration::ZERO).claim("nbf", 1),
                "`nbf`",
            ),
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
