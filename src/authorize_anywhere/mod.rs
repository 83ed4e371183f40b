//! A layer that obtains a token for any API that demands one: the client knows a URL, and who it is at which authorization server.
//!
//! [`AuthorizeAnywhereLayer`] wraps an outbound client. It is for programs that call APIs which they do not know when they are written, such
//! as agents and clients of the Model Context Protocol. If you know your authorization server, use
//! [`AddAccessTokenLayer`](crate::AddAccessTokenLayer): it asks nobody where to go. There is a [guide](crate::_documentation::anywhere).
//!
//! # The way to a token
//!
//! 1. A request to an API that is not known goes out without a token. A 401 with a `Bearer` or `DPoP` challenge demands one.
//! 2. The metadata of the API ([RFC 9728](https://www.rfc-editor.org/rfc/rfc9728)) name its authorization servers and its resource indicator.
//!    See [`ProtectedResource::discover`](crate::ProtectedResource::discover) for what is believed.
//! 3. The first of these servers is used for which you allow an [`Identity`], by [`issuer`](AuthorizeAnywhereLayer::issuer) or
//!    [`identity_for`](AuthorizeAnywhereLayer::identity_for). Its metadata decide on the client, on how the client authenticates, and on the
//!    grant. If necessary and allowed, a client is registered.
//! 4. The scope is that of the challenge, otherwise what the API lists, otherwise none. `offline_access` is requested for users, where the
//!    server lists it.
//! 5. The token is bound to the key of the identity if the API demands that.
//! 6. The request is resent with the token, and so are later requests to the resource: to its origin, and to its path or below.
//!
//! Each token request names the resource ([RFC 8707](https://www.rfc-editor.org/rfc/rfc8707)), byte for byte as the API writes it, and so does
//! each authorization request and each refresh. A [`TokenCache`](crate::TokenCache) has one token for each issuer, client, resource and scope,
//! and renews it before it expires. What [`AddAccessToken`](crate::AddAccessToken) does holds here, too: a refused token is dropped and
//! replaced, and the nonces of DPoP are used.
//!
//! A request that has an `Authorization` header, the mark [`NoAccessToken`](crate::NoAccessToken), or a source or a token request in its
//! extensions is left alone.
//!
//! # What later responses do
//!
//! | the response | what happens |
//! |---|---|
//! | `insufficient_scope` with a `scope` that was not requested | an authorization with the union of both |
//! | `insufficient_scope` with nothing new | the caller gets the response |
//! | the token is refused, and so is its replacement, if there can be one | the metadata of the API are read again |
//! | … and they name another issuer | an authorization there, if it is allowed. Nothing is carried across: no token, no refresh token, no client, no scope |
//! | … and they name the same issuer, and a user had signed in | the user signs in again, if the API has accepted a token of the last sign-in |
//! | … otherwise | the caller gets the response |
//! | the cache cannot renew the token ([`SignInRequired`](crate::TokenErrorKind::SignInRequired)) | the same as after a refusal |
//!
//! If a token is demanded that cannot be obtained, the caller gets a [`NotAuthorized`] with the challenges of the API. It is the same error
//! the first time and later, whether a token was missing, was refused or has expired.
//!
//! # Limits
//!
//! * A request causes at most [three](AuthorizeAnywhereLayer::max_rounds) authorizations.
//! * Three authorizations for a resource may follow each other. Then pauses of 5 seconds follow, which double up to 5 minutes, and after
//!   each failure as well. Ten minutes without an authorization end them.
//! * The same holds for the requests to a path, whatever the API says which resource it is. An API can say that each of its URLs is a
//!   resource of its own, so a program that calls many URLs of an API may cause an authorization for each.
//! * Requests that demand the same at the same time share one authorization.
//! * At most 1024 origins and 1024 issuers are remembered, and 256 resources of an origin. A scope has at most 64 words.
//!
//! # Security
//!
//! An API is not trusted, and neither is an authorization server for which you return no identity.
//!
//! * A token goes to the resource that it was requested for, and nowhere else: not to another origin, not to another path beside it.
//! * An API at a path of an origin can say that it is the whole origin, and then gets tokens for it. If APIs of several owners share an origin,
//!   decide by [`IssuerCandidate::resource`].
//! * The server must restrict a token to the resource that is named. If it ignores the resource indicator, the token is good for its other APIs,
//!   too, and a hostile API that names this server gets it. [`identity_for`](AuthorizeAnywhereLayer::identity_for) can decide by the resource.
//! * An authorization server gets the identity that you allow for it. It gets it because an API names it, so an API can make this client
//!   authenticate at the servers that you allow, and open the browser of a user there.
//! * Every address that an API or a server names must be `https` and must not be on this machine or in a private network, by its text. A public
//!   name can still have a private address: only the HTTP client can refuse that. See
//!   [`danger_allow_internal_addresses`](AuthorizeAnywhereLayer::danger_allow_internal_addresses).
//! * The `iss` of the response to a sign-in must be exactly the issuer.

// The way of a response through the files of this module:
//
//   service            sends a request, with the token of `table` or without one
//   demand, question   What does the response demand?
//      │
//   authorizer         one round: limits (`rounds`) and single flight (`table`), then
//      ├─ discovered       the metadata of the API
//      ├─ choose_server    which server, and which identity there
//      ├─ scope_choice     which scope
//      ├─ step             Does another authorization help?
//      └─ obtain           the client (`server`, `registration`), the grant (`sign_in`, `identity_provider`), the source (`by_issuer`)

mod authorizer;
mod by_issuer;
mod candidate;
mod choose_server;
mod demand;
mod discovered;
mod error;
mod http;
mod identity;
mod identity_provider;
mod layer;
mod obtain;
mod question;
mod registration;
mod rounds;
mod scope_choice;
mod server;
mod service;
#[cfg(feature = "authorization-code")]
mod sign_in;
mod step;
mod table;

#[cfg(feature = "authorization-code")]
#[cfg_attr(docsrs, doc(cfg(feature = "authorization-code")))]
pub use self::sign_in::{AuthorizationUrl, SignIn};
pub use self::{
    candidate::IssuerCandidate,
    error::{NotAuthorized, NotAuthorizedKind},
    identity::Identity,
    identity_provider::IdentityProvider,
    layer::AuthorizeAnywhereLayer,
    service::AuthorizeAnywhere,
};
