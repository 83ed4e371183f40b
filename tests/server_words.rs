//! Errors in the server's own words: what is shown of them, and that no secret of the request is.
#![cfg(all(feature = "dpop", feature = "jwt"))]

mod support;

use std::convert::Infallible;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{Request, Response, Uri, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower::{ServiceExt, service_fn};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, DpopKey, RevocationEndpoint, RevocationRequest,
    TokenEndpoint, TokenError, TokenErrorKind, TokenRequest,
    jwt::{SigningAlgorithm, SigningKey},
};

use self::support::{Recorder, URI, answer};

async fn fetch(status: u16, body: impl Into<Bytes>) -> TokenError {
    fetch_as(status, "application/json", body).await
}

async fn fetch_as(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> TokenError {
    let body = body.into();
    let recorder = Recorder::new(move |_| {
        let mut response = answer(status, body.clone())?;
        let content_type = content_type.parse().unwrap();
        response.headers_mut().insert("content-type", content_type);
        Ok(response)
    });
    recorder
        .endpoint(ClientAuthentication::client_secret_basic(
            "client",
            "hunter2hunter2",
        ))
        .oneshot(TokenRequest::client_credentials())
        .await
        .unwrap_err()
}

/// The errors of real servers. `OAuth: ` says that there is an `ErrorResponse`.
#[tokio::test]
async fn the_words_of_real_servers_are_shown() {
    for (status, body, expected) in [
        // Okta
        (
            401,
            r#"{"errorCode":"E0000004","errorSummary":"Authentication failed","errorLink":"E0000004","errorId":"oae1","errorCauses":[]}"#,
            "E0000004 (Authentication failed)",
        ),
        (
            401,
            r#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id' parameter."}"#,
            "OAuth: invalid_client (Invalid value for 'client_id' parameter.)",
        ),
        // Google
        (
            401,
            r#"{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED"}}"#,
            "UNAUTHENTICATED (Request had invalid authentication credentials.)",
        ),
        // Apigee, old and new
        (
            401,
            r#"{"ErrorCode":"invalid_client","Error":"ClientId is Invalid"}"#,
            "OAuth: invalid_client (ClientId is Invalid)",
        ),
        (
            401,
            r#"{"fault":{"faultstring":"Invalid client identifier","detail":{"errorcode":"oauth.v2.InvalidClientIdentifier"}}}"#,
            "oauth.v2.InvalidClientIdentifier (Invalid client identifier)",
        ),
        // AWS: API Gateway, Cognito, STS
        (403, r#"{"message":"Forbidden"}"#, "Forbidden"),
        (
            403,
            r#"{"Message":"User is not authorized"}"#,
            "User is not authorized",
        ),
        (
            400,
            r#"{"__type":"NotAuthorizedException","message":"Refresh Token has been revoked"}"#,
            "NotAuthorizedException (Refresh Token has been revoked)",
        ),
        (
            403,
            r#"{"Error":{"Code":"InvalidIdentityToken","Message":"No provider","Type":"Sender"},"RequestId":"7"}"#,
            "InvalidIdentityToken (No provider)",
        ),
        // Azure: Entra ID, API Management
        (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}"#,
            "OAuth: invalid_client (AADSTS7000215: Invalid client secret provided.)",
        ),
        (
            401,
            r#"{"statusCode":401,"message":"Access denied due to missing subscription key."}"#,
            "Access denied due to missing subscription key.",
        ),
        // Auth0
        (
            401,
            r#"{"statusCode":401,"error":"Unauthorized","message":"Invalid token"}"#,
            "Unauthorized (Invalid token)",
        ),
        (
            401,
            r#"{"error":"access_denied","error_description":"Unauthorized"}"#,
            "OAuth: access_denied (Unauthorized)",
        ),
        (
            401,
            r#"{"error":{"message":"Your session has ended.","type":"invalid_request_error","param":null,"code":"refresh_token_invalidated"}}"#,
            "refresh_token_invalidated (Your session has ended.)",
        ),
        // Spring
        (
            500,
            r#"{"timestamp":"2024-01-01T00:00:00Z","status":500,"error":"Internal Server Error","path":"/oauth2/token"}"#,
            "Internal Server Error",
        ),
        (
            401,
            r#"{"timestamp":1,"status":401,"error":"Unauthorized","message":"Full authentication is required"}"#,
            "Unauthorized (Full authentication is required)",
        ),
        (
            401,
            r#"{"error":"unauthorized","error_description":"Bad credentials"}"#,
            "OAuth: unauthorized (Bad credentials)",
        ),
        // Keycloak
        (
            401,
            r#"{"error":"HTTP 401 Unauthorized"}"#,
            "HTTP 401 Unauthorized",
        ),
        (
            400,
            r#"{"error":"unknown_error","error_description":"For more on this error consult the server log."}"#,
            "OAuth: unknown_error (For more on this error consult the server log.)",
        ),
        (
            400,
            r#"{"errorMessage":"Realm does not exist"}"#,
            "Realm does not exist",
        ),
        // Zitadel and other gateways of gRPC
        (
            400,
            r#"{"code":3,"message":"Errors.User.NotFound","details":[{"@type":"x","id":"y"}]}"#,
            "3 (Errors.User.NotFound)",
        ),
        // WSO2
        (
            401,
            r#"{"fault":{"code":900901,"message":"Invalid Credentials","description":"Access failure"}}"#,
            "900901 (Invalid Credentials)",
        ),
        // Salesforce
        (
            401,
            r#"[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]"#,
            "INVALID_SESSION_ID (Session expired or invalid)",
        ),
        // PayPal
        (
            401,
            r#"{"name":"AUTHENTICATION_FAILURE","message":"Authentication failed due to missing header.","links":[]}"#,
            "AUTHENTICATION_FAILURE (Authentication failed due to missing header.)",
        ),
        // eBay
        (
            401,
            r#"{"errors":[{"errorId":1001,"domain":"OAuth","category":"REQUEST","message":"Invalid","longMessage":"Invalid access token."}]}"#,
            "1001 (Invalid access token.)",
        ),
        // Strava
        (
            400,
            r#"{"message":"Bad Request","errors":[{"resource":"Application","field":"client_id","code":"invalid"}]}"#,
            "Application client_id invalid (Bad Request)",
        ),
        // Slack, casdoor, WeChat, Lark, TikTok: with a status of success
        (
            200,
            r#"{"ok":false,"error":"invalid_client_id"}"#,
            "OAuth: invalid_client_id",
        ),
        (
            200,
            r#"{"status":"error","msg":"client_secret is wrong","data":null}"#,
            "error (client_secret is wrong)",
        ),
        (
            200,
            r#"{"errcode":40013,"errmsg":"invalid appid"}"#,
            "40013 (invalid appid)",
        ),
        (
            200,
            r#"{"code":20014,"msg":"app id invalid"}"#,
            "20014 (app id invalid)",
        ),
        (
            200,
            r#"{"message":"error","data":{"error_code":10007,"description":"code expired"}}"#,
            "10007 (error)",
        ),
        // Facebook, IBM, Supabase, Fitbit, Klarna, NestJS, Shopify, Vault, Rails, Zoom, Kubernetes, RFC 9457
        (
            400,
            r#"{"error":{"message":"Invalid verification code","type":"OAuthException","code":190,"fbtrace_id":"A"}}"#,
            "OAuthException (Invalid verification code)",
        ),
        (
            400,
            r#"{"errorCode":"BXNIM0415E","errorMessage":"Provided API key could not be found.","context":{"requestId":"7"}}"#,
            "BXNIM0415E (Provided API key could not be found.)",
        ),
        (
            400,
            r#"{"code":400,"error_code":"refresh_token_not_found","msg":"Invalid Refresh Token"}"#,
            "refresh_token_not_found (Invalid Refresh Token)",
        ),
        (
            401,
            r#"{"errors":[{"errorType":"invalid_client","message":"Invalid authorization header"}],"success":false}"#,
            "OAuth: invalid_client (Invalid authorization header)",
        ),
        (
            401,
            r#"{"error_code":"UNAUTHORIZED","error_messages":["a","b"],"correlation_id":"7"}"#,
            "UNAUTHORIZED (a; b)",
        ),
        (
            400,
            r#"{"statusCode":400,"message":["grant_type must be a string"],"error":"Bad Request"}"#,
            "Bad Request (grant_type must be a string)",
        ),
        (
            401,
            r#"{"errors":"[API] Invalid API key"}"#,
            "[API] Invalid API key",
        ),
        (
            403,
            r#"{"errors":["permission denied"]}"#,
            "permission denied",
        ),
        (
            422,
            r#"{"errors":{"client_id":["is unknown"]}}"#,
            "client_id is unknown",
        ),
        (
            400,
            r#"{"reason":"Invalid client_id or client_secret","error":"invalid_client"}"#,
            "OAuth: invalid_client (Invalid client_id or client_secret)",
        ),
        (
            401,
            r#"{"kind":"Status","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#,
            "Failure (Unauthorized)",
        ),
        (
            403,
            r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"The tenant is suspended."}"#,
            "Forbidden (The tenant is suspended.)",
        ),
        // A final code beside a status is an OAuth error.
        (
            400,
            r#"{"status":400,"error":"invalid_grant"}"#,
            "OAuth: invalid_grant",
        ),
        (400, r#"{"status":400,"error":"oops"}"#, "oops"),
        (
            400,
            r#"{"status":"400","error":"oops","message":"no"}"#,
            "oops (no)",
        ),
    ] {
        let error = fetch(status, body).await;
        let display = error.to_string();
        let (is_oauth, words) = match expected.strip_prefix("OAuth: ") {
            Some(words) => (true, words),
            None => (false, expected),
        };
        let end = format!(": {words} [status {status}, host ");
        assert!(display.contains(&end), "{body}: {display}");
        assert!(format!("{error:?}").contains(words), "{body}: {error:?}");
        assert!(!display.contains("without"), "{body}: {display}");
        assert_eq!(error.error_response().is_some(), is_oauth, "{body}");
        assert_eq!(error.own_words(), (!is_oauth).then_some(words), "{body}");
        let kind = match (is_oauth, status) {
            (true, _) => TokenErrorKind::ErrorResponse,
            (false, 200) => TokenErrorKind::InvalidResponse,
            (false, _) => TokenErrorKind::UnexpectedStatus,
        };
        assert_eq!(error.kind(), kind, "{body}");
        assert_eq!(error.is_transient(), status == 500, "{body}");
        assert_eq!(*error.raw().unwrap(), body, "{body}");
    }
}

#[tokio::test]
async fn nothing_else_of_a_response_is_shown() {
    for (status, content_type, body, end) in [
        (
            200,
            "application/json",
            r#"{"name":"Jane Doe","status":"active","description":"x"}"#,
            "returned no `access_token`",
        ),
        (
            200,
            "application/json",
            r#"{"code":0,"msg":"success","data":{"access_token":"t"}}"#,
            "returned no `access_token`",
        ),
        (
            200,
            "application/json",
            r#"{"error":"","errmsg":"ok"}"#,
            "returned no `access_token`",
        ),
        (
            200,
            "text/plain",
            "Jane Doe",
            "something other than a JSON object",
        ),
        (
            400,
            "application/json",
            r#"{"a":{"b":"Jane Doe"}}"#,
            "with an error of its own; see `TokenError::json`",
        ),
        (
            400,
            "application/json",
            r#""Jane Doe""#,
            "with a response that is not JSON; see `TokenError::raw`",
        ),
        (
            400,
            "application/json",
            "Jane Doe",
            "with a response that is not JSON; see `TokenError::raw`",
        ),
        (
            400,
            "application/json",
            "{}",
            "refused the request without giving a reason",
        ),
        (
            400,
            "application/json",
            "[]",
            "refused the request without giving a reason",
        ),
        (
            500,
            "text/html",
            "<title>Jane Doe</title>",
            "failed without giving a reason",
        ),
        (
            400,
            "text/html",
            "",
            "refused the request without giving a reason",
        ),
        (
            401,
            "text/plain",
            " ",
            "without giving a reason; check the id of the client, its secret, and that it is registered for `client_secret_basic`; for a \
             server that does not decode them, use `client_secret_basic_raw`",
        ),
        (
            400,
            "text/plain; charset=utf-8",
            " Invalid\u{1b} client\n",
            r"refused the request: Invalid\u{1b} client",
        ),
        (
            503,
            "Text/Plain",
            "no healthy upstream",
            "failed: no healthy upstream",
        ),
    ] {
        let display = fetch_as(status, content_type, body).await.to_string();
        assert!(
            display.contains(&format!("{end} [status {status}, host ")),
            "{body}: {display}"
        );
        assert!(!display.contains("Jane"), "{display}");
    }
}

#[tokio::test]
async fn the_words_are_escaped_and_cut() {
    let long = format!("a\u{1b}[31m\r\n\u{202e}{}", "b".repeat(5000));
    for body in [
        json!({ "errorCode": long }),
        json!({ "error": { "message": long } }),
        json!({ "error": long, "status": 500 }),
        json!({ "error": "invalid_grant", "message": long }),
        json!({ "errors": [long, long] }),
    ] {
        let error = fetch(400, body.to_string()).await;
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(
                !shown.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{shown}"
            );
            assert!(
                shown.contains(r"a\u{1b}[31m\r\n\u{202e}bbb") && shown.contains("..."),
                "{shown}"
            );
            assert!(shown.len() < 900, "{}", shown.len());
        }
    }
}

