//! The metadata of an issuer, which name its endpoints (RFC 8414, OpenID Connect Discovery 1.0).

mod accessors;
mod check_method;
mod discovery;
mod fetch;
mod members;
mod search;
mod server_metadata;
mod well_known;

pub use self::server_metadata::ServerMetadata;
pub(crate) use self::{
    check_method::{AlgorithmNames, AuthenticationLists, ListedNames, check_method, listed_names},
    discovery::Discovery,
    fetch::{Http, Rules},
    members::{RawMembers, first_repeated},
};
