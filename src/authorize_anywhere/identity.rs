//! `Identity`: who this client is at an authorization server, and how it gets tokens there.

use std::fmt;

use super::identity_provider::IdentityProvider;
#[cfg(feature = "authorization-code")]
use super::sign_in::SignIn;
#[cfg(feature = "jwt")]
use crate::jwt::SigningAlgorithm;
use crate::{
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    message::{ClientMetadata, Scope},
    secret::Credential,
};

/// Who this client is at an authorization server, and how it may get tokens there.
///
/// An identity has two parts:
///
/// 1. **Clients**: the first that the metadata of the server support is used, in this order: [`client`](Self::client) and
///    [`client_secret`](Self::client_secret), [`client_id_metadata_document`](Self::client_id_metadata_document),
///    [`register`](Self::register).
/// 2. **Grants**: the first that the metadata list in `grant_types_supported` is used, in the order of the calls. If the metadata have no
///    such list, it is the first one. An identity without grants uses [`client_credentials`](Self::client_credentials).
///
/// # Security
///
/// The authorization server of the identity sees its credentials. Give an identity to a server that you trust with them.
///
/// `Debug` shows client ids and the names of grants.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{Credential, authorize_anywhere::Identity};
///
/// let identity = Identity::new().client_secret("orders", Credential::env("CLIENT_SECRET"));
/// ```
#[derive(Clone, Default)]
#[must_use = "give it to `AuthorizeAnywhereLayer::issuer`"]
pub struct Identity {
    pub(super) clients: Vec<ClientAuthentication>,
    pub(super) document: Option<ClientAuthentication>,
    pub(super) registration: Option<ClientMetadata>,
    pub(super) grants: Vec<Grant>,
    pub(super) dpop: Option<DpopKey>,
    pub(super) allowed_scope: Option<Scope>,
}

/// How a token is requested.
#[derive(Clone)]
pub(super) enum Grant {
    ClientCredentials,
    JwtBearer(Credential),
    IdentityAssertion(IdentityProvider),
    #[cfg(feature = "authorization-code")]
    SignIn(SignIn),
}

/// # Clients
impl Identity {
    /// Creates an identity without a client and without a grant.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client that the server knows. If there are several, the first that the metadata support is used.
    ///
    /// Pass a [`ClientAuthentication::private_key_jwt`] for a client with a key. Default is none.
    pub fn client(mut self, client: ClientAuthentication) -> Self {
        self.clients.push(client);
        self
    }

    /// Adds a client that the server knows by a secret. The metadata of the server decide how it is sent.
    ///
    /// The methods are `client_secret_basic`, `client_secret_post` and, with the feature `jwt`, `client_secret_jwt`. Default is none.
    pub fn client_secret(
        self,
        client_id: impl Into<String>,
        secret: impl Into<Credential>,
    ) -> Self {
        let (id, secret) = (client_id.into(), secret.into());
        let basic = ClientAuthentication::client_secret_basic(id.clone(), secret.clone());
        let post = ClientAuthentication::client_secret_post(id.clone(), secret.clone());
        let identity = self.client(basic).client(post);
        #[cfg(feature = "jwt")]
        let identity = {
            let hs256 = SigningAlgorithm::HS256;
            identity.client(ClientAuthentication::client_secret_jwt(id, secret, hs256))
        };
        identity
    }

    /// Sets the client of a [metadata document](crate::ClientIdMetadataDocument). Its client id is the URL of the document.
    ///
    /// It is used at servers that support such documents
    /// ([`client_id_metadata_document_supported`](crate::ServerMetadata::client_id_metadata_document_supported)). Default is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_oauth2_client::{ClientAuthentication, authorize_anywhere::Identity};
    ///
    /// let client = ClientAuthentication::none("https://cli.example/oauth-client.json");
    /// let identity = Identity::new().client_id_metadata_document(client);
    /// ```
    pub fn client_id_metadata_document(mut self, client: ClientAuthentication) -> Self {
        self.document = Some(client);
        self
    }

    /// Allows to register a client at the server ([RFC 7591](https://www.rfc-editor.org/rfc/rfc7591)). Default is that it is not allowed.
    ///
    /// It happens once for each issuer, and only if no other client of this identity can be used. What `metadata` leave out is added: the
    /// redirect URI, the grant types and the response types of the grant, a `token_endpoint_auth_method` that the server lists (`none`, if
    /// it can be), and the `application_type`.
    ///
    /// To keep the client beyond this process, see [`on_registration`](super::AuthorizeAnywhereLayer::on_registration).
    pub fn register(mut self, metadata: ClientMetadata) -> Self {
        self.registration = Some(metadata);
        self
    }
}

/// # Grants
impl Identity {
    /// Allows to get tokens for the client itself ([RFC 6749 §4.4](https://www.rfc-editor.org/rfc/rfc6749#section-4.4)).
    ///
    /// It is the default if no grant is allowed.
    pub fn client_credentials(self) -> Self {
        self.grant(Grant::ClientCredentials)
    }