/// No character of it is encoded by itself in base64, JSON or HTML only.
const SENTINEL: &str = "S3NT1NEL+of/a secret=%C3%A9é&\"quoted\"";

fn grants(secret: impl Fn() -> Credential) -> Vec<TokenRequest> {
    let verifier = "S3NT1NEL".repeat(6);
    vec![
        TokenRequest::client_credentials().parameter("api_key", secret()),
        TokenRequest::client_credentials().parameter("otp", secret()),
        TokenRequest::client_credentials().header("x-api-key", "S3NT1NEL-key"),
        TokenRequest::password("joe", secret()),
        TokenRequest::authorization_code(secret(), "https://app.example/cb")
            .code_verifier(verifier),
        TokenRequest::refresh_token(secret()),
        TokenRequest::device_code(secret()),
        TokenRequest::token_exchange(secret(), "urn:x").actor_token(secret(), "urn:y"),
        TokenRequest::jwt_bearer(secret()),
        TokenRequest::saml2_bearer(secret()),
        TokenRequest::ciba(secret()),
        TokenRequest::extension("urn:x").repeated_parameter("pin", secret()),
    ]
}

fn clients(secret: impl Fn() -> Credential) -> Vec<ClientAuthentication> {
    let key = SigningKey::generate(SigningAlgorithm::ES256).unwrap();
    vec![
        ClientAuthentication::anonymous(),
        ClientAuthentication::none("client-id"),
        ClientAuthentication::tls_client_auth("client-id"),
        ClientAuthentication::client_secret_basic("client-id", secret()),
        ClientAuthentication::client_secret_basic_raw("client-id", secret()),
        ClientAuthentication::client_secret_post("client-id", secret()),
        ClientAuthentication::client_assertion("client-id", secret()),
        ClientAuthentication::saml2_client_assertion("client-id", secret()),
        ClientAuthentication::client_secret_jwt("client-id", secret(), SigningAlgorithm::HS256),
        ClientAuthentication::private_key_jwt("client-id", key),
    ]
}

