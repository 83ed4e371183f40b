//! `IssuedBy`: who issues the tokens that are shared.

use std::fmt;

use crate::{
    authorization_server::token_endpoint::service::TokenEndpoint,
    base::{Quoted, uri::PrintableText},
    client_authentication::ClientAuthentication,
    dpop::DpopKey,
    message::Parameter,
};

/// Who issues the tokens that instances share: an endpoint and its client, or a name.
///
/// Instances with different ones share nothing.
///
/// * From a [`&TokenEndpoint`](TokenEndpoint): its URI or issuer, the id and the method of its client, the claims that its assertion adds, its
///   DPoP key, its default parameters, and how it reads a response. Secrets of the client are not part of it, so they can be rotated.
/// * From a text: a name of your own for a stack that does not end in a `TokenEndpoint`. It must tell apart everything of the stack that
///   changes a token: the server, the client, and what layers add.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::{ClientAuthentication, TokenEndpoint, token_store::IssuedBy};
///
/// # fn example<S: Clone>(http: S) {
/// let client = ClientAuthentication::client_secret_basic("orders", "secret");
/// let endpoint = TokenEndpoint::new(http, "https://as.example/token", client);
/// let issued_by = IssuedBy::from(&endpoint);
/// # }
/// let issued_by = IssuedBy::from("orders at https://as.example");
/// ```
#[derive(Clone)]
pub struct IssuedBy(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Endpoint(Box<Endpoint>),
    Name(Box<str>),
}

/// What a token depends on beside its request.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// The URI of the endpoint, or the issuer.
    pub(super) place: String,
    pub(super) client: ClientAuthentication,
    pub(super) defaults: Vec<Parameter>,
    pub(super) dpop: Option<DpopKey>,
    /// Whether the tokens of each client may be bound to its certificate.
    pub(super) is_certificate_bound: bool,
    /// What is made of a response.
    pub(super) call: String,
}

impl IssuedBy {
    /// The key to which tokens are bound, unless a request names another.
    pub(super) fn dpop(&self) -> Option<&DpopKey> {
        match &self.0 {
            Kind::Endpoint(endpoint) => endpoint.dpop.as_ref(),
            Kind::Name(_) => None,
        }
    }

    /// Whether the tokens of each client may be bound to its certificate.
    pub(super) fn is_certificate_bound(&self) -> bool {
        matches!(&self.0, Kind::Endpoint(endpoint) if endpoint.is_certificate_bound)
    }

    /// The client, unless a request names another.
    pub(super) fn client(&self) -> Option<&ClientAuthentication> {
        match &self.0 {
            Kind::Endpoint(endpoint) => Some(&endpoint.client),
            Kind::Name(_) => None,
        }
    }
}

impl<S, B> From<&TokenEndpoint<S, B>> for IssuedBy {
    fn from(endpoint: &TokenEndpoint<S, B>) -> Self {
        let core = &endpoint.core;
        let place = match (core.uri(), core.issuer()) {
            (Some(uri), _) => format!("uri {uri}"),
            (None, Some(issuer)) => format!("issuer {issuer}"),
            // Each of its requests fails.
            (None, None) => String::new(),
        };
        Self(Kind::Endpoint(Box::new(Endpoint {
            place,
            client: core.client.clone(),
            defaults: endpoint.defaults.clone(),
            dpop: core.dpop.clone(),
            is_certificate_bound: core.is_certificate_bound(),
            call: endpoint.call.use_of_response(),
        })))
    }
}

impl From<&str> for IssuedBy {
    fn from(name: &str) -> Self {
        Self(Kind::Name(name.into()))
    }
}

impl From<String> for IssuedBy {
    fn from(name: String) -> Self {
        Self(Kind::Name(name.into()))
    }
}

impl fmt::Debug for IssuedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Name(name) => write!(f, "IssuedBy({:?})", Quoted(name)),
            Kind::Endpoint(endpoint) => {
                let place = endpoint
                    .place
                    .split_once(' ')
                    .map_or("", |(_, place)| place);
                f.debug_struct("IssuedBy")
                    .field("endpoint", &PrintableText(place))
                    .field("client", &endpoint.client)
                    .finish_non_exhaustive()
            }
        }
    }
}
