//! Decides whether a response refuses the access token. Pure.

use std::sync::Arc;

use http::{
    Extensions, HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, PROXY_AUTHENTICATE, WWW_AUTHENTICATE},
    response::Parts,
};

use super::{
    AccessTokenRefused, headers,
    step_up::{StepUpRules, StrongerTokens},
    www_authenticate::{self, ChallengeSays},
};
use crate::{
    dpop,
    token_cache::{SentToken, TokenSource},
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const UNAUTHENTICATED: &[u8] = b"16";

/// What a layer counts as a refusal, if it is not the default.
#[derive(Clone)]
pub(super) struct RefusalRules {
    /// Whether the token is for a proxy, which has a status and a header of its own.
    pub(super) is_for_proxy: bool,
    pub(super) has_built_in_rules: bool,
    pub(super) refused_when: Vec<RefusedWhen>,
    pub(super) resends_even_if_processed: bool,
    /// Which challenges that demand a stronger token are answered. `None` is none.
    pub(super) step_up: Option<StepUpRules>,
}

/// Says whether a response refuses the token.
pub(super) type RefusedWhen = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

static DEFAULT: RefusalRules = RefusalRules {
    is_for_proxy: false,
    has_built_in_rules: true,
    refused_when: Vec::new(),
    resends_even_if_processed: false,
    step_up: None,
};

impl RefusalRules {
    /// Whether gRPC trailers refuse the token. `status` is that of the response.
    fn refuses_in_trailers(&self, status: StatusCode, trailers: &mut HeaderMap) -> bool {
        if self.has_built_in_rules && !self.is_for_proxy && is_unauthenticated(trailers) {
            return true;
        }
        if self.refused_when.is_empty() {
            return false;
        }
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = status;
        std::mem::swap(&mut head.headers, trailers);
        let is_refusal = self.refused_when.iter().any(|refuses| refuses(&head));
        std::mem::swap(&mut head.headers, trailers);
        is_refusal
    }

    /// Returns the source of the token that a response demands, if it may be requested.
    pub(super) fn stronger_source(&self, head: &Parts, sent: &SentToken) -> Option<TokenSource> {
        let step_up = self.step_up.as_ref()?;
        step_up.answer(head, self.challenge_header(), sent)
    }

    pub(super) fn stronger_tokens(&self) -> Option<&StrongerTokens> {
        Some(&self.step_up.as_ref()?.tokens)
    }

    /// Whether a refusal is resent. Any response except an error that blames the client may come after the request was carried out.
    fn may_resend(&self, head: &Parts) -> bool {
        self.resends_even_if_processed || head.status.is_client_error() || is_grpc_error(head)
    }

    fn refuses_token(&self, head: &Parts) -> bool {
        is_marked(&head.extensions)
            || (self.has_built_in_rules && self.refuses_by_built_in_rules(head))
            || self.refused_when.iter().any(|refuses| refuses(head))
    }

    fn refuses_by_built_in_rules(&self, head: &Parts) -> bool {
        if head.status == self.challenge_status() {
            return match ChallengeSays::of(head.headers.get_all(self.challenge_header())) {
                ChallengeSays::InvalidToken | ChallengeSays::Nothing => true,
                ChallengeSays::OtherError => false,
            };
        }
        if head.status.is_client_error() {
            let challenges = head.headers.get_all(self.challenge_header());
            return ChallengeSays::of(challenges) == ChallengeSays::InvalidToken;
        }
        !self.is_for_proxy
            && head.status == StatusCode::OK
            && is_grpc_unauthenticated(&head.headers)
    }

    fn challenge_status(&self) -> StatusCode {
        match self.is_for_proxy {
            true => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            false => StatusCode::UNAUTHORIZED,
        }
    }

    fn challenge_header(&self) -> HeaderName {
        match self.is_for_proxy {
            true => PROXY_AUTHENTICATE,
            false => WWW_AUTHENTICATE,
        }
    }

    /// Whether a response demands a proof with the nonce that it carries (RFC 9449 §9).
    ///
    /// Some servers say so only in the body, or report the proof as invalid. Others send another nonce with every response, including the
    /// refusal of a token. So the nonce alone is a demand only if the next answer can tell both apart.
    fn demands_nonce(&self, head: &Parts, proof: &SentNonce) -> bool {
        let sent = proof.nonce.as_deref();
        let is_new = dpop::nonce(&head.headers).is_some_and(|nonce| sent != Some(nonce));
        if !is_new || head.status != self.challenge_status() {
            return false;
        }
        match proof.resend {
            NonceResend::Possible => true,
            NonceResend::Done => false,
            NonceResend::Impossible => {
                let challenges = head.headers.get_all(self.challenge_header());
                sent.is_none() || www_authenticate::is_about_proof(challenges)
            }
        }
    }
}

impl Default for RefusalRules {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

/// Rules out most responses cheaply, if the rules are the default.
#[inline]
pub(super) fn may_refuse_token<B>(response: &Response<B>) -> bool {
    let status = response.status();
    status.is_client_error()
        || (status == StatusCode::OK && headers::contains(response.headers(), &GRPC_STATUS))
        || (!response.extensions().is_empty() && is_marked(response.extensions()))
}

/// What a response objects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// It refuses the access token.
    Token,
    /// The response demands a proof that contains the nonce in its header.
    Nonce,
    /// The response demands a stronger token.
    Weakness,
}

/// The nonce of the proof that a request was sent with.
#[derive(Clone, Debug)]
pub(super) struct SentNonce {
    /// `None` if the proof had none.
    pub(super) nonce: Option<Arc<str>>,
    pub(super) resend: NonceResend,
}

impl SentNonce {
    pub(super) fn without_resend(self) -> Self {
        let resend = NonceResend::Impossible;
        Self { resend, ..self }
    }
}

/// Whether a request can be resent with another nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NonceResend {
    Possible,
    Impossible,
    Done,
}

