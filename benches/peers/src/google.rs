//! `google-cloud-auth`: user credentials, whose token endpoint can be configured.

use google_cloud_auth::credentials::{CacheableResource, Credentials, EntityTag, user_account};
use http::{Extensions, HeaderValue, header::AUTHORIZATION};

use crate::{
    BoxError, Peer,
    endpoint::{CLIENT_ID, CLIENT_SECRET, Endpoint},
};

#[derive(Clone)]
pub struct Google(Credentials);

impl Google {
    /// The crate uses its own HTTP client, so the endpoint must listen on loopback.
    pub async fn new(endpoint: &Endpoint) -> Result<Self, BoxError> {
        // An error means that a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = endpoint.listen().await?;
        let user = serde_json::json!({
            "type": "authorized_user",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "refresh_token": "1//0refresh",
        });
        let user = user_account::Builder::new(user);
        Ok(Self(
            user.with_token_uri(format!("http://{address}/token"))
                .build()?,
        ))
    }

    /// Keeps the header and passes its entity tag, to learn whether it is still valid, as the docs recommend.
    pub async fn tagged(&self) -> Result<GoogleTagged, BoxError> {
        match self.0.headers(Extensions::new()).await? {
            CacheableResource::New { entity_tag, data } => Ok(GoogleTagged {
                credentials: self.0.clone(),
                tag: entity_tag,
                value: data.get(AUTHORIZATION).ok_or("no header")?.clone(),
            }),
            CacheableResource::NotModified => {
                Err("not modified, although no entity tag was sent".into())
            }
        }
    }
}

impl Peer for Google {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        match self.0.headers(Extensions::new()).await? {
            CacheableResource::New { mut data, .. } => {
                data.remove(AUTHORIZATION).ok_or_else(|| "no header".into())
            }
            CacheableResource::NotModified => {
                Err("not modified, although no entity tag was sent".into())
            }
        }
    }
}

#[derive(Clone)]
pub struct GoogleTagged {
    credentials: Credentials,
    tag: EntityTag,
    value: HeaderValue,
}

impl Peer for GoogleTagged {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let mut extensions = Extensions::new();
        extensions.insert(self.tag.clone());
        match self.credentials.headers(extensions).await? {
            CacheableResource::NotModified => Ok(self.value.clone()),
            CacheableResource::New { .. } => Err("the token changed during the measurement".into()),
        }
    }
}
