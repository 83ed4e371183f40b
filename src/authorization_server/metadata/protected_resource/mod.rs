//! `ProtectedResource`: the metadata of an API, which name its authorization servers (RFC 9728).

mod discover;
mod guards;

use std::fmt;

use http::Uri;
use serde_json::Value;

pub use self::discover::DiscoverProtectedResource;
pub(crate) use self::guards::contains;
use super::{fetch::Rules, lists::Lists, members::Members, unusable::Unusable};
use crate::base::{Quoted, uri::PrintableText};

/// The metadata of a protected resource, an API
/// ([RFC 9728 §2](https://www.rfc-editor.org/rfc/rfc9728#section-2)): where a client gets tokens for it.
///
/// [`discover`](Self::discover) fetches it.
///
/// # Security
///
/// The API writes this document, and anybody can run an API. What is checked is that the API does not speak for another origin, and does
/// not name servers that are unreachable for others. Whether a client may show its credentials to an authorization server is for you to
/// decide: compare [`authorization_servers`](Self::authorization_servers) with a list of your own.
///
/// `signed_metadata` is not read.
///
/// # Examples
///
/// ```
/// use tower_oauth2_client::ProtectedResource;
///
/// /// Returns an authorization server of the resource at which the client has an identity.
/// fn known_issuer<'a>(resource: &'a ProtectedResource, known: &[&str]) -> Option<&'a str> {
///     let mut issuers = resource.authorization_servers().iter();
///     issuers.find(|issuer| known.contains(&issuer.as_str())).map(String::as_str)
/// }
/// ```
#[derive(Clone)]
pub struct ProtectedResource {
    resource: Box<str>,
    authorization_servers: Vec<String>,
    lists: Lists,
    json: Value,
}

impl ProtectedResource {
    /// Reads the document of the resource at `url`.
    fn parse(document: &[u8], url: &Uri, rules: Rules) -> Result<Self, Unusable> {
        let Members {
            values: members,
            repeated,
        } = Members::of_resource(document).ok_or_else(|| Unusable::no_object(document))?;
        let resource: Box<str> = match members.get("resource") {
            Some(Value::String(resource)) => resource.as_str().into(),
            Some(_) => return Err(Unusable::Wrong("its `resource` is not a string".into())),
            None => return Err(Unusable::NoDocument("the response names no `resource`")),
        };
        if let Some(name) = repeated {
            return Err(Unusable::repeated(&name));
        }
        guards::check_resource(url, &resource).map_err(|why| {
            Unusable::Wrong(format!("its `resource`, `{}`, {why}", Quoted(&resource)))
        })?;
        let json = Value::Object(members);
        let lists = Lists::of(&json, &LISTS);
        let issuers = match (
            json.get(AUTHORIZATION_SERVERS),
            lists.get(AUTHORIZATION_SERVERS),
        ) {
            (None | Some(Value::Null), _) => &[],
            (_, Some(issuers)) => issuers,
            _ => {
                let why = "its `authorization_servers` is not a list";
                return Err(Unusable::Wrong(why.into()));
            }
        };
        Ok(Self {
            authorization_servers: guards::usable_issuers(issuers, rules)
                .map_err(Unusable::Wrong)?,
            resource,
            lists,
            json,
        })
    }

    /// Returns the resource indicator, exactly as the API writes it
    /// ([RFC 8707](https://www.rfc-editor.org/rfc/rfc8707)).
    ///
    /// Add it to each token request: [`TokenRequest::resource`](crate::TokenRequest::resource).
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Returns the issuers of the authorization servers, in the order of the API.
    ///
    /// Issuers that must not be used are left out. If the API names only such issuers, [`discover`](Self::discover) fails. It is empty
    /// if the API names none.
    #[must_use]
    pub fn authorization_servers(&self) -> &[String] {
        &self.authorization_servers
    }

    /// Returns the words of a scope that are used to request access, if the API lists them.
    #[must_use]
    pub fn scopes_supported(&self) -> Option<&[String]> {
        self.lists.get("scopes_supported")
    }

    /// Returns how a token can be presented, if the API lists it: `header`, `body` or `query`.
    #[must_use]
    pub fn bearer_methods_supported(&self) -> Option<&[String]> {
        self.lists.get("bearer_methods_supported")
    }

    /// Returns the types of `authorization_details` that the API supports, if it lists them.
    #[must_use]
    pub fn authorization_details_types_supported(&self) -> Option<&[String]> {
        self.lists.get("authorization_details_types_supported")
    }

    /// Returns the algorithms (`alg`) of DPoP proofs that the API accepts, if it lists them.
    #[must_use]
    pub fn dpop_signing_alg_values_supported(&self) -> Option<&[String]> {
        self.lists.get("dpop_signing_alg_values_supported")
    }

    /// Returns whether the API accepts only tokens that are bound to a key ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)).
    ///
    /// `false` if the API does not say so.
    #[must_use]
    pub fn dpop_bound_access_tokens_required(&self) -> bool {
        self.flag("dpop_bound_access_tokens_required")
    }

    /// Returns whether the API supports tokens that are bound to a TLS certificate
    /// ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)). `false` if the API does not say so.
    #[must_use]
    pub fn tls_client_certificate_bound_access_tokens(&self) -> bool {
        self.flag("tls_client_certificate_bound_access_tokens")
    }

    /// Returns any member, unchanged.
    ///
    /// # Security
    ///
    /// The member is not checked.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json.get(name)
    }

    /// Returns the whole document, a JSON object.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }
}

impl fmt::Debug for ProtectedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers = self.authorization_servers.iter();
        let issuers: Vec<_> = issuers.map(|issuer| PrintableText(issuer)).collect();
        f.debug_struct("ProtectedResource")
            .field("resource", &PrintableText(&self.resource))
            .field("authorization_servers", &issuers)
            .finish_non_exhaustive()
    }
}

const AUTHORIZATION_SERVERS: &str = "authorization_servers";

/// The members that have an accessor for their strings.
const LISTS: [&str; 5] = [
    AUTHORIZATION_SERVERS,
    "authorization_details_types_supported",
    "bearer_methods_supported",
    "dpop_signing_alg_values_supported",
    "scopes_supported",
];
