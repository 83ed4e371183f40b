//! The metadata of an issuer, which name its endpoints (RFC 8414, OpenID Connect Discovery 1.0), and of
//! a protected resource, which name its issuers (RFC 9728).

mod accessors;
mod check_method;
mod choose_client;
mod discovery;
mod fetch;
mod freshness;
mod held;
mod lists;
mod members;
mod protected_resource;
mod search;
mod server_metadata;
mod unusable;
mod well_known;

pub(crate) use self::{
    check_method::{AlgorithmNames, AuthenticationLists, ListedNames, check_method, listed_names},
    discovery::Discovery,
    fetch::{Http, Rules},
    members::{RawMembers, first_repeated},
    protected_resource::contains as resource_contains,
    well_known::is_same_issuer,
};
pub use self::{
    protected_resource::{DiscoverProtectedResource, ProtectedResource},
    server_metadata::ServerMetadata,
};
