//! `huskarl`: the client credentials grant, its cache, and its authorizer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header::AUTHORIZATION};
use huskarl::{
    authorizer::HttpAuthorizer,
    cache::{GrantTokenSource, InMemoryRefreshTokenStore, InMemoryTokenCache},
    core::{
        Error,
        client_auth::ClientSecret,
        http::{HttpClient, HttpResponse, Idempotency},
        platform::MaybeSendBoxFuture,
        secrets::{Secret, SecretOutput, SecretString},
    },
    grant::client_credentials::{ClientCredentialsGrant, ClientCredentialsGrantParameters},
    grant::core::OAuth2ExchangeGrant,
};

use crate::{
    BoxError, Peer,
    endpoint::{CLIENT_ID, CLIENT_SECRET, Endpoint, SCOPE, URI},
};

#[derive(Clone)]
pub struct Huskarl(Arc<HttpAuthorizer>);

static API: std::sync::LazyLock<Uri> =
    std::sync::LazyLock::new(|| Uri::from_static("https://api.example/v1/items?limit=10"));

impl Huskarl {
    pub fn new(endpoint: &Endpoint) -> Result<Self, BoxError> {
        let source = GrantTokenSource::builder()
            .grant(grant(Fake(endpoint.clone()))?)
            .grant_parameters(parameters())
            .refresh_store(InMemoryRefreshTokenStore::default())
            .build();
        let cache = InMemoryTokenCache::builder().source(source).build();
        let authorizer = HttpAuthorizer::builder().cache(cache).build();
        Ok(Self(Arc::new(authorizer)))
    }

    /// Processes a response, as its docs require for every response.
    pub fn process_response(&self, headers: &HeaderMap) {
        self.0.process_response(&API, headers);
    }
}

impl Peer for Huskarl {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let mut headers = self.0.get_headers(&Method::POST, &API).await?;
        headers
            .remove(AUTHORIZATION)
            .ok_or_else(|| "no header".into())
    }
}

fn grant(http: impl HttpClient + 'static) -> Result<ClientCredentialsGrant, BoxError> {
    let client = ClientSecret::builder()
        .client_secret(Known)
        .prefer_basic_auth(true)
        .build();
    Ok(ClientCredentialsGrant::builder()
        .client_id(CLIENT_ID)
        .http_client(http)
        .client_auth(client)
        .token_endpoint(URI.parse()?)
        .build())
}

fn parameters() -> ClientCredentialsGrantParameters {
    ClientCredentialsGrantParameters::builder()
        .scope(vec![SCOPE.to_owned()])
        .build()
}

struct Known;

impl Secret for Known {
    type Output = SecretString;

    fn get_secret_value(
        &self,
    ) -> MaybeSendBoxFuture<'_, Result<SecretOutput<SecretString>, Error>> {
        Box::pin(async {
            Ok(SecretOutput {
                value: SecretString::new(CLIENT_SECRET),
                identity: None,
            })
        })
    }
}

struct Fake(Endpoint);

impl HttpClient for Fake {
    fn execute(
        &self,
        _: Request<Bytes>,
        _: Idempotency,
    ) -> MaybeSendBoxFuture<'_, Result<HttpResponse, Error>> {
        Box::pin(async {
            let (status, body) = self.0.answer().await;
            Ok(HttpResponse {
                status,
                headers: HeaderMap::new(),
                body,
            })
        })
    }
}

/// The grant without a cache, for measuring token requests.
pub struct HuskarlGrant(ClientCredentialsGrant);

impl HuskarlGrant {
    /// `answer` is the body of every response.
    pub fn new(answer: Bytes) -> Result<Self, BoxError> {
        Ok(Self(grant(AtOnce(answer))?))
    }

    pub async fn fetch(&self) -> Result<HeaderValue, BoxError> {
        let response = self.0.exchange(parameters()).await?;
        let mut value = response.access_token().expose_header_value()?;
        value.set_sensitive(true);
        Ok(value)
    }
}

struct AtOnce(Bytes);

impl HttpClient for AtOnce {
    fn execute(
        &self,
        request: Request<Bytes>,
        _: Idempotency,
    ) -> MaybeSendBoxFuture<'_, Result<HttpResponse, Error>> {
        drop(std::hint::black_box(request));
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, json)]);
        let response = HttpResponse {
            status: http::StatusCode::OK,
            headers,
            body: self.0.clone(),
        };
        Box::pin(std::future::ready(Ok(response)))
    }
}
