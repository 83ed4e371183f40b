//! The layer that `kube-client` puts over its HTTP client, for a token that lies in a file and is read again each minute. It asks no
//! token endpoint: a program or a file brings its tokens, so it has a warm path and nothing else to compare.

use std::{env, fs, process};

use http::Uri;
use kube_client::{
    Config,
    client::{ConfigExt, middleware::AuthLayer},
};

use crate::{BoxError, endpoint::Endpoint, endpoint::parse};

/// The layer over the token that `endpoint` gives out.
pub async fn layer(endpoint: &Endpoint) -> Result<AuthLayer, BoxError> {
    let (status, body) = endpoint.answer().await;
    let file = env::temp_dir().join(format!("kube-token-{}", process::id()));
    fs::write(&file, parse(status, &body)?.0)?;
    let mut config = Config::new(Uri::from_static("https://api.example"));
    config.auth_info.token_file = Some(file.to_string_lossy().into_owned());
    let layer = config.auth_layer()?;
    // It is read when the layer is made, and again after a minute; if it is not there then, the token that was read stays.
    fs::remove_file(file)?;
    layer.ok_or_else(|| "no layer".into())
}
