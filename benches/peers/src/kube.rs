//! The layer of `kube-client`, with a token from a file that is read again every minute. It uses no token endpoint: its tokens come from
//! a program or a file, so only the warm path can be compared.

use std::{env, fs, process};

use http::Uri;
use kube_client::{
    Config,
    client::{ConfigExt, middleware::AuthLayer},
};

use crate::{BoxError, endpoint::Endpoint, endpoint::parse};

/// Returns the layer, with the token that `endpoint` issues.
pub async fn layer(endpoint: &Endpoint) -> Result<AuthLayer, BoxError> {
    let (status, body) = endpoint.answer().await;
    let file = env::temp_dir().join(format!("kube-token-{}", process::id()));
    fs::write(&file, parse(status, &body)?.0)?;
    let mut config = Config::new(Uri::from_static("https://api.example"));
    config.auth_info.token_file = Some(file.to_string_lossy().into_owned());
    let layer = config.auth_layer()?;
    // The file is read when the layer is created, and again after a minute. If it is gone by then, the first token remains in use.
    fs::remove_file(file)?;
    layer.ok_or_else(|| "no layer".into())
}