/// What a response objects to in its request. `proof` is `None` if the request had no proof.
pub(super) fn objection(
    rules: Option<&RefusalRules>,
    head: &Parts,
    proof: Option<&SentNonce>,
) -> Option<Objection> {
    let rules = rules.unwrap_or(&DEFAULT);
    // The demand counts first: a server that accepts both kinds of tokens may add that it saw no bearer token.
    if proof.is_some_and(|proof| rules.demands_nonce(head, proof)) {
        Some(Objection::Nonce)
    } else if rules.refuses_token(head) {
        Some(Objection::Token)
    } else {
        None
    }
}

/// Whether a refused request may be resent.
pub(super) fn may_resend(rules: Option<&RefusalRules>, head: &Parts) -> bool {
    rules.unwrap_or(&DEFAULT).may_resend(head)
}

/// Whether the trailers of a gRPC response refuse the token.
pub(super) fn refuses_in_trailers(
    rules: Option<&RefusalRules>,
    status: StatusCode,
    trailers: &mut HeaderMap,
) -> bool {
    let rules = rules.unwrap_or(&DEFAULT);
    rules.refuses_in_trailers(status, trailers)
}

/// Marks a response that refused the token.
pub(super) fn mark(extensions: &mut Extensions) {
    extensions.insert(AccessTokenRefused);
    extensions.insert(MarkedByLayer);
}

/// Tells the mark of another layer, which is about the token of that layer, from the mark of a service.
#[derive(Clone, Copy)]
struct MarkedByLayer;

#[inline(never)]
fn is_marked(extensions: &Extensions) -> bool {
    extensions.get::<AccessTokenRefused>().is_some() && extensions.get::<MarkedByLayer>().is_none()
}

/// A gRPC response has status 200 even if it refuses the token. Without a body it carries its trailers as headers.
fn is_grpc_unauthenticated(headers: &HeaderMap) -> bool {
    is_unauthenticated(headers) && is_grpc(headers)
}

/// Whether the head of a response with the status 200 has a gRPC error. Who sends it need not have looked at the token.
pub(super) fn is_grpc_error(head: &Parts) -> bool {
    let status = head.headers.get(GRPC_STATUS);
    head.status == StatusCode::OK
        && is_grpc(&head.headers)
        && status.is_some_and(|status| status != "0")
}

