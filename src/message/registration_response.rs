//! `RegistrationResponse`: a client that was registered.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::{
    accessors::answer_accessors,
    client_metadata::InvalidClientMetadata,
    json_time,
    registered_client::{RegisteredClient, invalid},
};
#[cfg(feature = "jwt")]
use crate::jwt::Signer;
use crate::{
    base::{Quoted, clock},
    client_authentication::ClientAuthentication,
    error::{Answer, OwnError},
    secret::{ClientSecret, Credential},
};

/// A client that was registered ([RFC 7591 §3.2.1](https://www.rfc-editor.org/rfc/rfc7591#section-3.2.1)).
///
/// [`client_authentication`](Self::client_authentication) returns what a [`TokenEndpoint`](crate::TokenEndpoint) needs. The server may have
/// registered other metadata than was requested: [`get`](Self::get) returns each member.
///
/// Keep what a later process needs in a safe place: the client id and the secret, and for the management of the client the
/// [registration access token](Self::registration_access_token). [`json`](Self::json) contains all of it.
///
/// Cloning is cheap.
///
/// # Security
///
/// `Debug` shows the status, the client id, the authentication method and the expiry of the secret, and nothing else.
///
/// # Examples
///
/// ```
/// use tower::ServiceExt;
/// use tower_oauth2_client::{
///     BoxError, ClientMetadata, HttpsClient, RegistrationEndpoint, RegistrationRequest,
///     TokenEndpoint,
/// };
///
/// # async fn example(http: HttpsClient) -> Result<(), BoxError> {
/// let registration = RegistrationEndpoint::new(http.clone(), "https://as.example/register");
/// let metadata = ClientMetadata::new().grant_type("client_credentials").client_name("Orders");
/// let registered = registration.oneshot(RegistrationRequest::new(metadata)).await?;
///
/// let client = registered.client_authentication()?;
/// let endpoint = TokenEndpoint::new(http, "https://as.example/token", client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RegistrationResponse(Arc<Inner>);

struct Inner {
    client_id: Box<str>,
    secret: Option<ClientSecret>,
    /// One for all calls, because credentials of functions are equal only if they are clones.
    credential: Option<Credential>,
    json: Value,
    answer: Answer,
}

impl RegistrationResponse {
    /// Reads a registration that was stored as [`json`](Self::json).
    ///
    /// # Errors
    ///
    /// If it is not a JSON object with a `client_id`, or its `client_secret` is not a string.
    ///
    /// # Examples
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_oauth2_client::RegistrationResponse;
    ///
    /// let stored = json!({ "client_id": "s6BhdRkqt3", "token_endpoint_auth_method": "none" });
    /// let client = RegistrationResponse::from_json(stored)?.client_authentication()?;
    /// assert_eq!(client.client_id(), "s6BhdRkqt3");
    /// # Ok::<_, tower_oauth2_client::InvalidClientMetadata>(())
    /// ```
    pub fn from_json(json: Value) -> Result<Self, InvalidClientMetadata> {
        let raw = Bytes::from(json.to_string());
        let Value::Object(members) = json else {
            return Err(invalid("the registration is not a JSON object"));
        };
        let client = IssuedClient::of(&members)
            .map_err(|why| InvalidClientMetadata(format!("the registration contains {why}")))?;
        let answer = Answer::new(StatusCode::CREATED, HeaderMap::new(), raw);
        Ok(Self::new(client, members, answer))
    }

    pub(crate) fn new(client: IssuedClient, members: Map<String, Value>, answer: Answer) -> Self {
        let expires_at = members.get("client_secret_expires_at").and_then(expiry);
        let IssuedClient { client_id, secret } = client;
        let credential = secret.as_ref().map(|secret| match expires_at {
            Some(expires_at) => expiring(secret.clone(), expires_at, &client_id),
            None => Credential::from(secret.clone()),
        });
        Self(Arc::new(Inner {
            client_id,
            secret,
            credential,
            json: Value::Object(members),
            answer,
        }))
    }

    /// Returns how the registered client authenticates, for a [`TokenEndpoint`](crate::TokenEndpoint).
    ///
    /// The method is the [registered one](Self::token_endpoint_auth_method). If the secret [expires](Self::client_secret_expires_at), a
    /// request fails ten minutes after that without being sent, with an error that says so: then register the client again. For ten minutes
    /// the secret is still sent, because the clock of the server may be behind. `client_secret_jwt` needs the feature `jwt`.
    ///
    /// # Errors
    ///
    /// If the server has registered a method that needs a secret, and issued none; `private_key_jwt`, for which there is
    /// `RegistrationResponse::private_key_jwt`; or a method that this crate does not know.
    pub fn client_authentication(&self) -> Result<ClientAuthentication, InvalidClientMetadata> {
        self.registered().authentication()
    }

