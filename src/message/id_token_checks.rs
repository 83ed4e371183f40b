//! `IdTokenChecks`: whether an ID token is meant for this client and this sign-in.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{base::Quoted, message::json_time, secret::IdToken};

/// What an ID token must say to be accepted
/// ([OpenID Connect Core §3.1.3.7](https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation)).
///
/// Pass it to [`TokenRequest::id_token_checks`](crate::TokenRequest::id_token_checks). If the response then contains an ID token that
/// does not pass, the token request fails, and its access token is dropped. The token request for an authorization code that this crate
/// has obtained has these checks already.
///
/// 1. `aud` names the client. If it names others too, `azp` must be the client. If there is an `azp`, it is the client.
/// 2. `iss` is exactly the issuer, if one is set.
/// 3. `nonce` is exactly the nonce, if one is set.
/// 4. `exp` is in the future. A clock that is wrong by a minute is tolerated.
/// 5. `auth_time` is recent enough and not in the future, if a maximum age is set, with the same tolerance.
///
/// # Security
///
/// The signature is not verified. OpenID Connect Core §3.1.3.7 allows that for a token that comes from the token endpoint over TLS, which is
/// the only place where this crate reads one. An encrypted ID token is refused, because it cannot be read.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{IdTokenChecks, TokenRequest};
///
/// let request = TokenRequest::authorization_code("SplxlOBeZQQYbYS6WxSbIA", "https://app.example/cb")
///     .id_token_checks(IdTokenChecks::new("client").issuer("https://as.example").nonce("n-0S6_WzA2Mj"));
/// ```
#[derive(Clone)]
pub struct IdTokenChecks {
    client_id: String,
    issuer: Option<String>,
    nonce: Option<String>,
    max_age: Option<Duration>,
}

/// How wrong a clock may be.
const LEEWAY: f64 = 60.0;

impl IdTokenChecks {
    /// Creates the checks for this client.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            issuer: None,
            nonce: None,
            max_age: None,
        }
    }

    /// Sets the issuer, which must equal `iss`, character by character. Default is that `iss` is not checked.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets the nonce of the authorization request, which must equal `nonce`. Default is that `nonce` is not checked.
    #[must_use]
    pub fn nonce(mut self, nonce: impl Into<String>) -> Self {
        self.nonce = Some(nonce.into());
        self
    }

    /// Sets how long ago the user may have authenticated, as `max_age` in the authorization request. Default is any time.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Checks the text of an ID token.
    ///
    /// # Errors
    ///
    /// What is wrong, as the rest of a sentence that begins with the ID token.
    pub(crate) fn check(&self, id_token: &str, now: SystemTime) -> Result<(), String> {
        let claims = claims(id_token)?;
        let text = |name| claims.get(name).and_then(Value::as_str);
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0.0, |now| now.as_secs_f64());

        if let Some(issuer) = &self.issuer {
            match text("iss") {
                Some(iss) if iss == issuer => {}
                Some(iss) => return Err(format!("is from another issuer, `{}`", Quoted(iss))),
                None => return Err("names no issuer in `iss`".into()),
            }
        }
        self.check_audience(&claims)?;
        if self
            .nonce
            .as_deref()
            .is_some_and(|n| text("nonce") != Some(n))
        {
            return Err(match text("nonce") {
                Some(_) => "belongs to another sign-in: its `nonce` is a different one".into(),
                None => "contains no `nonce`, although one was sent".to_owned(),
            });
        }
        match claims.get("exp").and_then(Value::as_f64) {
            Some(exp) if now < exp + LEEWAY => {}
            Some(_) => return Err("has expired (`exp`)".into()),
            None => return Err("does not say when it expires (`exp`)".into()),
        }
        if let Some(max_age) = self.max_age {
            match claims.get("auth_time").and_then(Value::as_f64) {
                Some(time) if time > now + LEEWAY => {
                    return Err(
                        "is for a user who authenticates in the future (`auth_time`)".into(),
                    );
                }
                Some(time) if now - time <= max_age.as_secs_f64() + LEEWAY => {}
                Some(_) => {
                    return Err("is for a user who authenticated too long ago (`auth_time`)".into());
                }
                None => return Err("does not say when the user authenticated (`auth_time`)".into()),
            }
        }
        Ok(())
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), String> {
        let audiences: Vec<&Value> = match claims.get("aud") {
            Some(Value::Array(several)) => several.iter().collect(),
            one => one.into_iter().collect(),
        };
        if !audiences
            .iter()
            .any(|aud| aud.as_str() == Some(&self.client_id))
        {
            return Err("is for another client (`aud`)".into());
        }
        match claims.get("azp") {
            Some(azp) if azp.as_str() == Some(&self.client_id) => Ok(()),
            Some(_) => Err("was issued to another client (`azp`)".into()),
            None if audiences.len() > 1 => Err("is also for other clients (`aud`), and no `azp` says that it was issued to this one".into()),
            None => Ok(()),
        }
    }
}

