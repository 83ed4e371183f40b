//! An authorization server: its metadata, its endpoints, and the client that was registered there.

use std::{fmt, sync::Arc};

use tokio::sync::Mutex;
use tower_service::Service;

use super::{
    by_issuer::Endpoint,
    error::{Failure, NotAuthorizedKind as Kind},
    http::ErasedHttp,
    identity::{Grant, Identity},
    registration::to_register,
};
#[cfg(feature = "authorization-code")]
use crate::{
    authorization_code::{AuthorizationEndpoint, AuthorizationRequest, PendingAuthorization},
    error::TokenError,
};
use crate::{
    authorization_server::{
        issuer::Issuer, metadata::ServerMetadata, registration::service::RegistrationEndpoint,
        token_endpoint::service::TokenEndpoint,
    },
    base::{clock::Clock, erased_service::ready},
    client_authentication::ClientAuthentication,
    message::{ClientMetadata, RegistrationRequest, RegistrationResponse},
};

/// Called with each client that was registered, and its issuer.
pub(super) type OnRegistration = Arc<dyn Fn(&str, &RegistrationResponse) + Send + Sync>;

/// What is kept of an authorization server.
pub(super) struct KnownServer {
    pub(super) issuer: Issuer<ErasedHttp>,
    /// The metadata that were sent, and the client. Locked during a registration, so that there is one.
    registered: Mutex<Option<(ClientMetadata, RegistrationResponse)>>,
}

impl KnownServer {
    pub(super) fn new(issuer: Issuer<ErasedHttp>) -> Self {
        Self {
            issuer,
            registered: Mutex::new(None),
        }
    }

    /// Forgets the registered client, because the server does.
    pub(super) async fn forget_client(&self) {
        *self.registered.lock().await = None;
    }
}

/// An authorization server whose metadata were fetched, or that has none.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) known: Arc<KnownServer>,
    /// As the server writes it.
    pub(super) issuer: Arc<str>,
    pub(super) at: At,
}

/// Where the endpoints are.
#[derive(Clone)]
pub(super) enum At {
    Metadata(Arc<ServerMetadata>),
    /// At the default addresses of an origin.
    Defaults(ErasedHttp),
}

impl Server {
    pub(super) fn metadata(&self) -> Option<&ServerMetadata> {
        match &self.at {
            At::Metadata(metadata) => Some(metadata),
            At::Defaults(_) => None,
        }
    }

    pub(super) fn endpoint(&self, client: ClientAuthentication) -> Endpoint {
        match &self.at {
            At::Metadata(_) => self.known.issuer.token_endpoint(client),
            At::Defaults(http) => TokenEndpoint::new(http.clone(), self.default("token"), client),
        }
    }

    fn registration(&self) -> Option<RegistrationEndpoint<ErasedHttp>> {
        match &self.at {
            At::Metadata(metadata) => {
                metadata.registration_endpoint()?;
                let nobody = ClientAuthentication::anonymous();
                Some(self.known.issuer.token_endpoint(nobody).registration())
            }
            At::Defaults(http) => {
                let uri = self.default("register");
                Some(RegistrationEndpoint::new(http.clone(), uri))
            }
        }
    }

    /// Starts the sign-in of a user.
    #[cfg(feature = "authorization-code")]
    pub(super) async fn begin(
        &self,
        request: AuthorizationRequest,
        client: &ClientAuthentication,
    ) -> Result<(String, PendingAuthorization), TokenError> {
        match &self.at {
            At::Metadata(_) => {
                let endpoint = self.endpoint(client.clone());
                endpoint.begin_authorization(request).await
            }
            At::Defaults(_) => AuthorizationEndpoint::new(self.default("authorize"))
                .begin(request, client.client_id()),
        }
    }

    fn default(&self, name: &str) -> String {
        format!("{}/{name}", self.issuer)
    }

    /// Chooses the client, and registers one if there is no other.
    pub(super) async fn client(
        &self,
        identity: &Identity,
        grant: &Grant,
        clock: &Clock,
        on_registration: Option<&OnRegistration>,
    ) -> Result<ClientAuthentication, Failure> {
        let metadata = self.metadata();
        let choose = |clients: Vec<ClientAuthentication>| match metadata {
            Some(metadata) => metadata.choose_client(clients),
            None => clients.into_iter().next(),
        };
        if let Some(client) = choose(identity.clients.clone()) {
            return Ok(client);
        }
        let takes_documents =
            metadata.is_some_and(ServerMetadata::client_id_metadata_document_supported);
        if let Some(document) = identity.document.clone().filter(|_| takes_documents)
            && let Some(client) = choose(vec![document])
        {
            return Ok(client);
        }
        match (&identity.registration, self.registration()) {
            (Some(template), Some(endpoint)) => {
                let methods =
                    metadata.and_then(ServerMetadata::token_endpoint_auth_methods_supported);
                let to_register = to_register(template.clone(), grant, methods);
                self.registered(endpoint, to_register, clock, on_registration)
                    .await
            }
            _ if grant.needs_no_client() && identity.clients.is_empty() => {
                Ok(ClientAuthentication::anonymous())
            }
            _ => Err(Failure::new(
                Kind::Unsupported,
                format!("the authorization server {self} supports no client of the identity"),
            )),
        }
    }

    async fn registered(
        &self,
        mut endpoint: RegistrationEndpoint<ErasedHttp>,
        metadata: ClientMetadata,
        clock: &Clock,
        on_registration: Option<&OnRegistration>,
    ) -> Result<ClientAuthentication, Failure> {
        let failed = || {
            let message = format!("no client was registered at the authorization server {self}");
            Failure::new(Kind::Registration, message)
        };
        let mut registered = self.known.registered.lock().await;
        let now = clock.now();
        let is_current = |(sent, client): &(ClientMetadata, RegistrationResponse)| {
            let expiry = client.client_secret_expires_at();
            let has_expired = expiry
                .zip(now.wall_time(now))
                .is_some_and(|(end, now)| end <= now);
            *sent == metadata && !has_expired
        };
        let client = match registered
            .as_ref()
            .filter(|registered| is_current(registered))
        {
            Some((_, client)) => client.clone(),
            None => {
                let request = RegistrationRequest::new(metadata.clone());
                let sent = async {
                    ready(&mut endpoint).await?;
                    endpoint.call(request).await
                };
                let client = sent.await.map_err(|error| failed().caused_by(error))?;
                if let Some(tell) = on_registration {
                    tell(&self.issuer, &client);
                }
                *registered = Some((metadata, client.clone()));
                client
            }
        };
        client
            .client_authentication()
            .map_err(|error| failed().caused_by(error))
    }
}

/// The issuer in quotes, for messages.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", crate::base::Quoted(&self.issuer))
    }
}