    /// Returns how the registered client authenticates with its private key.
    ///
    /// # Errors
    ///
    /// If the server has registered another method than `private_key_jwt`, or a `jwks` without the public key of the signer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_oauth2_client::{
    ///     BoxError, ClientAuthentication, ClientMetadata, HttpsClient, RegistrationEndpoint,
    ///     RegistrationRequest,
    ///     jwt::{SigningAlgorithm, SigningKey},
    /// };
    ///
    /// # async fn example(registration: RegistrationEndpoint<HttpsClient>) -> Result<(), BoxError> {
    /// let key = SigningKey::generate(SigningAlgorithm::ES256)?.kid("2026-11");
    /// let metadata = ClientMetadata::new()
    ///     .token_endpoint_auth_method("private_key_jwt")
    ///     .jwk(key.public_jwk());
    /// let registered = registration.oneshot(RegistrationRequest::new(metadata)).await?;
    /// let client = registered.private_key_jwt(key)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn private_key_jwt(
        &self,
        signer: impl Signer + 'static,
    ) -> Result<ClientAuthentication, InvalidClientMetadata> {
        self.registered().private_key_jwt(signer)
    }

    fn registered(&self) -> RegisteredClient<'_> {
        RegisteredClient {
            client_id: self.client_id(),
            method: self.token_endpoint_auth_method(),
            secret: self.0.credential.as_ref(),
            algorithm: self.text("token_endpoint_auth_signing_alg"),
            jwks: self.get("jwks"),
        }
    }

    /// Returns the client id.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// Returns the client secret, if the server issued one.
    #[must_use]
    pub fn client_secret(&self) -> Option<&ClientSecret> {
        self.0.secret.as_ref()
    }

    /// Returns when the client secret expires. `None` if it does not, or if the server does not say so. A time before 1990 counts as none: some
    /// servers send a lifetime instead.
    #[must_use]
    pub fn client_secret_expires_at(&self) -> Option<SystemTime> {
        self.get("client_secret_expires_at").and_then(expiry)
    }

    /// Returns when the client id was issued.
    #[must_use]
    pub fn client_id_issued_at(&self) -> Option<SystemTime> {
        self.get("client_id_issued_at").and_then(json_time)
    }

    /// Returns the registered client authentication method.
    ///
    /// If the server does not name it, it is the one that was requested, and [`json`](Self::json) contains that. If none was requested, it is
    /// `client_secret_basic` for a client with a secret ([RFC 7591 §2](https://www.rfc-editor.org/rfc/rfc7591#section-2)), and otherwise `none`.
    #[must_use]
    pub fn token_endpoint_auth_method(&self) -> &str {
        let default = match self.0.secret {
            Some(_) => "client_secret_basic",
            None => "none",
        };
        self.text(AUTH_METHOD).unwrap_or(default)
    }

    /// Returns the token for the management of this registration
    /// ([RFC 7592 §3](https://www.rfc-editor.org/rfc/rfc7592#section-3)), which this crate does not implement. It is a secret.
    #[must_use]
    pub fn registration_access_token(&self) -> Option<&str> {
        self.text("registration_access_token")
    }

    /// Returns the URI for the management of this registration
    /// ([RFC 7592 §3](https://www.rfc-editor.org/rfc/rfc7592#section-3)), as the server sent it.
    #[must_use]
    pub fn registration_client_uri(&self) -> Option<&str> {
        self.text("registration_client_uri")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

answer_accessors!(
    RegistrationResponse,
    "It contains the secrets of the client: keep it out of logs."
);

/// The member that names how the client authenticates.
pub(crate) const AUTH_METHOD: &str = "token_endpoint_auth_method";

/// The members that a client cannot do without.
pub(crate) struct IssuedClient {
    client_id: Box<str>,
    secret: Option<ClientSecret>,
}

impl IssuedClient {
    /// Reads the client id and the secret. An empty secret is none.
    ///
    /// # Errors
    ///
    /// What is wrong: the rest of a sentence.
    pub(crate) fn of(members: &Map<String, Value>) -> Result<Self, &'static str> {
        let client_id = match members.get("client_id") {
            Some(Value::String(id)) if !id.is_empty() => id.as_str().into(),
            Some(Value::String(_)) => return Err("an empty `client_id`"),
            None | Some(Value::Null) => return Err("no `client_id`"),
            Some(_) => return Err("a `client_id` that is not a string"),
        };
        let secret = match members.get("client_secret") {
            None | Some(Value::Null) => None,
            Some(Value::String(secret)) => (!secret.is_empty()).then(|| secret.as_str().into()),
            Some(_) => return Err("a `client_secret` that is not a string"),
        };
        Ok(Self { client_id, secret })
    }
}

/// Zero means that the secret does not expire (RFC 7591 §3.2.1). A small number is a lifetime, and its begin is not known.
fn expiry(value: &Value) -> Option<SystemTime> {
    const LONGEST_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

    json_time(value).filter(|time| *time > SystemTime::UNIX_EPOCH + LONGEST_LIFETIME)
}

/// For how long an expired secret is still sent. The clock of the server may be behind.
const GRACE: Duration = Duration::from_secs(10 * 60);

fn expiring(secret: ClientSecret, expires_at: SystemTime, client_id: &str) -> Credential {
    let expired: Arc<str> = format!(
        "the secret of the registered client `{}` has expired; register the client again",
        Quoted(client_id)
    )
    .into();
    Credential::from_fn(move || {
        let result = match clock::wall_now() < expires_at + GRACE {
            true => Ok(secret.clone()),
            false => Err(OwnError::new(expired.to_string())),
        };
        async move { result }
    })
}

impl fmt::Debug for RegistrationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationResponse")
            .field("status", &self.status())
            .field("client_id", &Quoted(self.client_id()))
            .field(AUTH_METHOD, &Quoted(self.token_endpoint_auth_method()))
            .field("client_secret_expires_at", &self.client_secret_expires_at())
            .finish_non_exhaustive()
    }
}