/// Reads the claims of an ID token without verifying anything. The last value of a repeated claim counts.
fn claims(id_token: &str) -> Result<Map<String, Value>, String> {
    let parts: Vec<&str> = id_token.split('.').collect();
    let payload = match parts[..] {
        [_, payload, _] => payload.trim_end_matches('='),
        [_, _, _, _, _] => return Err("is encrypted, which this crate does not support; configure the server to issue ID tokens that are only signed".into()),
        _ => return Err("is not a JWT".into()),
    };
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok();
    let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    claims.ok_or_else(|| "is not a JWT with a JSON object".to_owned())
}

impl fmt::Debug for IdTokenChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdTokenChecks")
            .field("client_id", &Quoted(&self.client_id))
            .field("issuer", &self.issuer.as_deref().map(Quoted))
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// The claims of an ID token, **not verified**.
///
/// In the response to a token request with [`IdTokenChecks`], the claims that these check are right. The signature is not verified, so read
/// claims only of a token that came from the token endpoint over TLS.
///
/// # Security
///
/// Claims are about a person. `Debug` shows none.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{IdToken, IdTokenClaims};
///
/// // {"sub":"248289761001","email":"jane@example.com"}
/// let token = IdToken::new("e30.eyJzdWIiOiIyNDgyODk3NjEwMDEiLCJlbWFpbCI6ImphbmVAZXhhbXBsZS5jb20ifQ.c2ln");
/// let claims = IdTokenClaims::unverified(&token).unwrap();
/// assert_eq!(claims.sub(), Some("248289761001"));
/// assert_eq!(claims.get("email").unwrap(), "jane@example.com");
/// ```
#[doc(alias = "id_token_claims")]
#[derive(Clone, PartialEq)]
pub struct IdTokenClaims(Map<String, Value>);

impl IdTokenClaims {
    /// Reads the claims. `None` if the token is not a JWT with a JSON object, or is encrypted.
    #[must_use]
    pub fn unverified(id_token: &IdToken) -> Option<Self> {
        claims(id_token.expose_secret()).ok().map(Self)
    }

    /// Returns `sub`, which identifies the user at this issuer.
    ///
    /// The user is the pair of issuer and subject. An e-mail address or a name identifies nobody: it may change owners.
    #[must_use]
    #[doc(alias = "subject")]
    pub fn sub(&self) -> Option<&str> {
        self.get("sub")?.as_str()
    }

