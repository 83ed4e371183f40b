//! Signs a user in with the browser and keeps the tokens fresh, as a command-line program does:
//! `cargo run --example login -- --issuer https://as.example --client-id my-cli --scope "openid offline_access"`.
//!
//! 1. It listens on a free port of this machine, and sends the browser to the authorization server (RFC 8252).
//! 2. The browser comes back with a code. The response is checked, and the code redeemed.
//! 3. From then on, the source renews its token with the refresh token.
//!
//! Without an issuer, it starts a test server of its own, plays the browser, and shows one renewal.

use std::{collections::HashSet, process::ExitCode, time::Duration};

use lexopt::prelude::*;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    time,
};
use tower_oauth2_client::{
    AddAccessTokenLayer, BoxError, ClientAuthentication, HttpsClient, TokenCache, TokenEndpoint,
    authorization_code::{
        AuthorizationErrorKind, AuthorizationRequest, AuthorizationResponse, PendingAuthorization,
    },
    test_util::AuthorizationServer,
};

const HELP: &str = "\
Signs a user in with the browser.

  --issuer URL      the authorization server (default: a test server in this program, with everything below)
  --client-id ID    client id of a public client, whose redirect URI is http://127.0.0.1/callback with any port
  --scope SCOPE     requested scope (default: openid offline_access)
  --prompt PROMPT   what the server must ask, for example `consent`
  --no-browser      print the URL instead of opening a browser
";

/// How long the user may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Options {
    issuer: Option<String>,
    client_id: String,
    scope: String,
    prompt: String,
    no_browser: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match parse_options() {
        Ok(Some(options)) => run(options).await,
        Ok(None) => {
            print!("{HELP}");
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("login: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse_options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        client_id: "my-cli".into(),
        scope: "openid offline_access".into(),
        ..Options::default()
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("issuer") => options.issuer = Some(parser.value()?.string()?),
            Long("client-id") => options.client_id = parser.value()?.string()?,
            Long("scope") => options.scope = parser.value()?.string()?,
            Long("prompt") => options.prompt = parser.value()?.string()?,
            Long("no-browser") => options.no_browser = true,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(options))
}

async fn run(options: Options) -> Result<(), BoxError> {
    let Some(issuer) = &options.issuer else {
        return rehearse(options).await;
    };
    let endpoint = TokenEndpoint::discover(
        HttpsClient::new()?,
        issuer,
        ClientAuthentication::none(options.client_id.clone()),
    );
    let tokens = TokenCache::builder(endpoint.clone())
        .on_refresh_token(|_, _| async {
            println!("a new refresh token: a real program would store it in the keychain");
        })
        .build();
    let no_browser = options.no_browser;
    let source = sign_in(&endpoint, &tokens, &options, |url| open(url, no_browser)).await?;

    // The first call redeems the code. Later calls use the refresh token, once a renewal is due.
    let token = source.token().await?;
    println!(
        "signed in: an access token of {} characters",
        token.expose_secret().len()
    );
    // For the calls of an API:
    let _layer = AddAccessTokenLayer::new(source).origin("https://api.example")?;
    Ok(())
}

/// Signs a user in. `browse` opens the URL.
async fn sign_in<S>(
    endpoint: &TokenEndpoint<S>,
    tokens: &TokenCache,
    options: &Options,
    browse: impl FnOnce(String),
) -> Result<tower_oauth2_client::TokenSource, BoxError>
where
    S: tower_oauth2_client::HttpService<http_body_util::Full<bytes::Bytes>>,
{
    // By address, since `localhost` may be another address for the browser (RFC 8252 §8.3).
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let redirect_uri = format!("http://{}/callback", listener.local_addr()?);
    let request = AuthorizationRequest::new(redirect_uri)
        .scope(&*options.scope)
        .prompt(&*options.prompt);
    let (url, pending) = endpoint.begin_authorization(request).await?;
    browse(url);
    let response = time::timeout(PATIENCE, wait_for_browser(&listener, pending));
    let request = response
        .await
        .map_err(|_| "the browser did not come back")??;
    Ok(tokens.source(request))
}

/// Answers the browser until it brings a response to this sign-in.
///
/// A browser also opens connections that it does not use, and asks for an icon. Other programs on this machine can connect as well.
async fn wait_for_browser(
    listener: &TcpListener,
    mut pending: PendingAuthorization,
) -> Result<tower_oauth2_client::TokenRequest, BoxError> {
    let (sender, mut targets) = tokio::sync::mpsc::channel(8);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let sender = sender.clone();
                tokio::spawn(async move {
                    let read = time::timeout(Duration::from_secs(10), read_target(stream));
                    if let Ok(Ok(request)) = read.await {
                        let _ = sender.send(request).await;
                    }
                });
            }
            Some((target, stream)) = targets.recv() => {
                if !target.starts_with("/callback") {
                    reply(stream, "404 Not Found", "There is nothing here.").await;
                    continue;
                }
                match pending.accept(&AuthorizationResponse::from_uri(target)) {
                    Ok(request) => {
                        reply(stream, "200 OK", "You are signed in. You can close this page.").await;
                        return Ok(request);
                    }
                    Err(error) if error.kind() == AuthorizationErrorKind::StateMismatch => {
                        reply(stream, "400 Bad Request", "This is not the sign-in that was started.").await;
                    }
                    Err(error) => {
                        reply(stream, "400 Bad Request", "The sign-in failed. See the terminal.").await;
                        return Err(error.into());
                    }
                }
            }
        }
    }
}

