//! A client of Salesforce, which learns from the token response where its API is.
//!
//! It starts an authorization server whose responses have an `instance_url`, as those of Salesforce, and an API at that URL. The cache keeps
//! this member of each response, and the source returns it with the token.

use axum::{Router, body::Body, routing::get};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, HttpsClient, TokenCache, TokenEndpoint,
    TokenRequest, TokenSource, add_access_token::CloneBody, test_util::AuthorizationServer,
};

const QUERY: &str = "/services/data/v65.0/query?q=SELECT+Name+FROM+Account";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!("salesforce: the response with the token says where the API is");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let instance = format!("http://{}", listener.local_addr()?);
    let server = AuthorizationServer::builder().response_field("instance_url", &*instance);
    let server = server.start().await?;
    let api = api((*server).clone());
    tokio::spawn(async { axum::serve(listener, api).await });

    // An application only needs this part.
    let http = HttpsClient::new()?;
    let client = ClientAuthentication::client_secret_post("client", "secret");
    let endpoint = TokenEndpoint::new(http.clone(), server.token_endpoint(), client);
    let tokens = TokenCache::builder(endpoint)
        .keep_members(["instance_url"])
        .build();
    let source = tokens.source(TokenRequest::client_credentials());

    let instance = instance_url(&source).await?;
    let layer = AddAccessTokenLayer::new(source.clone()).origin(&instance)?;
    let salesforce = layer.resend(CloneBody).layer(http);
    let request = Request::get(format!("{instance}{QUERY}")).body(Full::default())?;
    let response = salesforce.oneshot(request).await?;
    println!("{}", response.status());
    println!("{:?}", response.into_body().collect().await?.to_bytes());

    // It is there after a renewal, too.
    source.renew().await?;
    assert_eq!(instance_url(&source).await?, instance);

    // What nobody asked for is not kept, and the error says so.
    let token = source.token().await?;
    println!("{}", token.get("issued_at").unwrap_err());
    Ok(())
}

async fn instance_url(source: &TokenSource) -> Result<String, BoxError> {
    let token = source.token().await?;
    let url = token.get("instance_url")?.as_str();
    Ok(url.ok_or("`instance_url` is no text")?.to_owned())
}

/// The API of the instance.
fn api(server: AuthorizationServer) -> Router {
    let query = async move |headers: HeaderMap| match server.check_bearer(&headers) {
        Ok(()) => Ok(r#"{"records":[{"Name":"Acme"}]}"#),
        Err(refusal) => Err(refusal.map(Body::new)),
    };
    Router::new().route("/services/data/v65.0/query", get(query))
}