    /// Returns `exp`: when the ID token expires, on the clock of the server. A time after the year 9999 is the end of that year.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        json_time(self.get("exp")?)
    }

    /// Returns any claim.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl fmt::Debug for IdTokenClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdTokenClaims").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_764_400_000;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    fn check(claims: &str) -> Result<(), String> {
        let checks = IdTokenChecks::new("c")
            .issuer("https://as.example")
            .nonce("n");
        let checks = checks.max_age(Duration::from_secs(600));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        checks.check(&token(claims), now)
    }

    fn good() -> Value {
        json!({
            "iss": "https://as.example", "aud": "c", "nonce": "n", "exp": NOW + 300,
            "auth_time": NOW - 600,
        })
    }

    #[test]
    fn each_claim_must_be_right() {
        for (name, value, expected) in [
            ("x", json!(1), None),
            (
                "iss",
                json!("https://as.example/"),
                Some("is from another issuer, `https://as.example/`"),
            ),
            (
                "iss",
                json!("HTTPS://AS.example"),
                Some("is from another issuer"),
            ),
            (
                "iss",
                json!(["https://as.example"]),
                Some("names no issuer"),
            ),
            ("iss", json!(null), Some("names no issuer")),
            ("aud", json!("d"), Some("is for another client")),
            ("aud", json!("C"), Some("is for another client")),
            ("aud", json!([]), Some("is for another client")),
            ("aud", json!({"c": "c"}), Some("is for another client")),
            ("aud", json!(null), Some("is for another client")),
            ("aud", json!([["c"]]), Some("is for another client")),
            ("aud", json!(["c"]), None),
            ("aud", json!(["c", "d"]), Some("is also for other clients")),
            ("aud", json!(["c", 1]), Some("is also for other clients")),
            ("azp", json!("c"), None),
            ("azp", json!("d"), Some("was issued to another client")),
            ("azp", json!(["c"]), Some("was issued to another client")),
            ("azp", json!(null), Some("was issued to another client")),
            ("nonce", json!("m"), Some("belongs to another sign-in")),
            ("nonce", json!(""), Some("belongs to another sign-in")),
            ("nonce", json!(null), Some("contains no `nonce`")),
            ("nonce", json!(["n"]), Some("contains no `nonce`")),
            ("exp", json!(NOW - 59), None),
            ("exp", json!(NOW - 60), Some("has expired")),
            ("exp", json!(-1), Some("has expired")),
            ("exp", json!(NOW as f64 + 0.5), None),
            (
                "exp",
                json!((NOW + 300).to_string()),
                Some("does not say when it expires"),
            ),
            ("exp", json!(null), Some("does not say when it expires")),
            ("auth_time", json!(NOW), None),
            ("auth_time", json!(NOW - 660), None),
            (
                "auth_time",
                json!(NOW - 661),
                Some("is for a user who authenticated too long ago"),
            ),
            ("auth_time", json!(NOW + 60), None),
            (
                "auth_time",
                json!(NOW + 61),
                Some("is for a user who authenticates in the future"),
            ),
            // Milliseconds.
            (
                "auth_time",
                json!(NOW * 1000),
                Some("is for a user who authenticates in the future"),
            ),
            (
                "auth_time",
                json!("now"),
                Some("does not say when the user"),
            ),
            ("auth_time", json!(null), Some("does not say when the user")),
        ] {
            let mut claims = good();
            claims[name] = value.clone();
            let checked = check(&claims.to_string());
            match expected {
                None => assert_eq!(checked, Ok(()), "{name}: {value}"),
                Some(why) => {
                    let error = checked.expect_err(&format!("{name}: {value}"));
                    assert!(error.starts_with(why), "{name}: {value}: {error}");
                }
            }
        }
        let mut several = good();
        several["aud"] = json!(["d", "c"]);
        several["azp"] = json!("c");
        assert_eq!(check(&several.to_string()), Ok(()));
    }

    #[test]
    fn what_is_not_set_is_not_checked() {
        let checks = IdTokenChecks::new("c");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let claims = json!({"aud": "c", "exp": NOW + 1}).to_string();
        assert_eq!(checks.check(&token(&claims), now), Ok(()));
    }

    #[test]
    fn what_is_no_signed_jwt_is_refused() {
        let claims = good().to_string();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let checks = IdTokenChecks::new("c");
        for (text, why) in [
            (token("[]"), "is not a JWT with a JSON object"),
            (token("{"), "is not a JWT with a JSON object"),
            (
                token(&format!("{claims}x")),
                "is not a JWT with a JSON object",
            ),
            (token(&claims).replace("e30.", ""), "is not a JWT"),
            (format!("{}.x", token(&claims)), "is not a JWT"),
            (format!("{}.x.y", token(&claims)), "is encrypted"),
            (String::new(), "is not a JWT"),
            ("..".into(), "is not a JWT with a JSON object"),
            ("<html>".into(), "is not a JWT"),
            (format!("e30.{claims}.c2ln"), "is"),
        ] {
            let error = checks.check(&text, now).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_last_value_of_a_repeated_claim_counts() {
        let claims = good().to_string();
        let (first, last) = (
            claims.replace("{\"", "{\"aud\":\"d\",\""),
            claims.replace('}', ",\"aud\":\"d\"}"),
        );
        assert_eq!(check(&first), Ok(()));
        assert!(check(&last).is_err());
    }

    #[test]
    fn an_expiry_is_read_from_whatever_servers_send() {
        for (exp, expected) in [
            (json!(NOW), Some(NOW)),
            (json!(NOW.to_string()), Some(NOW)),
            (json!(u64::MAX), Some(253_402_300_799)),
            (json!("soon"), None),
            (json!(null), None),
        ] {
            let token = IdToken::new(token(&json!({ "exp": exp }).to_string()));
            let claims = IdTokenClaims::unverified(&token).unwrap();
            let expected = expected.map(|it| SystemTime::UNIX_EPOCH + Duration::from_secs(it));
            assert_eq!(claims.expires_at(), expected, "{exp}");
        }
    }

    #[test]
    fn debug_shows_no_claim_and_no_nonce() {
        let claims =
            IdTokenClaims::unverified(&IdToken::new(token(r#"{"sub":"SECRET"}"#))).unwrap();
        let checks = IdTokenChecks::new("c").nonce("SECRET");
        let shown = format!("{claims:?} {checks:?}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
