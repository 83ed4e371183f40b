//! The login of a command-line program, which has no browser: the user enters a code elsewhere (RFC 8628).
//!
//! ```text
//! cargo run --example device                        against a server that this example starts
//! cargo run --example device -- ISSUER CLIENT_ID    against a real one
//! ```
//!
//! Without arguments, the user is staged: the server approves the request by itself at the third poll. Then the program starts again, and
//! needs no user, because it has stored the refresh token.

use std::{
    env,
    fmt::Display,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use tower::ServiceExt;
use tower_oauth2_client::{
    BoxError, ClientAuthentication, Credential, DeviceAuthorizationRequest, HttpsClient,
    RefreshToken, TokenCache, TokenEndpoint, TokenErrorKind, TokenRequest, TokenSource,
    test_util::AuthorizationServer,
};

/// A program only needs this function, and those that it calls.
async fn sign_in(
    endpoint: TokenEndpoint<HttpsClient>,
    file: PathBuf,
) -> Result<TokenSource, BoxError> {
    let stored = file.clone();
    let tokens = TokenCache::builder(endpoint.clone())
        // Called with each new refresh token, before the access token that came with it is used.
        .on_refresh_token(move |_: TokenRequest, token| store(stored.clone(), token))
        .build();

    // A user who has signed in before stays signed in. The file is read for each request, because another process of this program may
    // have replaced the refresh token.
    if file.exists() {
        let request = TokenRequest::refresh_token(Credential::file(&file));
        let source = tokens.source(request);
        match source.warm_up().await {
            Ok(()) => return Ok(source),
            Err(error) if error.kind() == TokenErrorKind::SignInRequired => {}
            Err(error) => return Err(error.into()),
        }
    }

    // Many servers issue a refresh token only for this scope.
    let request = DeviceAuthorizationRequest::new().scope("openid offline_access");
    let device = endpoint.device_authorization().oneshot(request).await?;
    println!(
        "To sign in, open {} and enter the code {}.",
        device.verification_uri(),
        device.user_code()
    );
    if let Some(uri) = device.verification_uri_complete() {
        println!("Or open {uri}"); // or print it as a QR code
    }

    let source = tokens.source(device.token_request());
    source.wait_for_user().await?;
    Ok(source)
}

async fn store(file: PathBuf, token: RefreshToken) {
    // The user is signed in even if this fails, but has to sign in again next time.
    if let Err(error) = write_private(&file, token.expose_secret()) {
        eprintln!("{} was not written: {error}", file.display());
    }
}

/// Replaces a file that only its owner can read. It is never partly written.
fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let new = file.with_extension(format!("new-{}", process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&new).and_then(|mut opened| {
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&new, file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &*arguments {
        [issuer, client_id] => {
            let file = state_file()?;
            let source = sign_in(endpoint(issuer, client_id)?, file).await?;
            show(&source).await
        }
        [] => staged().await,
        _ => Err("usage: device [ISSUER CLIENT_ID]".into()),
    }
}

fn endpoint(issuer: impl Display, client_id: &str) -> Result<TokenEndpoint<HttpsClient>, BoxError> {
    // A program that its users install cannot keep a secret.
    let client = ClientAuthentication::none(client_id.to_owned());
    Ok(TokenEndpoint::discover(HttpsClient::new()?, issuer, client))
}

fn state_file() -> Result<PathBuf, BoxError> {
    let home = env::var_os("HOME").ok_or("HOME is not set")?;
    Ok(Path::new(&home).join(".local/state/device-example/refresh-token"))
}

async fn show(source: &TokenSource) -> Result<(), BoxError> {
    let token = source.token().await?;
    println!(
        "Signed in. The access token has {} characters.",
        token.expose_secret().len()
    );
    Ok(())
}

/// Two runs of the program against a server of this example.
async fn staged() -> Result<(), BoxError> {
    let server = AuthorizationServer::builder()
        .public_client("my-cli")
        .polling_interval(Duration::from_secs(1))
        .approve_after_polls(2)
        .start()
        .await?;
    let folder = env::temp_dir().join(format!("device-example-{}", process::id()));
    let file = folder.join("refresh-token");
    println!("The server approves the request at the third poll, in place of a user.");

    for run in ["first", "second"] {
        println!("\n{run} run:");
        let source = sign_in(endpoint(server.issuer(), "my-cli")?, file.clone()).await?;
        show(&source).await?;
        println!("The refresh token is in {}.", file.display());
    }
    fs::remove_dir_all(folder)?;

    let paths: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.path().to_owned())
        .collect();
    let logins = paths.iter().filter(|path| *path == "/device_authorization");
    println!("\nThe user was asked {} time(s).", logins.count());
    Ok(())
}