fn form(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// What servers make of a text that they echo.
fn encodings(text: &str) -> Vec<String> {
    vec![
        text.to_owned(),
        form(text),
        form(text).replace('+', "%20").to_lowercase(),
        form(&form(text)),
        text.replace('&', "&amp;").replace('"', "&quot;"),
        json!({ "echo": text }).to_string(),
        BASE64_STANDARD.encode(text),
        BASE64_URL_SAFE_NO_PAD.encode(text),
        BASE64_STANDARD.encode(form(text)),
        // The beginning, or the end, is cut off.
        BASE64_STANDARD.encode(text)[1.min(text.len())..].to_owned(),
        text.chars().take(text.chars().count() * 3 / 4).collect(),
    ]
}

/// Every secret of a request, as it is and in the body and the headers that carry it.
fn secrets(request: &Request<Bytes>) -> Vec<String> {
    let body = String::from_utf8(request.body().to_vec()).unwrap();
    let values = form_urlencoded::parse(body.as_bytes()).map(|(_, value)| value.into_owned());
    let values = values.filter(|value| value.contains("S3NT1NEL") || value.starts_with("eyJ"));
    let mut secrets: Vec<_> = values.collect();
    for name in ["authorization", "dpop", "x-api-key"] {
        if let Some(value) = request.headers().get(name) {
            secrets.push(value.to_str().unwrap().to_owned());
        }
    }
    if let Some(basic) = request.headers().get(AUTHORIZATION) {
        let basic = basic.to_str().unwrap().strip_prefix("Basic ").unwrap();
        secrets.push(String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap());
    }
    if body.contains("S3NT1NEL") || body.contains("=eyJ") {
        secrets.push(body);
    }
    secrets
}

/// Each string of base64, decoded at each of its characters, and everything without the escapes of a form.
fn readable(shown: &str) -> String {
    let mut readable = shown.to_owned();
    for run in shown.split(|c: char| !c.is_ascii_alphanumeric() && !"+/-_".contains(c)) {
        let run = run.replace('-', "+").replace('_', "/");
        for skipped in 0..4.min(run.len()) {
            let run = &run[skipped..];
            let decoded = BASE64_STANDARD
                .decode(&run[..run.len() / 4 * 4])
                .unwrap_or_default();
            readable.push_str(&String::from_utf8_lossy(&decoded));
            readable.push(' ');
        }
    }
    let plain: Vec<_> = form_urlencoded::parse(readable.as_bytes())
        .flat_map(|(name, value)| [name.into_owned(), value.into_owned()])
        .collect();
    format!("{readable} {}", plain.join(" "))
}

fn check(error: &TokenError, echo: &str) {
    let response = error.error_response();
    let description = response.and_then(|error| error.description());
    let shown = format!(
        "{error} {error:?} {error:#?} {} {}",
        description.unwrap_or_default(),
        response.and_then(|error| error.uri()).unwrap_or_default(),
    );
    let readable = readable(&shown).to_lowercase();
    for part in ["s3nt1nel", "of/a secret", "eyjhbgci", "eyj0exai"] {
        assert!(!readable.contains(part), "{part} of {echo}: {shown}");
    }
    assert!(
        shown.contains("bad request of client-id: "),
        "{echo}: {shown}"
    );
}

#[tokio::test]
async fn no_secret_that_the_server_echoes_is_shown() {
    let key = DpopKey::generate().unwrap();
    let fixed = || Credential::fixed(SENTINEL);
    let provided = || Credential::from_fn(|| async { Ok::<_, Infallible>(SENTINEL) });
    let mut cases = Vec::new();
    for request in grants(fixed).into_iter().chain(grants(provided)) {
        cases.push((ClientAuthentication::none("client-id"), request));
    }
    for client in clients(fixed).into_iter().chain(clients(provided)) {
        // Without a secret of its own, so that nothing else masks that of the client.
        cases.push((client, TokenRequest::client_credentials()));
    }
    for (client, request) in cases {
        for has_key in [false, true] {
            let recorder = Recorder::new(|_| answer(400, ""));
            let mut endpoint = recorder.endpoint(client.clone());
            if has_key {
                endpoint = endpoint.dpop(key.clone());
            }
            endpoint.oneshot(request.clone()).await.unwrap_err();
            let number_of_secrets = secrets(&recorder.take_one()).len();
            for secret in 0..number_of_secrets {
                for encoding in 0..encodings("").len() {
                    {
                        let place = (secret + encoding) % 4;
                        let http = service_fn(move |request: Request<Full<Bytes>>| async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let secrets = secrets(&Request::from_parts(parts, body));
                            let echo = encodings(&secrets[secret]).remove(encoding);
                            let echo = format!("bad request of client-id: {echo}");
                            let body = match place {
                                0 => {
                                    json!({ "error": "invalid_request", "error_description": echo })
                                }
                                1 => json!({ "errorCode": "E1", "errorSummary": echo }),
                                2 => json!({ "error": { "message": echo } }),
                                _ => json!({ "error": echo, "error_uri": echo, "status": 400 }),
                            };
                            Ok::<_, BoxError>(
                                Response::builder()
                                    .status(400)
                                    .body(Full::new(Bytes::from(body.to_string())))?,
                            )
                        });
                        let uri = Uri::from_static(URI);
                        let mut endpoint = TokenEndpoint::new(http, uri, client.clone());
                        if has_key {
                            endpoint = endpoint.dpop(key.clone());
                        }
                        let error = endpoint.oneshot(request.clone()).await.unwrap_err();
                        let echo = format!("{client:?} {request:?} {secret} {encoding} {place}");
                        check(&error, &echo);
                    }
                }
            }
        }
    }
}

