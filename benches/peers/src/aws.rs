//! The identity cache of `aws-smithy-runtime`, with an identity that is a bearer token.

use std::{sync::Arc, time::SystemTime};

use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::client::{
    identity::{
        Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
        SharedIdentityResolver, http::Token,
    },
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::config_bag::ConfigBag;
use http::HeaderValue;

use crate::{
    BoxError, Peer, bearer,
    endpoint::{Endpoint, parse},
};

#[derive(Clone)]
pub struct Aws(Arc<Inner>);

struct Inner {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    config: ConfigBag,
}

impl Aws {
    pub fn new(endpoint: &Endpoint) -> Result<Self, BoxError> {
        // The other components must be set but are not used by the cache.
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build()?;
        Ok(Self(Arc::new(Inner {
            cache: IdentityCache::lazy().build(),
            resolver: SharedIdentityResolver::new(Resolver(endpoint.clone())),
            components,
            config: ConfigBag::base(),
        })))
    }
}

impl Peer for Aws {
    async fn authorization(&self) -> Result<HeaderValue, BoxError> {
        let Inner {
            cache,
            resolver,
            components,
            config,
        } = &*self.0;
        let identity = cache.resolve_cached_identity(resolver.clone(), components, config);
        let identity = identity.await?;
        bearer(identity.data::<Token>().ok_or("not a token")?.token())
    }
}

#[derive(Debug)]
struct Resolver(Endpoint);

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(
        &'a self,
        _: &'a RuntimeComponents,
        _: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::new(async {
            let (status, body) = self.0.answer().await;
            let (token, lifetime) = parse(status, &body)?;
            let end = Some(SystemTime::now() + lifetime);
            Ok(Identity::new(Token::new(token, end), end))
        })
    }
}
