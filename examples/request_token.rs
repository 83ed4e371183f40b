//! A token from any server: `cargo run --example request_token -- --token-url https://as.example/token --client-id me`.
//!
//! Each flag can be given in the environment instead: TOKEN_URL, CLIENT_ID, CLIENT_SECRET, SCOPE.

use std::{env, process::ExitCode, time::Duration};

use http::Uri;
use lexopt::prelude::*;
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth2_client::{
    BoxError, ClientAuthentication, HttpsClient, TokenEndpoint, TokenError, TokenRequest,
    TokenResponse, token_endpoint::RetryTransient,
};

const HELP: &str = "\
Requests a token and prints the answer.

  --token-url URL       the token endpoint            (or TOKEN_URL)
  --client-id ID        the client                    (or CLIENT_ID)
  --client-secret TEXT  its secret                    (or CLIENT_SECRET, which no process list shows)
  --auth METHOD         basic, basic-raw, post, none  (default: basic with a secret, else none)
  --scope SCOPE         what the token is for         (or SCOPE)
  --param NAME=VALUE    a further parameter; may be repeated. `grant_type=...` chooses the grant
                        (default: client_credentials)
  --show                prints the tokens too
";

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
    println!("status: {}", response.status());
    for (name, value) in response.json().as_object().into_iter().flatten() {
        let is_secret = name.ends_with("_token") || name.contains("secret");
        match value {
            value if !is_secret || show => println!("{name}: {value}"),
            value => {
                let length = value.as_str().map_or(0, str::len);
                println!("{name}: [{length} characters; --show prints them]");
            }
        }
    }
}

/// The error and what is below it; the words of [`TokenError`] already say what to do.
fn print_error(error: &BoxError) {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    let mut indent = "";
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
    let from_environment = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let mut token_url = from_environment("TOKEN_URL");
    let mut client_id = from_environment("CLIENT_ID");
    let mut client_secret = from_environment("CLIENT_SECRET");
    let mut scope = from_environment("SCOPE");
    let (mut method, mut parameters, mut show) = (None, Vec::new(), false);

    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("token-url") => token_url = Some(arguments.value()?.string()?),
            Long("client-id") => client_id = Some(arguments.value()?.string()?),
            Long("client-secret") => client_secret = Some(arguments.value()?.string()?),
            Long("scope") => scope = Some(arguments.value()?.string()?),
            Long("auth") => method = Some(arguments.value()?.string()?),
            Long("param") => {
                let pair = arguments.value()?.string()?;
                let (name, value) = pair.split_once('=').ok_or("--param wants NAME=VALUE")?;
                parameters.push((name.to_owned(), value.to_owned()));
            }
            Long("show") => show = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }

    let token_url = token_url.ok_or("--token-url is missing")?.parse()?;
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

fn client_authentication(
    method: Option<&str>,
    id: String,
    secret: Option<String>,
) -> Result<ClientAuthentication, BoxError> {
    let method = method.unwrap_or(if secret.is_some() { "basic" } else { "none" });
    if method == "none" {
        return Ok(ClientAuthentication::none(id));
    }
    let secret = secret.ok_or_else(|| format!("--auth {method} needs --client-secret"))?;
    match method {
        "basic" => Ok(ClientAuthentication::client_secret_basic(id, secret)),
        "basic-raw" => Ok(ClientAuthentication::client_secret_basic_raw(id, secret)),
        "post" => Ok(ClientAuthentication::client_secret_post(id, secret)),
        other => Err(format!("--auth {other} is none of basic, basic-raw, post, none").into()),
    }
}
