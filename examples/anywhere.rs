//! Calls an API that is known only by its URL, as an agent does:
//! `cargo run --example anywhere -- --issuer https://as.example https://api.example/mcp`.
//!
//! 1. The API demands a token. Its metadata name its authorization server, which must be the one of `--issuer`.
//! 2. The server registers this program, if it does not know it by `--client-id`.
//! 3. The user signs in with the browser, and the request is sent again with the token.
//!
//! Without a URL, it starts an API and an authorization server of its own, and plays the browser.

use std::{process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use lexopt::prelude::*;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time,
};
use tower::{Layer, ServiceExt};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, ClientMetadata, HttpsClient,
    authorization_code::AuthorizationResponse,
    authorize_anywhere::{AuthorizationUrl, AuthorizeAnywhereLayer, Identity, SignIn},
    test_util::AuthorizationServer,
};

const HELP: &str = "\
Calls an API that is known only by its URL.

  URL               the API (default: one in this program, with an authorization server)
  --issuer URL      the only authorization server that may ask the user to sign in
  --client-id ID    client id of a public client there (default: the server registers a new client)
";

/// How long the user may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anywhere: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let (mut url, mut issuer, mut client_id) = (None, None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) => url = Some(value.string()?),
            Long("issuer") => issuer = Some(parser.value()?.string()?),
            Long("client-id") => client_id = Some(parser.value()?.string()?),
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(());
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    let Some(url) = url else {
        return rehearse().await;
    };
    let issuer = issuer.ok_or("name the authorization server with --issuer")?;

    // By address, since `localhost` may be another address for the browser (RFC 8252 §8.3).
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await?);
    let redirect_uri = format!("http://{}/callback", listener.local_addr()?);
    let sign_in = SignIn::new(redirect_uri, move |url| browse(listener.clone(), url));
    let identity = match client_id {
        Some(id) => Identity::new().client(ClientAuthentication::none(id)),
        None => Identity::new().register(ClientMetadata::new().client_name("anywhere")),
    };

    let http = HttpsClient::new()?;
    let layer = AuthorizeAnywhereLayer::new(http.clone()).issuer(issuer, identity.sign_in(sign_in));
    call(layer, http, &url).await
}

/// Calls an API twice. The second call needs no sign-in.
async fn call(layer: AuthorizeAnywhereLayer, http: HttpsClient, url: &str) -> Result<(), BoxError> {
    let any_api = layer.layer(http);
    for _ in 0..2 {
        let request = Request::get(url).body(Full::<Bytes>::default())?;
        let response = any_api.clone().oneshot(request).await?;
        println!("{url} answers {}", response.status());
        let body = response.into_body().collect().await?.to_bytes();
        println!("{}", String::from_utf8_lossy(&body[..body.len().min(200)]));
    }
    Ok(())
}

/// Shows the URL, and waits for the browser to come back. The layer checks what it brings.
async fn browse(
    listener: Arc<TcpListener>,
    url: AuthorizationUrl,
) -> Result<AuthorizationResponse, BoxError> {
    let api = url.resource().unwrap_or("an API");
    println!("{api} wants you to sign in at {}", url.issuer());
    println!("open this page:\n{}", url.as_str());
    let target = time::timeout(PATIENCE, callback(&listener)).await;
    let target = target.map_err(|_| "the browser did not come back")??;
    Ok(AuthorizationResponse::from_uri(target))
}

/// Returns the target of the first request to the redirect URI.
async fn callback(listener: &TcpListener) -> Result<String, BoxError> {
    loop {
        let (stream, _) = listener.accept().await?;
        let read = time::timeout(Duration::from_secs(10), read_target(stream)).await;
        if let Ok(Ok(Some(target))) = read {
            return Ok(target);
        }
    }
}

async fn read_target(mut stream: TcpStream) -> std::io::Result<Option<String>> {
    let mut head = vec![0; 16 * 1024];
    let read = stream.read(&mut head).await?;
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let is_it = target.starts_with("/callback?");
    let (status, text) = match is_it {
        true => ("200 OK", "Go back to the terminal."),
        false => ("404 Not Found", "There is nothing here."),
    };
    let length = text.len();
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}");
    stream.write_all(answer.as_bytes()).await?;
    Ok(is_it.then(|| target.to_owned()))
}

/// The same with an API and a server in this program.
async fn rehearse() -> Result<(), BoxError> {
    println!("no URL: an API and an authorization server in this program play their roles");
    let server = AuthorizationServer::builder()
        .public_client("me")
        .start()
        .await?;
    let issuer = server.issuer();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let url = format!("{origin}/orders");
    let metadata = json!({ "resource": url, "authorization_servers": [issuer] });
    let judge = (*server).clone();
    let orders = get(move |headers: HeaderMap| async move { answer(&judge, &headers) });
    let api = Router::new().route("/orders", orders).route(
        "/.well-known/oauth-protected-resource/orders",
        get(move || async move { Json(metadata) }),
    );
    tokio::spawn(async move { axum::serve(listener, api).await });

    let user = (*server).clone();
    let sign_in = SignIn::new(
        "http://127.0.0.1:7777/callback",
        move |url: AuthorizationUrl| {
            println!(
                "the user signs in at {} for {:?}",
                url.issuer(),
                url.resource()
            );
            let returned_to = user.authorize(url.as_str());
            async move {
                let returned_to = returned_to.ok_or("the server did not redirect")?;
                Ok::<_, BoxError>(AuthorizationResponse::from_uri(returned_to))
            }
        },
    );
    let identity = Identity::new()
        .client(ClientAuthentication::none("me"))
        .sign_in(sign_in);
    let http = HttpsClient::new()?;
    let layer = AuthorizeAnywhereLayer::new(http.clone())
        .issuer(issuer, identity)
        .danger_allow_internal_addresses(); // both are on this machine
    call(layer, http, &url).await
}

fn answer(server: &AuthorizationServer, headers: &HeaderMap) -> Response {
    match server.check_bearer(headers) {
        Ok(()) => "an order for two chairs\n".into_response(),
        Err(_) => (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response(),
    }
}
