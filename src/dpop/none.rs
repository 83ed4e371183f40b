//! The `DpopKey` of a build without the feature `dpop`.

use std::convert::Infallible;

use http::{HeaderMap, Method, Uri};

use super::{Proof, Role};
use crate::error::TokenError;

/// A type that has no values, so code that uses one compiles to nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct DpopKey(Infallible);

impl DpopKey {
    #[cfg(any(feature = "authorization-code", feature = "token-store"))]
    pub(crate) fn thumbprint(&self) -> &str {
        match self.0 {}
    }

    pub(crate) fn algorithm_names(&self) -> &'static [&'static str] {
        match self.0 {}
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        match self.0 {}
    }

    pub(crate) fn token_hash(&self, _: &str) -> String {
        match self.0 {}
    }

    pub(crate) async fn prove(
        &self,
        _: Role,
        _: &Method,
        _: &Uri,
        _: Option<&str>,
    ) -> Result<Proof, TokenError> {
        match self.0 {}
    }

    pub(crate) async fn prove_as(
        &self,
        _: Option<&'static str>,
        _: Role,
        _: &Method,
        _: &Uri,
        _: Option<&str>,
    ) -> Result<Proof, TokenError> {
        match self.0 {}
    }

    pub(crate) fn seconds_ahead(&self, _: &Uri) -> i64 {
        match self.0 {}
    }

    pub(crate) fn note_headers(&self, _: Role, _: &Uri, _: &HeaderMap) {
        match self.0 {}
    }
}