/// One secret at a time: another one that begins in the same way would be masked with it.
#[tokio::test]
async fn a_revoked_token_and_a_secret_in_the_uri_are_not_shown() {
    for (query, token) in [
        ("", "S3NT1NEL-token"),
        ("?key=S3NT1NEL-key", "token"),
        ("?a=b&S3NT1NEL-flag", "token"),
    ] {
        let echo = format!("bad request of client-id: POST /revoke{query} token={token}");
        let body = json!({ "error": "invalid_request", "error_description": echo });
        let http = Recorder::new(move |_| answer(400, body.to_string()));
        let uri = format!("https://as.example/revoke{query}");
        let client = ClientAuthentication::none("client-id");
        let endpoint = RevocationEndpoint::new(http, uri, client);
        let request = RevocationRequest::new(token);
        check(&endpoint.oneshot(request).await.unwrap_err(), &echo);
    }
}

/// Every response may carry a nonce (RFC 9449 §8.2). An error that is about something else is no demand for it, so a code is not sent again.
#[tokio::test]
async fn an_error_in_own_words_is_no_demand_for_a_nonce() {
    for (status, content_type, body, calls) in [
        (
            400,
            "application/json",
            r#"{"errorCode":"E0000011","errorSummary":"The code was used"}"#,
            1,
        ),
        (401, "application/json", r#"{"message":"Forbidden"}"#, 1),
        (400, "text/plain", "The code was used", 1),
        // These are, in the server's own words or in none.
        (
            401,
            "application/json",
            r#"{"message":"A Nonce is required"}"#,
            2,
        ),
        (400, "text/plain", "use_dpop_nonce", 2),
        (401, "application/json", "", 2),
    ] {
        let recorder = Recorder::new(move |_| {
            let mut response = answer(status, body)?;
            let headers = response.headers_mut();
            headers.insert("content-type", content_type.parse()?);
            headers.insert("dpop-nonce", "n1".parse()?);
            Ok(response)
        });
        let endpoint = recorder
            .endpoint(ClientAuthentication::none("client-id"))
            .dpop(DpopKey::generate().unwrap());
        let request = TokenRequest::authorization_code("code", "https://app.example/cb");
        endpoint.oneshot(request).await.unwrap_err();
        assert_eq!(recorder.calls(), calls, "{body}");
    }
}

/// The rest of the message helps, and so do values that are no secrets.
#[tokio::test]
async fn what_is_no_secret_is_not_masked() {
    let description =
        "The client secret of client-id is wrong for read:all at https://api.example/v1";
    let body = json!({ "error": "invalid_client", "error_description": description });
    for secret in ["secret", "password", "hunter2hunter2", "x"] {
        let body = body.to_string();
        let recorder = Recorder::new(move |_| answer(401, body.clone()));
        let endpoint = recorder.endpoint(ClientAuthentication::client_secret_post(
            "client-id",
            secret,
        ));
        let request = TokenRequest::client_credentials()
            .scope("read:all")
            .audience("https://api.example/v1");
        let error = endpoint.oneshot(request).await.unwrap_err();
        assert_eq!(
            error.error_response().unwrap().description(),
            Some(description)
        );
    }
}
