//! What the metadata of an API say about where to get tokens.

use std::sync::{Arc, atomic::Ordering};

use http::{StatusCode, Uri};

use super::{
    error::{Failure, NotAuthorizedKind as Kind},
    http::ErasedHttp,
    table::OfOrigin,
};
use crate::{
    authorization_server::metadata::{ProtectedResource, resource_contains},
    base::origin::Origin,
    error::TokenError,
    message::Challenge,
};

/// See the [module](self).
pub(super) enum Discovered {
    Metadata(ProtectedResource),
    /// The API has no metadata, and its origin is taken for the issuer.
    Nothing {
        origin: [String; 1],
    },
}

/// What is allowed.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    pub(super) internal_addresses: bool,
    pub(super) no_metadata: bool,
}

impl Discovered {
    /// Fetches the metadata of the API at `url`.
    pub(super) async fn fetch(
        http: ErasedHttp,
        url: &Uri,
        challenges: &[Challenge],
        origin: &OfOrigin,
        allowed: Allowed,
    ) -> Result<Self, Failure> {
        let mut discovery = ProtectedResource::discover(http, url).challenges(challenges);
        if allowed.internal_addresses {
            discovery = discovery.danger_allow_internal_addresses();
        }
        let error = match discovery.await {
            Ok(resource) => {
                origin.has_metadata.store(true, Ordering::Relaxed);
                return Ok(Self::Metadata(resource));
            }
            Err(error) => error,
        };
        let is_named = challenges.iter().any(|it| it.resource_metadata().is_some());
        let had_metadata = origin.has_metadata.load(Ordering::Relaxed);
        if allowed.no_metadata
            && !is_named
            && !had_metadata
            && is_absent(&error)
            && let Some(origin) = Origin::of(url)
        {
            let origin = [origin.to_string()];
            return Ok(Self::Nothing { origin });
        }
        let message = "its metadata, which name its authorization servers, cannot be used";
        Err(Failure::new(Kind::Discovery, message).caused_by(error))
    }

    /// Checks that the resource contains the URL of the request.
    pub(super) fn containing(self, url: &Uri) -> Result<Self, Failure> {
        match resource_contains(url, self.name()) {
            true => Ok(self),
            false => Err(Failure::new(
                Kind::Discovery,
                "its metadata are now those of a resource that does not contain it",
            )),
        }
    }

    /// Returns the name of the resource in the table.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Metadata(resource) => resource.resource(),
            Self::Nothing { origin: [origin] } => origin,
        }
    }

    pub(super) fn issuers(&self) -> &[String] {
        match self {
            Self::Metadata(resource) => resource.authorization_servers(),
            Self::Nothing { origin } => origin,
        }
    }

    pub(super) fn metadata(&self) -> Option<&ProtectedResource> {
        match self {
            Self::Metadata(resource) => Some(resource),
            Self::Nothing { .. } => None,
        }
    }

    /// Returns the resource indicator.
    pub(super) fn indicator(&self) -> Option<Arc<str>> {
        Some(self.metadata()?.resource().into())
    }
}

/// Whether the server says that there is no such document.
pub(super) fn is_absent(error: &TokenError) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}