    /// Allows to get tokens for an assertion that the server accepts, such as the token of a workload
    /// ([RFC 7523 §2.1](https://www.rfc-editor.org/rfc/rfc7523#section-2.1)). Default is none.
    ///
    /// The credential is obtained again for each token request. Without a client, the assertion alone authorizes the request.
    pub fn jwt_bearer(self, assertion: impl Into<Credential>) -> Self {
        self.grant(Grant::JwtBearer(assertion.into()))
    }

    /// Allows to get tokens for a user who has signed in at an identity provider that the server trusts. Default is none.
    ///
    /// See [`IdentityProvider`].
    pub fn identity_assertion(self, provider: IdentityProvider) -> Self {
        self.grant(Grant::IdentityAssertion(provider))
    }

    /// Allows to get tokens for a user who signs in with the browser ([RFC 6749 §4.1](https://www.rfc-editor.org/rfc/rfc6749#section-4.1)).
    /// Default is none.
    ///
    /// See [`SignIn`].
    #[cfg(feature = "authorization-code")]
    #[cfg_attr(docsrs, doc(cfg(feature = "authorization-code")))]
    pub fn sign_in(self, sign_in: SignIn) -> Self {
        self.grant(Grant::SignIn(sign_in))
    }

    fn grant(mut self, grant: Grant) -> Self {
        self.grants.push(grant);
        self
    }
}

/// # Limits
impl Identity {
    /// Sets the key that tokens are bound to, where the API demands that ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)).
    ///
    /// An API demands it by the scheme `DPoP` of its challenge, or by its metadata. Default is none, and such APIs are an error.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.dpop = Some(key);
        self
    }

    /// Sets the scope that may be requested. APIs can demand no other. Default is that they decide.
    ///
    /// If an API demands nothing that is allowed, all of it is requested: without a scope, the server would choose one
    /// ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)). `offline_access` is requested as without this setting.
    pub fn allowed_scope(mut self, scope: impl Into<Scope>) -> Self {
        self.allowed_scope = Some(scope.into());
        self
    }

    /// Returns the first grant that a server lists, or `None`.
    pub(super) fn grant_at(&self, listed: Option<&[String]>) -> Option<&Grant> {
        const DEFAULT: &Grant = &Grant::ClientCredentials;
        let is_listed = |grant: &&Grant| {
            listed.is_none_or(|listed| listed.iter().any(|name| name == grant.grant_type()))
        };
        match &*self.grants {
            [] => Some(DEFAULT).filter(is_listed),
            grants => grants.iter().find(is_listed),
        }
    }
}

impl Grant {
    pub(super) fn grant_type(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::JwtBearer(_) | Self::IdentityAssertion(_) => {
                "urn:ietf:params:oauth:grant-type:jwt-bearer"
            }
            #[cfg(feature = "authorization-code")]
            Self::SignIn(_) => "authorization_code",
        }
    }

    /// Returns where the user returns to, if a user signs in.
    pub(super) fn redirect_uri(&self) -> Option<&str> {
        match self {
            #[cfg(feature = "authorization-code")]
            Self::SignIn(sign_in) => Some(sign_in.redirect_uri()),
            _ => None,
        }
    }

    pub(super) fn is_sign_in(&self) -> bool {
        self.redirect_uri().is_some()
    }

    /// Whether the server may accept the grant from anybody.
    pub(super) fn needs_no_client(&self) -> bool {
        matches!(self, Self::JwtBearer(_))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grants: Vec<_> = self.grants.iter().map(Grant::grant_type).collect();
        f.debug_struct("Identity")
            .field("clients", &self.clients)
            .field("client_id_metadata_document", &self.document)
            .field("registers", &self.registration.is_some())
            .field("grants", &grants)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_grant_that_the_server_lists_is_used() {
        const JWT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        let both = Identity::new().jwt_bearer("a").client_credentials();
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        for (identity, listed, expected) in [
            (Identity::new(), None, Some("client_credentials")),
            (
                Identity::new(),
                Some(list(&["client_credentials"])),
                Some("client_credentials"),
            ),
            (Identity::new(), Some(list(&["authorization_code"])), None),
            (Identity::new(), Some(list(&[])), None),
            (both.clone(), None, Some(JWT)),
            (
                both.clone(),
                Some(list(&["client_credentials", JWT])),
                Some(JWT),
            ),
            (
                both.clone(),
                Some(list(&["client_credentials"])),
                Some("client_credentials"),
            ),
            (both, Some(list(&["password"])), None),
        ] {
            let grant = identity.grant_at(listed.as_deref());
            assert_eq!(grant.map(Grant::grant_type), expected, "{listed:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::new()
            .client_secret("id", "SECRET")
            .jwt_bearer("SECRET");
        let shown = format!("{identity:?} {identity:#?}");
        assert!(shown.contains("id") && !shown.contains("SECRET"), "{shown}");
    }
}