/// Whether headers or trailers have the gRPC status `UNAUTHENTICATED`.
fn is_unauthenticated(headers: &HeaderMap) -> bool {
    headers
        .get(GRPC_STATUS)
        .is_some_and(|status| status == UNAUTHENTICATED)
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn head(status: u16, headers: &[(&str, &str)]) -> Parts {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            // Latin 1, as some servers send it.
            let value: Vec<_> = value.chars().map(|c| c as u8).collect();
            response = response.header(*name, HeaderValue::from_bytes(&value).unwrap());
        }
        response.body(()).unwrap().into_parts().0
    }

    fn challenged(status: u16, challenges: &[&str]) -> Parts {
        let headers: Vec<_> = challenges
            .iter()
            .map(|it| (WWW_AUTHENTICATE.as_str(), *it))
            .collect();
        head(status, &headers)
    }

    fn refuses(rules: Option<&RefusalRules>, head: &Parts) -> bool {
        objection(rules, head, None) == Some(Objection::Token)
    }

    #[test]
    fn a_401_refuses_the_token_unless_its_error_would_remain_with_another_token() {
        for (challenges, expected) in [
            // Gateways, the API server of Kubernetes, GitHub, REST APIs of the API Gateway of AWS.
            (&[][..], true),
            (&[""], true),
            (&["Bearer"], true),
            (&["Bearer realm=\"api\""], true),
            (&["Basic realm=\"x\""], true),
            (&["Basic realm=\"Bearer\""], true),
            (&["Negotiate"], true),
            (&["Negotiate a87421000492aa874209af8bc028==, Bearer"], true),
            (&["\"Bearer\""], true),
            (&["Bearer realm=\"caf\u{e9}\""], true),
            (&["Bearer error=\"something else\""], true),
            (&["Bearer error=\"\""], true),
            // `invalid_token`, however it is written.
            (&["Bearer error=\"invalid_token\""], true),
            (&["Bearer error='invalid_token'"], true),
            (&["Bearer error=\"Invalid_Token\""], true),
            (
                &["bEaReR realm=\"a, Basic b\", ERROR = invalid_token"],
                true,
            ),
            (
                &["Bearer realm=\"a \\\" error=\\\"x\", error=\"invalid_token\""],
                true,
            ),
            (&["DPoP algs=\"ES256\", error=\"invalid_token\""], true),
            (&[", ,Bearer ,realm=\"x\" , error=\"invalid_token\""], true),
            (&["Bearer error=\"invalid_token"], true),
            (&["Bearer error=\"invalid_token\", DPoP"], true),
            (&["Basic realm=\"x\", Bearer error=\"invalid_token\""], true),
            (
                &["Basic realm=\"x\"", "Bearer error=\"invalid_token\""],
                true,
            ),
            // It counts whatever stands beside it.
            (
                &[
                    "Bearer error=\"insufficient_scope\"",
                    "DPoP error=\"invalid_token\"",
                ],
                true,
            ),
            (
                &["Bearer error=\"invalid_token\", DPoP error=\"invalid_dpop_proof\""],
                true,
            ),
            (
                &["Bearer error='insufficient_scope', error='invalid_token'"],
                true,
            ),
            // Errors that another token would not change.
            (
                &["Bearer error=\"insufficient_scope\", scope=\"a b\""],
                false,
            ),
            (&["Bearer scope=\"a b\", ERROR='Insufficient_Scope'"], false),
            (
                &["Bearer error=\"insufficient_scope\", DPoP algs=\"ES256\""],
                false,
            ),
            (&["Bearer", "OAuth error=insufficient_scope"], false),
            (
                &["Bearer error=\"insufficient_user_authentication\", acr_values=\"mfa\""],
                false,
            ),
            (&["Bearer error=\"invalid_request\""], false),
            (&["DPoP error=\"invalid_dpop_proof\""], false),
            (&["Bearer, DPoP error=\"invalid_dpop_proof\""], false),
            (
                &["DPoP error=\"use_dpop_nonce\", error_description=\"x\""],
                false,
            ),
            (&["DPoP error=\"use_dpop_nonce\"", "Bearer"], false),
            (&["Bearer error=\"use_dpop_nonce\""], false),
            (&["OAuth error=\"use_dpop_nonce\""], false),
            (&["Bearer error=\"invalid_dpop_proof\""], false),
            (
                &["Bearer error=\"insufficient_scope\", error_description=\"no 'invalid_token'\""],
                false,
            ),
        ] {
            let head = challenged(401, challenges);
            assert_eq!(refuses(None, &head), expected, "{challenges:?}");
        }
    }

    /// Taken from their documentation, their tests, and reports of their users.
    #[test]
    fn refusals_of_real_products_are_recognized() {
        const CHALLENGE: &str = "www-authenticate";
        for (product, status, headers, expected) in [
            (
                "WSO2 API Manager",
                401,
                &[(
                    CHALLENGE,
                    r#"OAuth2 realm="WSO2 API Manager", error="invalid_token", error_description="The access token expired""#,
                )][..],
                true,
            ),
            ("Salesforce", 401, &[(CHALLENGE, "Token")], true),
            ("Django REST framework", 401, &[(CHALLENGE, "Token")], true),
            (
                "Django OAuth Toolkit",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="api",error="invalid_token",error_description="The access token has expired.""#,
                )],
                true,
            ),
            (
                "Box",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="Service", error="invalid_token", error_description="The access token provided is invalid.""#,
                )],
                true,
            ),
            (
                "OneDrive",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="OneDriveAPI", error="expired_token", error_description="Auth token expired. Try refreshing.""#,
                )],
                true,
            ),
            (
                "keystonemiddleware",
                401,
                &[(CHALLENGE, r#"Keystone uri="https://keystone.example/v3""#)],
                true,
            ),
            (
                "keystonemiddleware, formerly",
                401,
                &[(CHALLENGE, "Keystone uri='http://127.0.0.1:35357'")],
                true,
            ),
            (
                "OpenStack Swift",
                401,
                &[(CHALLENGE, r#"Swift realm="AUTH_project""#)],
                true,
            ),
            (
                "LemonLDAP::NG",
                401,
                &[(CHALLENGE, "SSO https://auth.example.com/")],
                true,
            ),
            (
                "Azure Resource Manager",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer authorization_uri="https://login.windows.net/common", error="invalid_token", error_description="The access token is from the wrong issuer.""#,
                )],
                true,
            ),
            (
                "Entra ID, continuous access evaluation",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer authorization_uri="https://login.windows.net/common/oauth2/authorize", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnt9fQ==""#,
                )],
                false,
            ),
            (
                "Microsoft Graph, InvalidAuthenticationToken",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000""#,
                )],
                true,
            ),
            (
                "Azure App Service",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="app.example" authorization_uri="https://login.windows.net/common/oauth2/authorize" resource_id="67ff3941""#,
                )],
                true,
            ),
            (
                "Spring Security",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer error="invalid_token", error_description="Jwt expired at 2024-01-01T00:00:00Z", error_uri="https://tools.ietf.org/html/rfc6750#section-3.1""#,
                )],
                true,
            ),
            (
                "Spring Security, a scope is missing",
                403,
                &[(
                    CHALLENGE,
                    r#"Bearer error="insufficient_scope", error_description="The request requires higher privileges than provided by the access token.", error_uri="https://tools.ietf.org/html/rfc6750#section-3.1""#,
                )],
                false,
            ),
            (
                "Envoy, jwt_authn",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="https://api.example/items", error="invalid_token""#,
                )],
                true,
            ),
            (
                "Kong, oauth2",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="service" error="invalid_token" error_description="The access token is invalid or has expired""#,
                )],
                true,
            ),
            (
                "Kong, oidc",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="kong",error="validation failed""#,
                )],
                true,
            ),
            (
                "AWS API Gateway, REST",
                401,
                &[("x-amzn-errortype", "UnauthorizedException")],
                true,
            ),
            (
                "AWS API Gateway, HTTP",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer scope="" error="invalid_token" error_description="the token has expired""#,
                )],
                true,
            ),
            (
                "AWS API Gateway, no permission",
                403,
                &[("x-amzn-errortype", "ForbiddenException")],
                false,
            ),
            (
                "GitHub",
                401,
                &[("x-github-media-type", "github.v3; format=json")],
                true,
            ),
            (
                "GitHub, the rate limit is exceeded",
                403,
                &[("x-ratelimit-remaining", "0")],
                false,
            ),
            ("Kubernetes", 401, &[("audit-id", "9c0b")], true),
            (
                "Docker registry, no token",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#,
                )],
                true,
            ),
            (
                "Docker registry, expired",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull",error="invalid_token""#,
                )],
                true,
            ),
            (
                "Docker registry, another repository",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:push",error="insufficient_scope""#,
                )],
                false,
            ),
            (
                "Doorkeeper",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="Doorkeeper", error="invalid_token", error_description="The access token was revoked""#,
                )],
                true,
            ),
            (
                "Google",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer realm="https://accounts.google.com/", error="invalid_token""#,
                )],
                true,
            ),
            (
                "Facebook",
                400,
                &[(
                    CHALLENGE,
                    r#"OAuth "Facebook Platform" "invalid_token" "Error validating access token: Session has expired""#,
                )],
                true,
            ),
            (
                "Facebook, a limit is reached",
                403,
                &[(
                    CHALLENGE,
                    r#"OAuth "Facebook Platform" "invalid_request" "(#4) Application request limit reached""#,
                )],
                false,
            ),
            (
                "dadi",
                401,
                &[(
                    CHALLENGE,
                    r#"Bearer, error="invalid_token", error_description="Invalid or expired access token""#,
                )],
                true,
            ),
            (
                "ServiceNow",
                401,
                &[
                    (CHALLENGE, r#"BEARER realm="instance""#),
                    (CHALLENGE, r#"BASIC realm="instance""#),
                ],
                true,
            ),
            (
                "Elasticsearch",
                401,
                &[
                    (
                        CHALLENGE,
                        r#"Bearer realm="security", error="invalid_token", error_description="The access token expired""#,
                    ),
                    (CHALLENGE, "ApiKey"),
                    (CHALLENGE, r#"Basic realm="security" charset="UTF-8""#),
                ],
                true,
            ),
            (
                "Mastodon, no error in the challenge",
                401,
                &[("content-type", "application/json")],
                true,
            ),
        ] {
            assert_eq!(refuses(None, &head(status, headers)), expected, "{product}");
        }
    }

    #[test]
    fn invalid_token_counts_on_any_4xx_and_nothing_else_does() {
        for challenge in [
            "Bearer error=\"invalid_token\"",
            "error = 'INVALID_TOKEN', Bearer",
            "OAuth realm=\"x error=\"invalid_token\"",
            "{\"error\":\"invalid_token\"}",
            "Bearer error: invalid_token",
            "Bearer error=\\\"invalid_token\\\"",
        ] {
            for status in [400, 403, 404, 419, 428, 498] {
                let head = challenged(status, &["Basic realm=\"x\"", challenge]);
                assert!(refuses(None, &head), "{status} {challenge}");
            }
            for status in [200, 301, 500, 503] {
                assert!(
                    !refuses(None, &challenged(status, &[challenge])),
                    "{status}"
                );
            }
        }
        for challenge in [
            "",
            "Bearer",
            "Bearer error=\"expired_token\"",
            "Bearer realm=\"invalid_token\"",
        ] {
            for status in [200, 400, 403, 404, 407, 419, 498, 500] {
                let head = challenged(status, &[challenge]);
                assert!(!refuses(None, &head), "{status} {challenge}");
            }
        }
    }

    #[test]
    fn a_proxy_refuses_with_its_own_status_and_header() {
        let rules = RefusalRules {
            is_for_proxy: true,
            ..RefusalRules::default()
        };
        let invalid = "Bearer error=\"invalid_token\"";
        for (status, header, value, expected) in [
            (407, "x", "y", true),
            (407, "proxy-authenticate", invalid, true),
            (
                407,
                "proxy-authenticate",
                "Bearer error=insufficient_scope",
                false,
            ),
            (
                407,
                "www-authenticate",
                "Bearer error=insufficient_scope",
                true,
            ),
            (403, "proxy-authenticate", invalid, true),
            (403, "www-authenticate", invalid, false),
            (401, "x", "y", false),
            (401, "www-authenticate", invalid, false),
            (502, "proxy-authenticate", invalid, false),
        ] {
            let head = head(status, &[(header, value)]);
            assert_eq!(
                refuses(Some(&rules), &head),
                expected,
                "{status} {header} {value}"
            );
        }
        let grpc = head(
            200,
            &[("content-type", "application/grpc"), ("grpc-status", "16")],
        );
        assert!(!refuses(Some(&rules), &grpc));
    }

    #[test]
    fn grpc_status_16_refuses_the_token() {
        for (content_type, grpc_status, expected) in [
            ("application/grpc", "16", true),
            ("application/grpc+proto", "16", true),
            ("application/grpc", "7", false),
            ("application/grpc", "0", false),
            ("application/json", "16", false),
        ] {
            let head = head(
                200,
                &[("content-type", content_type), ("grpc-status", grpc_status)],
            );
            assert_eq!(
                refuses(None, &head),
                expected,
                "{content_type} {grpc_status}"
            );
        }
    }

    #[test]
    fn a_mark_counts_unless_another_layer_has_set_it() {
        for status in [200, 302, 403, 500] {
            let mut marked = head(status, &[]);
            marked.extensions.insert(AccessTokenRefused);
            assert!(refuses(None, &marked), "{status}");
            mark(&mut marked.extensions);
            assert!(!refuses(None, &marked), "{status}");
        }
    }

    #[test]
    fn a_refusal_is_resent_only_if_nothing_was_carried_out() {
        let grpc = [("content-type", "application/grpc"), ("grpc-status", "7")];
        let grpc_ok = [("content-type", "application/grpc"), ("grpc-status", "0")];
        for (head, expected) in [
            (head(401, &[]), true),
            (head(498, &[]), true),
            (head(200, &grpc), true),
            (head(200, &grpc_ok), false),
            (head(200, &[("grpc-status", "7")]), false),
            (head(200, &[("content-type", "application/grpc")]), false),
            (head(200, &[]), false),
            (head(302, &[]), false),
            (head(500, &[]), false),
        ] {
            assert_eq!(may_resend(None, &head), expected, "{head:?}");
            let rules = RefusalRules {
                resends_even_if_processed: true,
                ..RefusalRules::default()
            };
            assert!(may_resend(Some(&rules), &head));
        }
    }

    #[test]
    fn a_new_nonce_is_a_demand_once() {
        use NonceResend::{Done, Impossible, Possible};
        use Objection::{Nonce, Token};
        const DEMAND: &str = "DPoP error=\"use_dpop_nonce\"";
        const BAD_PROOF: &str = "DPoP error=\"invalid_dpop_proof\"";
        const INVALID: &str = "DPoP error=\"invalid_token\"";
        for (challenge, sent, resend, expected) in [
            // The first answer: whatever the challenge says.
            (DEMAND, None, Possible, Some(Nonce)),
            (BAD_PROOF, None, Possible, Some(Nonce)),
            (INVALID, None, Possible, Some(Nonce)),
            ("", None, Possible, Some(Nonce)),
            ("", Some("old"), Possible, Some(Nonce)),
            (INVALID, Some("old"), Possible, Some(Nonce)),
            (BAD_PROOF, Some("old"), Possible, Some(Nonce)),
            // The second answer: without regard to the nonce.
            (DEMAND, Some("old"), Done, None),
            (BAD_PROOF, Some("old"), Done, None),
            (INVALID, Some("old"), Done, Some(Token)),
            ("", Some("old"), Done, Some(Token)),
            (
                "Bearer error=\"insufficient_scope\"",
                Some("old"),
                Done,
                None,
            ),
            // There will be no second answer. A server that changes the nonce with each response can still refuse the token.
            ("", None, Impossible, Some(Nonce)),
            (INVALID, None, Impossible, Some(Nonce)),
            (DEMAND, Some("old"), Impossible, Some(Nonce)),
            (BAD_PROOF, Some("old"), Impossible, Some(Nonce)),
            (
                "Bearer error=\"use_dpop_nonce\"",
                Some("old"),
                Impossible,
                Some(Nonce),
            ),
            (
                "OAuth error=\"INVALID_DPOP_PROOF\"",
                Some("old"),
                Impossible,
                Some(Nonce),
            ),
            (INVALID, Some("old"), Impossible, Some(Token)),
            ("", Some("old"), Impossible, Some(Token)),
            // The nonce is not new.
            (INVALID, Some("new"), Possible, Some(Token)),
            ("", Some("new"), Possible, Some(Token)),
            (DEMAND, Some("new"), Possible, None),
            (BAD_PROOF, Some("new"), Possible, None),
        ] {
            let proof = SentNonce {
                nonce: sent.map(Into::into),
                resend,
            };
            let headers = [("dpop-nonce", "new"), ("www-authenticate", challenge)];
            let found = objection(None, &head(401, &headers), Some(&proof));
            assert_eq!(found, expected, "{challenge} {proof:?}");
            // A request with a bearer token has no proof to improve.
            let bearer = refuses(None, &head(401, &headers));
            assert_eq!(bearer, matches!(challenge, INVALID | ""), "{challenge}");
        }
        let proof = SentNonce {
            nonce: None,
            resend: Possible,
        };
        for (status, nonce) in [(401, "not a nonce"), (400, "new"), (200, "new")] {
            let head = head(status, &[("dpop-nonce", nonce)]);
            assert_ne!(
                objection(None, &head, Some(&proof)),
                Some(Nonce),
                "{status}"
            );
        }
    }

    #[test]
    fn functions_of_the_user_add_to_the_rules_or_replace_them() {
        let on = |status: u16| -> RefusedWhen { Arc::new(move |head| head.status == status) };
        let adding = RefusalRules {
            refused_when: vec![on(403), on(419)],
            ..RefusalRules::default()
        };
        let replacing = RefusalRules {
            has_built_in_rules: false,
            ..adding.clone()
        };
        for (status, by_adding, by_replacing) in [
            (401, true, false),
            (403, true, true),
            (419, true, true),
            (404, false, false),
        ] {
            let head = head(status, &[]);
            assert_eq!(refuses(Some(&adding), &head), by_adding, "{status}");
            assert_eq!(refuses(Some(&replacing), &head), by_replacing, "{status}");
        }
    }

    #[test]
    fn trailers_are_judged_and_stay_as_they_are() {
        let permission_denied: RefusedWhen = Arc::new(|head| {
            head.headers
                .get(GRPC_STATUS)
                .is_some_and(|status| status == "7")
        });
        let rules = RefusalRules {
            refused_when: vec![permission_denied],
            ..RefusalRules::default()
        };
        for (grpc_status, by_default, by_function) in
            [("16", true, true), ("7", false, true), ("0", false, false)]
        {
            let value = HeaderValue::from_static(grpc_status);
            let mut trailers = HeaderMap::from_iter([(GRPC_STATUS, value)]);
            let before = trailers.clone();
            for (rules, expected) in [(None, by_default), (Some(&rules), by_function)] {
                let found = refuses_in_trailers(rules, StatusCode::OK, &mut trailers);
                assert_eq!(found, expected, "{grpc_status}");
                assert_eq!(trailers, before);
            }
        }
    }

    #[test]
    fn functions_of_the_user_judge_trailers_by_the_status_of_their_response() {
        let on = |status: u16| -> RefusedWhen { Arc::new(move |head| head.status == status) };
        let rules = |has_built_in_rules, is_for_proxy| RefusalRules {
            step_up: None,
            has_built_in_rules,
            is_for_proxy,
            refused_when: vec![on(206), on(207)],
            resends_even_if_processed: false,
        };
        for (has_built_in_rules, is_for_proxy, status, grpc_status, expected) in [
            (true, false, 200, "16", true),
            (true, false, 200, "7", false),
            (true, false, 206, "7", true),
            (true, false, 207, "7", true),
            // The rules for gRPC are built in, and do not hold for proxies.
            (false, false, 200, "16", false),
            (true, true, 200, "16", false),
            (false, true, 200, "16", false),
            (false, true, 207, "16", true),
        ] {
            let value = HeaderValue::from_static(grpc_status);
            let mut trailers = HeaderMap::from_iter([(GRPC_STATUS, value)]);
            let rules = rules(has_built_in_rules, is_for_proxy);
            let status = StatusCode::from_u16(status).unwrap();
            let found = refuses_in_trailers(Some(&rules), status, &mut trailers);
            assert_eq!(found, expected, "{status} {grpc_status}");
        }
    }
}
