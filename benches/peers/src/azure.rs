//! `azure_identity`: the credential with its own cache, and the policy of `azure_core` that adds the token to a request.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::{
    credentials::{Secret, TokenCredential},
    http::{
        AsyncRawResponse, ClientOptions, Context, HttpClient, Method, Request, StatusCode,
        Transport, Url,
        headers::Headers,
        policies::{Policy, PolicyResult, auth::BearerTokenAuthorizationPolicy},
    },
};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use http::HeaderValue;

use crate::{
    BoxError, Peer, bearer,
    endpoint::{CLIENT_ID, CLIENT_SECRET, Endpoint, SCOPE},
};

#[derive(Clone)]
pub struct Azure(Arc<ClientSecretCredential>);

impl Azure {
    pub fn new(endpoint: &Endpoint) -> Result<Self, BoxError> {
        let options = ClientSecretCredentialOptions {
            client_options: ClientOptions {
                transport: Some(Transport::new(Arc::new(Fake(endpoint.clone())))),
                ..ClientOptions::default()
            },
        };
        let secret = Secret::new(CLIENT_SECRET);
        let tenant = "00000000-0000-0000-0000-000000000000";
        let credential =
            ClientSecretCredential::new(tenant, CLIENT_ID.into(), secret, Some(options));
        Ok(Self(credential?))
    }

    /// The policy that SDK clients use, over a transport that answers immediately.
    pub fn policy(&self) -> AzureClient {
        let policy = BearerTokenAuthorizationPolicy::new(self.0.clone(), [SCOPE]);
        AzureClient(Arc::new([Arc::new(policy), Arc::new(Answer)]))
    }
}

impl Peer for Azure {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let token = self.0.get_token(&[SCOPE], None).await?;
        bearer(token.token.secret())
    }
}

#[derive(Debug)]
struct Fake(Endpoint);

#[async_trait]
impl HttpClient for Fake {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<AsyncRawResponse> {
        let (status, body) = self.0.answer().await;
        let status = StatusCode::from(status.as_u16());
        Ok(AsyncRawResponse::from_bytes(status, Headers::new(), body))
    }
}

/// The end of a pipeline of policies.
#[derive(Clone)]
pub struct AzureClient(Arc<[Arc<dyn Policy>; 2]>);

impl AzureClient {
    /// Sends a request through the policy.
    pub async fn call(&self) -> Result<(), BoxError> {
        self.call_from(0).await
    }

    /// Sends a request without the policy.
    pub async fn call_bare(&self) -> Result<(), BoxError> {
        self.call_from(1).await
    }

    async fn call_from(&self, first: usize) -> Result<(), BoxError> {
        let mut request = request();
        let (policy, next) = (&self.0[first], &self.0[first + 1..]);
        policy.send(&Context::new(), &mut request, next).await?;
        Ok(())
    }
}

fn request() -> Request {
    static URL: std::sync::LazyLock<Url> = std::sync::LazyLock::new(|| {
        Url::parse("https://api.example/v1/items?limit=10").expect("a URL")
    });
    let mut request = Request::new(URL.clone(), Method::Post);
    request.insert_header("accept", "*/*");
    request.insert_header("content-type", "text/plain");
    request.insert_header("user-agent", "warm_path");
    request
}

#[derive(Debug)]
struct Answer;

#[async_trait]
impl Policy for Answer {
    async fn send(
        &self,
        _: &Context,
        request: &mut Request,
        _: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        std::hint::black_box(&request);
        let body = bytes::Bytes::from_static(b"{}");
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            Headers::new(),
            body,
        ))
    }
}
