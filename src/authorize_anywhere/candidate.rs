//! `IssuerCandidate`: an authorization server that an API names, about which the user decides.

use std::fmt;

use crate::{authorization_server::metadata::ServerMetadata, base::uri::PrintableText};

/// An authorization server that an API names. See
/// [`AuthorizeAnywhereLayer::identity_for`](super::AuthorizeAnywhereLayer::identity_for).
#[derive(Clone, Copy)]
pub struct IssuerCandidate<'a> {
    pub(super) issuer: &'a str,
    pub(super) resource: Option<&'a str>,
    pub(super) metadata: Option<&'a ServerMetadata>,
}

impl<'a> IssuerCandidate<'a> {
    /// Returns the issuer, as its server writes it.
    #[must_use]
    pub fn issuer(&self) -> &'a str {
        self.issuer
    }

    /// Returns the API that names the issuer, as it names itself. `None` if it has no metadata.
    #[must_use]
    pub fn resource(&self) -> Option<&'a str> {
        self.resource
    }

    /// Returns the metadata of the issuer, which are from its own origin. `None` if it has none.
    #[must_use]
    pub fn metadata(&self) -> Option<&'a ServerMetadata> {
        self.metadata
    }
}

impl fmt::Debug for IssuerCandidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerCandidate")
            .field("issuer", &PrintableText(self.issuer))
            .field("resource", &self.resource.map(PrintableText))
            .finish_non_exhaustive()
    }
}
