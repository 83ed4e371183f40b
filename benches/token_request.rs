//! A token request from its parameters to a header that is ready to send: encoding and decoding, without a network.
//!
//! `README.md` in this folder explains how to run it and how to read the results.

mod support;

use std::hint::black_box;

use http::Uri;
use tower::{Service, service_fn};
use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, TokenRequest};

use self::support::{
    Case, Result, bench,
    calls::{now, on_threads},
    token,
};

const CALLS_PER_ROUND: u32 = 400;

fn main() -> Result<()> {
    let http = token::endpoint(token::body());
    let uri = Uri::from_static(token::URI);
    let client = ClientAuthentication::client_secret_basic(token::CLIENT_ID, token::CLIENT_SECRET);
    let endpoint = TokenEndpoint::new(service_fn(http.clone()), token::URI, client);
    let request = || TokenRequest::client_credentials().scope(token::SCOPE);

    let mut cases = vec![case("minimum", {
        let http = http.clone();
        move || {
            let (http, uri) = (http.clone(), uri.clone());
            move || drop(black_box(token::minimum(&uri, &http)))
        }
    })];
    // As in the cache: one request is sent again for each token.
    cases.push(case("token request", {
        let endpoint = endpoint.clone();
        move || {
            let (endpoint, request) = (endpoint.clone(), request());
            move || drop(black_box(fetch(&mut endpoint.clone(), request.clone())))
        }
    }));
    cases.push(case("token request, made each time", move || {
        let endpoint = endpoint.clone();
        move || drop(black_box(fetch(&mut endpoint.clone(), request())))
    }));
    bench(&cases)
}

fn case<C: FnMut() + Send>(name: &str, make: impl Fn() -> C + 'static) -> Case {
    let case = Case::new(name, CALLS_PER_ROUND, move |calls| {
        on_threads(1, &make, calls)
    });
    case.relative_to("minimum")
}

fn fetch<S>(endpoint: &mut S, request: TokenRequest) -> http::HeaderValue
where
    S: Service<TokenRequest, Response = tower_oauth2_client::TokenResponse>,
    S::Error: std::fmt::Debug,
{
    now(std::future::poll_fn(|cx| endpoint.poll_ready(cx))).expect("ready");
    let response = now(endpoint.call(request)).expect("a token");
    let authorization = response.access_token().authorization();
    authorization.expect("a token for a header").clone()
}
