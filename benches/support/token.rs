//! A token request over an endpoint that answers immediately, and the minimal code for the same job.

use std::{
    future::{Ready, ready},
    hint::black_box,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;

use super::calls::{BoxError, now};

pub(crate) const URI: &str = "https://as.example/connect/token";
pub(crate) const CLIENT_ID: &str = "orders-service";
pub(crate) const CLIENT_SECRET: &str = "7Fjfp0ZBr1KtDRbnfVdmIw/+=";
pub(crate) const SCOPE: &str = "orders:read orders:write";

const ANSWER_LENGTH: usize = 983;

/// The response body, which has 983 bytes.
pub(crate) fn body() -> Bytes {
    let around = |token: &str| {
        format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600,"scope":"{SCOPE}"}}"#
        )
    };
    let length = ANSWER_LENGTH - around("").len();
    Bytes::from(around(
        &"eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCJ9-_.".repeat(length)[..length],
    ))
}

pub(crate) fn response(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

type Answered = Ready<Result<Response<Full<Bytes>>, BoxError>>;

/// Returns an HTTP service that looks at the request and answers immediately.
pub(crate) fn endpoint(body: Bytes) -> impl Fn(Request<Full<Bytes>>) -> Answered + Clone {
    move |request| {
        drop(black_box(request));
        ready(Ok(response(body.clone())))
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[allow(dead_code, reason = "parsed because callers need it")]
    token_type: String,
    #[allow(dead_code, reason = "parsed because callers need it")]
    expires_in: Option<u64>,
    #[allow(dead_code, reason = "parsed because callers need it")]
    scope: Option<String>,
}

/// The code you would write for this one request alone: no checks, nothing is wiped, nothing is kept.
pub(crate) fn minimum(uri: &Uri, http: &impl Fn(Request<Full<Bytes>>) -> Answered) -> HeaderValue {
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(128));
    form.append_pair("grant_type", "client_credentials");
    form.append_pair("scope", black_box(SCOPE));
    let mut request = Request::new(Full::new(Bytes::from(form.finish())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();

    let mut pair = String::with_capacity(128);
    pair.extend(form_urlencoded::byte_serialize(
        black_box(CLIENT_ID).as_bytes(),
    ));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(
        black_box(CLIENT_SECRET).as_bytes(),
    ));
    let mut basic = String::with_capacity(128);
    basic.push_str("Basic ");
    BASE64_STANDARD.encode_string(pair, &mut basic);

    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form);
    headers.insert(
        AUTHORIZATION,
        HeaderValue::try_from(basic).expect("a header"),
    );

    let response = now(http(request)).expect("an answer");
    assert!(response.status().is_success());
    let body = now(response.into_body().collect())
        .expect("a body")
        .to_bytes();
    let answer: Answer = serde_json::from_slice(&body).expect("an answer");
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", answer.access_token)).expect("a header");
    value.set_sensitive(true);
    value
}
