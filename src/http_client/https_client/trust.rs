//! Which servers are trusted, and the TLS configuration for it.

use std::{io, sync::Arc};

use hyper_rustls::ConfigBuilderExt;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, client::WantsClientCert,
    crypto::aws_lc_rs,
};

use crate::http_client::root_certificates::RootCertificates;

pub(super) enum Trust {
    Fixed(ConfigBuilder<ClientConfig, WantsClientCert>),
    /// `fixed` and `replaceable` are both trusted.
    Replaceable {
        tls: ConfigBuilder<ClientConfig, WantsVerifier>,
        fixed: RootCertStore,
        replaceable: RootCertificates,
    },
}

impl Trust {
    /// Trusts the given certificates, or those of the operating system if there are none.
    pub(super) fn new(
        fixed: Option<RootCertStore>,
        replaceable: Option<RootCertificates>,
    ) -> io::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        Ok(match (fixed, replaceable) {
            (None, None) => Self::Fixed(tls.with_native_roots()?),
            (Some(fixed), None) => Self::Fixed(tls.with_root_certificates(fixed)),
            (fixed, Some(replaceable)) => Self::Replaceable {
                tls,
                fixed: fixed.unwrap_or_else(RootCertStore::empty),
                replaceable,
            },
        })
    }

    /// Returns how often the root certificates have changed.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Fixed(_) => 0,
            Self::Replaceable { replaceable, .. } => replaceable.current().generation,
        }
    }

    /// Returns the generation of the root certificates, and a configuration without a client certificate that trusts them.
    pub(super) fn tls(&self) -> (u64, ClientConfig) {
        match self {
            Self::Fixed(tls) => (0, tls.clone().with_no_client_auth()),
            Self::Replaceable {
                tls,
                fixed,
                replaceable,
            } => {
                let current = replaceable.current();
                let mut roots = fixed.clone();
                roots.roots.extend(current.store.roots.iter().cloned());
                let tls = tls.clone().with_root_certificates(roots);
                (current.generation, tls.with_no_client_auth())
            }
        }
    }
}
