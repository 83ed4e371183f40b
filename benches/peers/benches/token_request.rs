//! A token request from its parameters to a header that is ready to send: by this crate, by other crates, and by minimal code.

#[path = "../../support/mod.rs"]
mod support;

use std::{future::poll_fn, hint::black_box, sync::Arc};

use http::{HeaderValue, Uri};
use peers::{huskarl::HuskarlGrant, oauth2::OAuth2};
use tower::{Service, service_fn};
use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, TokenRequest};

use self::support::{
    Case, bench,
    calls::{now, on_threads},
    token,
};

const CALLS_PER_ROUND: u32 = 400;
const FLOOR: &str = "minimum";

fn main() -> support::Result<()> {
    let (uri, http) = (Uri::from_static(token::URI), token::endpoint(token::body()));
    let client = ClientAuthentication::client_secret_basic(token::CLIENT_ID, token::CLIENT_SECRET);
    let endpoint = TokenEndpoint::new(service_fn(http.clone()), token::URI, client);
    let oauth2 = Arc::new(OAuth2::new(token::body())?);
    let huskarl = Arc::new(HuskarlGrant::new(token::body())?);
    bench(&[
        case(FLOOR, move || token::minimum(&uri, &http)),
        case("this crate", move || {
            let mut endpoint = endpoint.clone();
            let request = TokenRequest::client_credentials().scope(token::SCOPE);
            now(poll_fn(|cx| endpoint.poll_ready(cx))).expect("ready");
            let response = now(endpoint.call(request)).expect("a token");
            let authorization = response.access_token().authorization();
            authorization.expect("a token for a header").clone()
        }),
        case("oauth2", move || {
            now(oauth2.fetch(token::SCOPE)).expect("a token")
        }),
        case("huskarl", move || now(huskarl.fetch()).expect("a token")),
    ])
}

fn case(name: &str, fetch: impl Fn() -> HeaderValue + Clone + Send + 'static) -> Case {
    let make = move || {
        let fetch = fetch.clone();
        move || drop(black_box(fetch()))
    };
    let run = move |calls| on_threads(1, &make, calls);
    Case::new(name, CALLS_PER_ROUND, run).relative_to(FLOOR)
}
