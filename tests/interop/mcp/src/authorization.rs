//! The stack of HTTP layers that authorizes the client: all of the client that knows OAuth.

use bytes::Bytes;
use http::{Request, header::LOCATION};
use http_body_util::Full;
use serde_json::Value;
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{
    BoxError, ClientAuthentication as Client, ClientMetadata, DpopKey, HttpsClient,
    authorization_code::AuthorizationResponse,
    authorize_anywhere::*,
    jwt::{SigningAlgorithm, SigningKey},
};

/// Builds the stack. `context` contains the identity that the scenario gives to the client.
pub fn stack(context: &Value) -> Result<AuthorizeAnywhere<HttpsClient>, BoxError> {
    let http = HttpsClient::new()?;
    let identity = identity(context, http.clone())?;
    let issuer = context["issuer"].as_str().map(str::to_owned);
    // The servers of the suite are at random ports of this machine.
    let is_mine = move |server: &str| issuer.as_ref().is_none_or(|issuer| issuer == server);
    let layer = AuthorizeAnywhereLayer::new(http.clone())
        .identity_for(move |server| is_mine(server.issuer()).then(|| identity.clone()))
        .use_default_endpoints()
        .danger_allow_internal_addresses();
    Ok(layer.layer(http))
}

fn identity(context: &Value, http: HttpsClient) -> Result<Identity, BoxError> {
    let get = |name: &str| context[name].as_str().map(str::to_owned);
    let id = get("client_id").unwrap_or_default();
    let mut identity = Identity::new().dpop(DpopKey::generate()?);
    if let Some(secret) = get("client_secret") {
        identity = identity.client_secret(&id, secret);
    }
    if let Some(pem) = get("private_key_pem") {
        let key = SigningKey::from_pem(pem, SigningAlgorithm::ES256)?;
        identity = identity.client(Client::private_key_jwt(id, key));
    }
    if let (Some(issuer), Some(id_token)) = (get("idp_issuer"), get("idp_id_token")) {
        let client = Client::none(get("idp_client_id").unwrap_or_default());
        identity = identity.identity_assertion(IdentityProvider::new(issuer, client, id_token));
    }
    if let Some(jwt) = get("valid_jwt") {
        identity = identity.jwt_bearer(jwt);
    }
    let document = "https://conformance-test.local/client-metadata.json";
    let browse = move |url| browse(http.clone(), url);
    Ok(identity
        .client_id_metadata_document(Client::none(document))
        .register(ClientMetadata::new().client_name("tower-oauth2-client"))
        .sign_in(SignIn::new("http://127.0.0.1:7777/callback", browse))
        .client_credentials())
}

/// Stands for a browser whose user agrees at once.
async fn browse(
    http: HttpsClient,
    to: AuthorizationUrl,
) -> Result<AuthorizationResponse, BoxError> {
    let request = Request::get(to.as_str()).body(Full::<Bytes>::default())?;
    let response = http.oneshot(request).await?;
    let location = response
        .headers()
        .get(LOCATION)
        .ok_or("the server did not redirect")?;
    Ok(AuthorizationResponse::from_uri(location.to_str()?))
}
