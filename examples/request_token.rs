//! Requests a token from any server: `cargo run --example request_token -- --token-url https://as.example/token --client-id me`.
//!
//! Some options can also be set in the environment: TOKEN_URL, CLIENT_ID, CLIENT_SECRET, SCOPE.

use std::{env, ffi::OsString, process::ExitCode, time::Duration};

use http::Uri;
use lexopt::prelude::*;
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, HttpsClient, TokenEndpoint, TokenError, TokenRequest,
    TokenResponse, token_endpoint::RetryTransient,
};

const HELP: &str = "\
Requests a token and prints the response.

  --token-url URL       URL of the token endpoint     (or TOKEN_URL)
  --client-id ID        client id                     (or CLIENT_ID)
  --client-secret TEXT  client secret                 (or CLIENT_SECRET, which process lists do not show)
  --auth METHOD         basic, basic-raw, post, none  (default: basic with a secret, otherwise none)
  --scope SCOPE         requested scope               (or SCOPE)
  --param NAME=VALUE    additional parameter; may be repeated; `grant_type=...` chooses the grant
                        (default: client_credentials)
  --show                print the whole response, including tokens
";

/// Fields that no RFC considers secret. Of all others, only the length is shown.
const SHOWN: [&str; 8] = [
    "token_type",
    "expires_in",
    "refresh_in",
    "scope",
    "issued_token_type",
    "error",
    "error_description",
    "error_uri",
];

struct Options {
    token_url: Uri,
    client: ClientAuthentication,
    request: TokenRequest,
    show: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match parse_options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("request_token: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let show = options.show;
    match request_token(options).await {
        Ok(response) => {
            print_response(&response, show);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn request_token(options: Options) -> Result<TokenResponse, BoxError> {
    let endpoint = TokenEndpoint::new(HttpsClient::new()?, options.token_url, options.client);
    ServiceBuilder::new()
        .retry(RetryTransient::new())
        .timeout(Duration::from_secs(10))
        .service(endpoint)
        .oneshot(options.request)
        .await
}

fn print_response(response: &TokenResponse, show: bool) {
    println!("request_token: the token endpoint has issued a token");
    println!("status: {}", response.status());
    for (name, value) in response.json().as_object().into_iter().flatten() {
        if show || SHOWN.contains(&&**name) {
            println!("{}: {}", printable(name), printable(&value.to_string()));
        } else {
            let length = match value.as_str() {
                Some(text) => text.chars().count(),
                None => value.to_string().chars().count(),
            };
            let name = printable(name);
            println!("{name}: [{length} characters; --show prints them]");
        }
    }
}

/// Replaces control characters, so that text from a server cannot control the terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Prints the error and its sources. The message of a [`TokenError`] already says what to do.
fn print_error(error: &BoxError) {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    let mut indent = "request_token: ";
    while let Some(error) = source {
        eprintln!("{indent}{error}");
        indent = "  because: ";
        source = error.source();
    }
    if let Some(wait) = TokenError::find_in_chain(&**error).and_then(TokenError::retry_after) {
        eprintln!("the server asks to wait {} seconds", wait.as_secs());
    }
}

fn parse_options() -> Result<Option<Options>, BoxError> {
    let mut token_url = from_environment("TOKEN_URL")?;
    let mut client_id = from_environment("CLIENT_ID")?;
    let mut client_secret = from_environment("CLIENT_SECRET")?;
    let mut scope = from_environment("SCOPE")?;
    let (mut method, mut parameters, mut show) = (None, Vec::new(), false);

    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next().map_err(describe)? {
        let flag = match argument {
            Long(name) => format!("--{name}"),
            Short('h') => "--help".to_owned(),
            other => return Err(describe(other.unexpected()).into()),
        };
        if flag == "--help" {
            return Ok(None);
        }
        if flag == "--show" {
            show = true;
            continue;
        }
        let slot = match &*flag {
            "--token-url" => &mut token_url,
            "--client-id" => &mut client_id,
            "--client-secret" => &mut client_secret,
            "--scope" => &mut scope,
            "--auth" => &mut method,
            "--param" => {
                let pair = text(arguments.value().map_err(describe)?, &flag)?;
                let (name, value) = pair.split_once('=').ok_or("--param requires NAME=VALUE")?;
                parameters.push((name.to_owned(), value.to_owned()));
                continue;
            }
            _ => return Err(format!("unknown option {flag}").into()),
        };
        *slot = Some(text(arguments.value().map_err(describe)?, &flag)?);
    }

    let token_url = token_url
        .ok_or("--token-url is missing")?
        .parse()
        .map_err(|error| format!("--token-url: {error}"))?;
    let client_id = client_id.ok_or("--client-id is missing")?;
    let client = client_authentication(method.as_deref(), client_id, client_secret)?;

    let grant_type = match parameters.iter().position(|(name, _)| name == "grant_type") {
        Some(index) => parameters.remove(index).1,
        None => "client_credentials".to_owned(),
    };
    let mut request = TokenRequest::extension(grant_type).scope(scope.unwrap_or_default());
    for (name, value) in parameters {
        request = request.repeated_parameter(name, value);
    }
    Ok(Some(Options {
        token_url,
        client,
        request,
        show,
    }))
}

fn from_environment(name: &str) -> Result<Option<String>, String> {
    match env::var_os(name).filter(|value| !value.is_empty()) {
        Some(value) => text(value, name).map(Some),
        None => Ok(None),
    }
}

fn text(value: OsString, name: &str) -> Result<String, String> {
    let text = value.into_string();
    text.map_err(|_| format!("{name}: the value is not UTF-8"))
}

/// lexopt's own messages would quote the value, which may be a misplaced secret.
fn describe(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::MissingValue {
            option: Some(option),
        } => format!("{option} requires a value"),
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        lexopt::Error::UnexpectedOption(option) => format!("unknown option {option}"),
        lexopt::Error::UnexpectedArgument(_) => "a value without an option".to_owned(),
        _ => "the arguments cannot be read".to_owned(),
    }
}

fn client_authentication(
    method: Option<&str>,
    id: String,
    secret: Option<String>,
) -> Result<ClientAuthentication, BoxError> {
    let method = method.unwrap_or(if secret.is_some() { "basic" } else { "none" });
    let with_secret = match method {
        "none" => return Ok(ClientAuthentication::none(id)),
        "basic" => ClientAuthentication::client_secret_basic,
        "basic-raw" => ClientAuthentication::client_secret_basic_raw,
        "post" => ClientAuthentication::client_secret_post,
        _ => return Err("--auth must be basic, basic-raw, post or none".into()),
    };
    let secret = secret.ok_or_else(|| format!("--auth {method} requires --client-secret"))?;
    Ok(with_secret(id, secret))
}