/// Reads the target of a `GET`: path and query. The request is limited to 16 KiB.
async fn read_target(mut stream: TcpStream) -> Result<(String, TcpStream), BoxError> {
    let mut lines = BufReader::new((&mut stream).take(16 * 1024)).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    while lines
        .next_line()
        .await?
        .is_some_and(|line| !line.is_empty())
    {}
    match first.split(' ').collect::<Vec<_>>()[..] {
        ["GET", target, _] => Ok((target.to_owned(), stream)),
        _ => Err("not a GET request".into()),
    }
}

async fn reply(mut stream: TcpStream, status: &str, text: &str) {
    let head = "content-type: text/plain; charset=utf-8\r\nconnection: close";
    let response = format!(
        "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{text}\n",
        text.len() + 1
    );
    // The response has been accepted, even if the browser is gone.
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn open(url: String, no_browser: bool) {
    println!("open this page to sign in:\n{url}");
    if no_browser {
        return;
    }
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    // Without a browser here, the user opens the page.
    let _ = Command::new(program).arg(url).spawn();
}

/// The same against a test server, whose user agrees to everything.
async fn rehearse(options: Options) -> Result<(), BoxError> {
    println!(
        "no issuer: a test server in this program, whose tokens are valid for two seconds, plays all roles"
    );
    let server = AuthorizationServer::builder()
        .public_client(&*options.client_id)
        .access_token_lifetime(Duration::from_secs(2))
        .start()
        .await?;
    let endpoint = TokenEndpoint::discover(
        HttpsClient::new()?,
        server.issuer(),
        ClientAuthentication::none(options.client_id.clone()),
    );
    let tokens = TokenCache::new(endpoint.clone());
    let user = (*server).clone();
    let browse = move |url: String| {
        println!("the browser opens {url}");
        tokio::spawn(async move { play_browser(&user, &url).await.expect("the browser failed") });
    };
    let source = sign_in(&endpoint, &tokens, &options, browse).await?;

    let mut seen = HashSet::new();
    while seen.len() < 3 {
        let token = source.token().await?;
        if seen.insert(token.expose_secret().to_owned()) {
            println!("access token {}", seen.len());
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    let grants = server.requests();
    let grants: Vec<_> = grants
        .iter()
        .filter_map(|request| request.get("grant_type"))
        .collect();
    println!("token requests: {grants:?}");
    assert_eq!(grants[..2], ["authorization_code", "refresh_token"]);
    Ok(())
}

/// Does what a browser does, with a connection that it does not use, a request for an icon, and another program that guesses.
async fn play_browser(server: &AuthorizationServer, url: &str) -> Result<(), BoxError> {
    let back = server.authorize(url).ok_or("the server did not redirect")?;
    let (address, target) = back
        .strip_prefix("http://")
        .and_then(|rest| rest.split_at_checked(rest.find('/')?))
        .ok_or("another redirect URI")?;
    let _unused = TcpStream::connect(address).await?;
    for (target, expected) in [
        ("/favicon.ico", "404"),
        ("/callback?code=guess&state=guess", "400"),
        (target, "200"),
    ] {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        println!(
            "the browser gets: {}",
            page.lines().last().unwrap_or_default()
        );
        assert!(page.contains(expected), "{page}");
    }
    Ok(())
}
