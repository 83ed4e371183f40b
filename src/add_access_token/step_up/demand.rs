//! What a challenge demands, and the token request that meets it. Pure.
//!
//! Challenges come from an API, so what they may add to a token request is limited in size.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};

use crate::message::{Challenge, Scope, TokenRequest, scope};

/// The greatest length of a scope, and of claims, in a stronger token request.
const MAX_TEXT: usize = 4 * 1024;
const MAX_SCOPE_WORDS: usize = 64;
const MAX_ACR_VALUES: usize = 256;

type Claims = Map<String, Value>;

/// What the challenges of a response demand of the token.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Demand {
    /// From `insufficient_scope` (RFC 6750 §3.1).
    scope: String,
    /// From `insufficient_claims` (Microsoft Entra).
    claims: Claims,
    /// From `insufficient_user_authentication` (RFC 9470 §3).
    acr_values: Option<String>,
    max_age: Option<u64>,
}

impl Demand {
    /// Returns what challenges demand, if anything.
    pub(super) fn of_challenges(challenges: &[Challenge]) -> Option<Self> {
        let mut demand = Self::default();
        for challenge in challenges {
            demand.add(challenge);
        }
        (demand != Self::default()).then_some(demand)
    }

    fn add(&mut self, challenge: &Challenge) {
        let Some(error) = challenge.error() else {
            return;
        };
        match &*error.to_ascii_lowercase() {
            "insufficient_scope" => {
                let words = challenge.parameter("scope").unwrap_or_default();
                if scope::check(words).is_ok() {
                    self.scope = scope::union(&self.scope, words);
                }
            }
            "insufficient_user_authentication" => {
                let acr_values = challenge
                    .parameter("acr_values")
                    .filter(|it| is_acr_values(it));
                if let Some(acr_values) = acr_values {
                    self.acr_values = Some(acr_values.into());
                }
                let max_age = challenge
                    .parameter("max_age")
                    .and_then(|it| it.trim().parse().ok());
                self.max_age = at_most(self.max_age, max_age);
            }
            // Azure Resource Manager calls the token invalid.
            "insufficient_claims" | "invalid_token" => {
                let claims = challenge.parameter("claims").and_then(decode_claims);
                merge(&mut self.claims, claims.unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Returns the request of a token that meets the demand, as far as that can be requested.
    ///
    /// `base` is the request of the source, and `current` the strongest one so far. `granted` is the scope of its token, if
    /// `current` has none. The result is never weaker than `current`, and equal to it if it already asks for all of this.
    pub(super) fn met_by(
        &self,
        base: &TokenRequest,
        current: &TokenRequest,
        granted: Option<&str>,
        allowed_scope: Option<&Scope>,
    ) -> TokenRequest {
        // A second entry would send the credential a second time, and continue with a refresh token of its own.
        if base.carries_one_time_credential() {
            return current.clone();
        }
        let mut request = current.clone();
        if let Some(scope) = self.wider_scope(current, granted, allowed_scope) {
            request = request.replacing("scope", scope);
        }
        if let Some(claims) = self.more_claims(base, current) {
            request = request.replacing("claims", claims);
        }
        // There is no user whom the server could authenticate.
        if base.grant_type() != "client_credentials" {
            if let Some(acr_values) = &self.acr_values {
                request = request.replacing("acr_values", acr_values.clone());
            }
            let current = current.known("max_age").and_then(|it| it.parse().ok());
            if let Some(max_age) = at_most(current, self.max_age) {
                request = request.replacing("max_age", max_age.to_string());
            }
        }
        request
    }

    /// Returns the union of the scope so far and the demanded one, if that is more.
    fn wider_scope(
        &self,
        current: &TokenRequest,
        granted: Option<&str>,
        allowed: Option<&Scope>,
    ) -> Option<String> {
        let earlier = match current.has("scope") {
            true => current.known("scope")?,
            // Otherwise the scope that the server chose would be lost.
            false => granted?,
        };
        let is_allowed = |word: &&str| allowed.is_none_or(|allowed| allowed.contains(word));
        let demanded = Scope::from(&*self.scope);
        let demanded = Scope::from_iter(demanded.iter().filter(is_allowed));
        let wider = scope::union(earlier, demanded.as_str());
        let is_small = wider.len() <= MAX_TEXT && wider.split(' ').count() <= MAX_SCOPE_WORDS;
        (is_small && !scope::is_same(earlier, &wider)).then_some(wider)
    }

    /// Returns the claims so far together with the demanded ones, if that is more.
    fn more_claims(&self, base: &TokenRequest, current: &TokenRequest) -> Option<String> {
        if self.claims.is_empty() {
            return None;
        }
        let current = requested_claims(current)?;
        let merged_with = |earlier: &Claims| {
            let mut merged = earlier.clone();
            merge(&mut merged, self.claims.clone());
            merged
        };
        let mut merged = merged_with(&current);
        let mut text = Value::Object(merged.clone()).to_string();
        if text.len() > MAX_TEXT {
            // The newest claims matter most.
            merged = merged_with(&requested_claims(base)?);
            text = Value::Object(merged.clone()).to_string();
        }
        (text.len() <= MAX_TEXT && merged != current).then_some(text)
    }
}

/// Returns the claims that a token request contains. `None` if they cannot be extended.
fn requested_claims(request: &TokenRequest) -> Option<Claims> {
    match request.has("claims") {
        true => serde_json::from_str(request.known("claims")?).ok(),
        false => Some(Claims::new()),
    }
}

/// Decodes claims in base64 of either alphabet, with or without padding, or in plain JSON.
fn decode_claims(text: &str) -> Option<Claims> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let text = text.trim();
    let json = if text.starts_with('{') {
        text.as_bytes().to_vec()
    } else {
        let standard = text.replace('-', "+").replace('_', "/");
        BASE64.decode(standard).ok()?
    };
    if json.len() > MAX_TEXT {
        return None;
    }
    serde_json::from_slice(&json).ok()
}

/// Adds `newer` to `older`, member by member. Where both say something else, `newer` counts.
fn merge(older: &mut Claims, newer: Claims) {
    for (name, newer) in newer {
        match (older.get_mut(&name), newer) {
            (Some(Value::Object(older)), Value::Object(newer)) => merge(older, newer),
            (_, newer) => drop(older.insert(name, newer)),
        }
    }
}

fn at_most(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn is_acr_values(text: &str) -> bool {
    let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_printable && text.len() <= MAX_ACR_VALUES && !text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use http::{HeaderMap, header::WWW_AUTHENTICATE};

    use super::*;

    const NBF: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1603742800"}}}"#;

    fn demand(fields: &[&str]) -> Option<Demand> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(WWW_AUTHENTICATE, field.parse().unwrap());
        }
        Demand::of_challenges(&Challenge::all(&headers))
    }

    /// Returns the parameters that are requested after these challenges, in the order of [`NAMES`].
    fn asked(base: &TokenRequest, fields: &[&str]) -> [Option<String>; 4] {
        let request = match demand(fields) {
            Some(demand) => demand.met_by(base, base, None, None),
            None => base.clone(),
        };
        NAMES.map(|name| request.known(name).map(Into::into))
    }

    const NAMES: [&str; 4] = ["scope", "claims", "acr_values", "max_age"];

    #[test]
    fn challenges_of_products_are_answered() {
        let base = TokenRequest::jwt_bearer("assertion").scope("read");
        let nbf = BASE64_STANDARD.encode(NBF);
        let acrs = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
        for (challenge, [scope, claims, acr_values, max_age]) in [
            // Microsoft Graph, continuous access evaluation.
            (
                format!(
                    r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000", errorDescription="Continuous access evaluation resulted in challenge with result: InteractionRequired and code: TokenIssuedBeforeRevocationTimestamp", error="insufficient_claims", claims="{nbf}""#
                ),
                [None, Some(NBF), None, None],
            ),
            // With a `PoP` challenge before it.
            (
                format!(
                    r#"PoP realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", nonce="ey==", Bearer realm="", error="insufficient_claims", claims="{nbf}""#
                ),
                [None, Some(NBF), None, None],
            ),
            // Azure Resource Manager.
            (
                format!(
                    r#"Bearer authorization_uri="https://login.windows.net/", error="invalid_token", error_description="User session has been revoked", claims="{nbf}""#
                ),
                [None, Some(NBF), None, None],
            ),
            // An API that demands an authentication context of Conditional Access.
            (
                format!(
                    r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="{}", cc_type="authcontext""#,
                    BASE64_URL_SAFE_NO_PAD.encode(acrs)
                ),
                [None, Some(acrs), None, None],
            ),
            // SharePoint names no error.
            (
                format!(
                    r#"Bearer realm="6c48", client_id="0000", authorization_uri="https://login.windows.net/common/oauth2/authorize", not_error="insufficient_claims", claims="{nbf}""#
                ),
                [None; 4],
            ),
            // Spring Security.
            (
                r#"Bearer error="insufficient_scope", error_description="The request requires higher privileges than provided by the access token.", error_uri="https://tools.ietf.org/html/rfc6750#section-3.1""#.into(),
                [None; 4],
            ),
            // Spring Security OAuth.
            (
                r#"Bearer error="insufficient_scope", error_description="Insufficient scope for this resource", scope="write""#.into(),
                [Some("read write"), None, None, None],
            ),
            // Google.
            (
                r#"Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="https://www.googleapis.com/auth/drive.readonly https://www.googleapis.com/auth/drive""#.into(),
                [
                    Some("read https://www.googleapis.com/auth/drive.readonly https://www.googleapis.com/auth/drive"),
                    None,
                    None,
                    None,
                ],
            ),
            // MCP servers.
            (
                r#"Bearer error="insufficient_scope", scope="files:read files:write user:profile", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource", error_description="Additional file write permission required""#.into(),
                [Some("read files:read files:write user:profile"), None, None, None],
            ),
            // Envoy, Apigee and others without commas.
            (
                r#"Bearer realm="null",error="insufficient_scope",scope='read write'"#.into(),
                [Some("read write"), None, None, None],
            ),
            // Quarkus, Keycloak.
            (
                r#"Bearer error="insufficient_user_authentication", error_description="A different authentication level is required", acr_values="myACR", max_age="120""#.into(),
                [None, None, Some("myACR"), Some("120")],
            ),
            // RFC 9470 §3.
            (
                r#"Bearer error="insufficient_user_authentication", error_description="More recent authentication is required", max_age="5""#.into(),
                [None, None, None, Some("5")],
            ),
            // UMA, GitLab, GitHub.
            (r#"UMA realm="x", as_uri="https://as.example", ticket="016f84e8""#.into(), [None; 4]),
            (r#"Bearer realm="Protected by OAuth 2.0", error="insufficient_scope", error_description="The request requires higher privileges than provided by the access token.", scope="api read_api""#.into(), [Some("read api read_api"), None, None, None]),
            (r#"Basic realm="GitHub""#.into(), [None; 4]),
        ] {
            let scope = scope.or(Some("read"));
            let expected = [scope, claims, acr_values, max_age].map(|it| it.map(Into::into));
            assert_eq!(asked(&base, &[&challenge]), expected, "{challenge}");
        }
    }

    #[test]
    fn unusable_demands_are_ignored() {
        let base = TokenRequest::jwt_bearer("assertion").scope("read");
        let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_TEXT));
        for challenge in [
            // Other errors, and none.
            r#"Bearer scope="admin", acr_values="gold", max_age="1", claims="{\"a\":1}""#.into(),
            r#"Bearer error="invalid_token", scope="admin", acr_values="gold", max_age="1""#.into(),
            r#"Bearer error="invalid_request", scope="admin""#.into(),
            r#"Bearer error_description="insufficient_scope", scope="admin""#.into(),
            r#"Bearer error="insufficient_scope", DPoP scope="admin""#.into(),
            // Nothing new.
            r#"Bearer error="insufficient_scope""#.into(),
            r#"Bearer error="insufficient_scope", scope="""#.into(),
            r#"Bearer error="insufficient_scope", scope="read""#.into(),
            r#"Bearer error="insufficient_claims""#.into(),
            r#"Bearer error="insufficient_claims", claims="e30=""#.into(),
            // Not what they should be.
            "Bearer error=\"insufficient_scope\", scope=\"a\tb\"".to_owned(),
            r#"Bearer error="insufficient_scope", scope="a\\b""#.into(),
            r#"Bearer error="insufficient_claims", claims="?""#.into(),
            r#"Bearer error="insufficient_claims", claims="eyJhIjox""#.into(),
            r#"Bearer error="insufficient_claims", claims="WzFd""#.into(),
            r#"Bearer error="insufficient_claims", claims="[1]""#.into(),
            r#"Bearer error="insufficient_claims", claims="{\"a\":1} x""#.into(),
            r#"Bearer error="insufficient_user_authentication", acr_values=" ", max_age="-1""#
                .into(),
            r#"Bearer error="insufficient_user_authentication", max_age="99999999999999999999999""#
                .into(),
            // Too large.
            format!(
                r#"Bearer error="insufficient_scope", scope="{}""#,
                "x".repeat(MAX_TEXT)
            ),
            format!(
                r#"Bearer error="insufficient_scope", scope="{}""#,
                numbered(MAX_SCOPE_WORDS)
            ),
            format!(
                r#"Bearer error="insufficient_claims", claims="{}""#,
                BASE64_STANDARD.encode(&huge)
            ),
            format!(
                r#"Bearer error="insufficient_claims", claims="{}""#,
                "[".repeat(MAX_TEXT)
            ),
            format!(
                r#"Bearer error="insufficient_claims", claims="{{\"a\":{}""#,
                "[".repeat(1000)
            ),
            format!(
                r#"Bearer error="insufficient_user_authentication", acr_values="{}""#,
                "x".repeat(MAX_ACR_VALUES + 1)
            ),
            format!(
                r#"Bearer realm="{}", error="insufficient_scope", scope="admin""#,
                "x".repeat(16 * 1024)
            ),
        ] {
            let expected = [Some("read".to_owned()), None, None, None];
            assert_eq!(asked(&base, &[&challenge]), expected, "{challenge}");
        }
    }

    fn numbered(words: usize) -> String {
        let words: Vec<_> = (0..words).map(|n| format!("s{n}")).collect();
        words.join(" ")
    }

    #[test]
    fn several_challenges_add_up() {
        let base = TokenRequest::jwt_bearer("assertion").scope("a");
        let fields = [
            r#"Bearer error="insufficient_scope", scope="b", DPoP error="insufficient_scope", scope="c b", algs="ES256""#,
            r#"Bearer error="insufficient_user_authentication", acr_values="x", max_age="60", Bearer error=insufficient_user_authentication, max_age=30"#,
            r#"Bearer error="insufficient_claims", claims="{\"access_token\":{\"x\":null}}", Bearer error=insufficient_claims, claims="{\"access_token\":{\"y\":null}}""#,
        ];
        let expected = [
            "a b c",
            r#"{"access_token":{"x":null,"y":null}}"#,
            "x",
            "30",
        ];
        assert_eq!(
            asked(&base, &fields),
            expected.map(|it| Some(it.to_owned()))
        );
    }

    #[test]
    fn capabilities_of_the_client_stay_in_the_claims() {
        let cp1 = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
        let base = TokenRequest::client_credentials().parameter("claims", cp1);
        let challenge = format!(
            r#"Bearer error="insufficient_claims", claims="{}""#,
            BASE64_STANDARD.encode(NBF)
        );
        let [_, claims, ..] = asked(&base, &[&challenge]);
        let expected = r#"{"access_token":{"nbf":{"essential":true,"value":"1603742800"},"xms_cc":{"values":["cp1"]}}}"#;
        assert_eq!(claims.as_deref(), Some(expected));
        for claims in ["no JSON", "[]"] {
            let base = TokenRequest::client_credentials().parameter("claims", claims);
            assert_eq!(asked(&base, &[&challenge])[1].as_deref(), Some(claims));
        }
    }

    #[test]
    fn newest_claims_replace_the_others_if_there_are_too_many() {
        let base = TokenRequest::client_credentials().parameter("claims", r#"{"base":1}"#);
        let demand = |name: &str| Demand {
            claims: Claims::from_iter([(name.to_owned(), "x".repeat(MAX_TEXT / 2).into())]),
            ..Demand::default()
        };
        let one = demand("one").met_by(&base, &base, None, None);
        let two = demand("two").met_by(&base, &one, None, None);
        let claims = requested_claims(&two).unwrap();
        assert_eq!(claims.keys().collect::<Vec<_>>(), ["base", "two"]);
    }

    #[test]
    fn a_scope_that_is_not_known_is_not_widened() {
        let demand = demand(&[r#"Bearer error="insufficient_scope", scope="b""#]).unwrap();
        let chosen_by_server = TokenRequest::client_credentials();
        let provided =
            TokenRequest::client_credentials().parameter("scope", crate::Credential::env("SCOPE"));
        for (base, granted, expected) in [
            (&chosen_by_server, None, None),
            (&chosen_by_server, Some("a"), Some("a b")),
            (&chosen_by_server, Some("b"), None),
            (&provided, None, None),
            (&provided, Some("a"), None),
        ] {
            let request = demand.met_by(base, base, granted, None);
            assert_eq!(request.known("scope"), expected, "{base:?} {granted:?}");
            assert_eq!(request == *base, expected.is_none(), "{base:?} {granted:?}");
        }
    }

    /// Their values are merged with those of the challenge.
    #[test]
    fn a_secret_scope_or_claim_stays_a_secret() {
        let secret = |text: &str| crate::Credential::fixed(text);
        let base = TokenRequest::client_credentials()
            .parameter("scope", secret("a"))
            .parameter("claims", secret("{}"));
        let claims = BASE64_STANDARD.encode(NBF);
        let demand = demand(&[
            r#"Bearer error="insufficient_scope", scope="b""#,
            &format!(r#"Bearer error="insufficient_claims", claims="{claims}""#),
        ]);
        let request = demand.unwrap().met_by(&base, &base, None, None);
        assert_eq!(request.known("scope"), Some("a b"));
        assert_eq!(request.known("claims"), Some(NBF));
        assert_eq!(request.get_scope(), None);
        assert_eq!(request.get_parameter("claims"), None);
    }

    #[test]
    fn only_allowed_words_are_requested() {
        let base = TokenRequest::client_credentials().scope("a");
        let demand = demand(&[r#"Bearer error="insufficient_scope", scope="admin b""#]).unwrap();
        for (allowed, expected) in [("b c", "a b"), ("c", "a"), ("", "a")] {
            let request = demand.met_by(&base, &base, None, Some(&allowed.into()));
            assert_eq!(request.known("scope"), Some(expected));
        }
    }

    #[test]
    fn grants_limit_what_is_requested() {
        let fields = [
            r#"Bearer error="insufficient_scope", scope="b""#,
            r#"Bearer error="insufficient_user_authentication", acr_values="x", max_age="60""#,
        ];
        let [user, machine] = [[Some("x"), Some("60")], [None, None]];
        for (base, [acr_values, max_age], scope) in [
            (TokenRequest::client_credentials(), machine, "a b"),
            (TokenRequest::jwt_bearer("assertion"), user, "a b"),
            (
                TokenRequest::token_exchange(
                    "token",
                    "urn:ietf:params:oauth:token-type:access_token",
                ),
                user,
                "a b",
            ),
            (TokenRequest::extension("urn:example:badge"), user, "a b"),
            // They are sent only once.
            (TokenRequest::refresh_token("token"), machine, "a"),
            (
                TokenRequest::authorization_code("code", "https://app.example/cb"),
                machine,
                "a",
            ),
            (TokenRequest::device_code("code"), machine, "a"),
            (TokenRequest::ciba("id"), machine, "a"),
        ] {
            let expected = [Some(scope), None, acr_values, max_age].map(|it| it.map(Into::into));
            assert_eq!(asked(&base.scope("a"), &fields), expected);
        }
    }

    #[test]
    fn user_authentication_never_becomes_older() {
        let base = TokenRequest::jwt_bearer("assertion").parameter("max_age", "60");
        for (max_age, expected) in [("30", "30"), ("60", "60"), ("90", "60")] {
            let challenge =
                format!("Bearer error=insufficient_user_authentication, max_age={max_age}");
            assert_eq!(asked(&base, &[&challenge])[3].as_deref(), Some(expected));
        }
    }
}
