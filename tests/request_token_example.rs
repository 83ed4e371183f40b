//! Runs the example `request_token` as a process, over loopback and over TLS.

mod support;

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Output,
    sync::OnceLock,
};

use serde_json::json;
use tower_oauth2_client::test_util::{AuthorizationServer, Failure, Listening};

use self::support::HttpsServer;

/// A secret, a token, or anything else that must not be printed.
const SENTINEL: &str = "S3NT1NEL";

/// Builds the example and returns its path.
///
/// Without the build, a test that runs alone would find no executable or an outdated one.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = std::process::Command::new(env!("CARGO"))
            .args(["build", "--example", "request_token", "--all-features"])
            .arg("--message-format=json")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{errors}");
        String::from_utf8(built.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find_map(|message| Some(message["executable"].as_str()?.into()))
            .expect("cargo prints the path of the executable")
    })
}

/// Runs the example with only the given environment variables.
async fn run<A: AsRef<OsStr>>(arguments: &[A], environment: &[(&str, OsString)]) -> Run {
    let mut command = tokio::process::Command::new(program());
    command.env_clear().kill_on_drop(true);
    command.args(arguments);
    for (name, value) in environment {
        command.env(name, value);
    }
    Run::of(command.output().await.unwrap())
}

#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    errors: String,
}

impl Run {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("killed by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn check(&self, code: i32, expected: &str) {
        assert_eq!(self.code, code, "{self:?}");
        let (output, other) = match code {
            0 => (&self.out, &self.errors),
            _ => (&self.errors, &self.out),
        };
        assert!(output.contains(expected), "no {expected:?} in {self:?}");
        assert_eq!(other, "");
    }

    #[track_caller]
    fn check_hidden(&self) {
        let shown = format!("{}{}", self.out, self.errors);
        assert!(!shown.contains(SENTINEL), "{shown}");
    }
}

async fn server() -> (AuthorizationServer, Listening) {
    let server = AuthorizationServer::builder()
        .client("client", SENTINEL)
        .raw_basic_client("raw", "100% secret")
        .public_client("public")
        .user("johndoe", "A3ddj3w")
        .response_field("id_token", SENTINEL)
        .response_field("session", json!({"cookie": SENTINEL}))
        .response_field("api_key", SENTINEL)
        .response_field("refresh_in", 1800)
        .build();
    let listening = server.listen().await.unwrap();
    (server, listening)
}

/// Returns the arguments, starting with `--token-url`.
fn with_url(listening: &Listening, rest: &[&str]) -> Vec<String> {
    let mut arguments = vec![
        "--token-url".to_owned(),
        listening.token_endpoint().to_string(),
    ];
    arguments.extend(rest.iter().map(|&argument| argument.to_owned()));
    arguments
}

#[tokio::test]
async fn possible_secrets_are_shown_only_by_their_length() {
    let (_server, listening) = server().await;
    let arguments = with_url(&listening, &["--client-id", "client", "--scope", "api1"]);
    let secret = [("CLIENT_SECRET", SENTINEL.into())];
    let run = run(&arguments, &secret).await;
    run.check(0, "status: 200 OK\n");
    run.check_hidden();
    for line in [
        "token_type: \"Bearer\"",
        "expires_in: 3600",
        "refresh_in: 1800",
        "scope: \"api1\"",
        "id_token: [8 characters; --show prints them]",
        "api_key: [8 characters; --show prints them]",
        "session: [21 characters; --show prints them]",
    ] {
        assert!(
            run.out.lines().any(|l| l == line),
            "no {line:?} in {}",
            run.out
        );
    }
    assert!(run.out.contains("access_token: ["));
}

#[tokio::test]
async fn show_prints_the_whole_response() {
    let (server, listening) = server().await;
    let arguments = with_url(&listening, &["--show", "--client-id", "client"]);
    let run = run(&arguments, &[("CLIENT_SECRET", SENTINEL.into())]).await;
    run.check(0, "id_token: \"S3NT1NEL\"\n");
    run.check(0, "session: {\"cookie\":\"S3NT1NEL\"}\n");
    let token = run
        .out
        .lines()
        .find_map(|line| line.strip_prefix("access_token: \"")?.strip_suffix('"'))
        .unwrap();
    assert!(server.is_active(token));
}

#[tokio::test]
async fn each_client_authentication_method_works() {
    let (_server, listening) = server().await;
    for (id, secret, auth) in [
        ("client", SENTINEL, None),
        ("client", SENTINEL, Some("basic")),
        ("client", SENTINEL, Some("post")),
        ("raw", "100% secret", Some("basic-raw")),
        ("public", "", None),
        ("public", "", Some("none")),
    ] {
        let mut rest = vec!["--client-id", id];
        if !secret.is_empty() {
            rest.extend(["--client-secret", secret]);
        }
        if let Some(auth) = auth {
            rest.extend(["--auth", auth]);
        }
        // A public client may not use client credentials.
        rest.extend([
            "--param",
            "grant_type=password",
            "--param",
            "username=johndoe",
            "--param",
            "password=A3ddj3w",
        ]);
        let run = run(&with_url(&listening, &rest), &[]).await;
        run.check(0, "access_token: [");
        run.check_hidden();
    }
}

#[tokio::test]
async fn parameters_are_sent_unchanged() {
    let (server, listening) = server().await;
    let arguments = with_url(
        &listening,
        &[
            "--client-id=client",
            "--param=resource=https://a/?b=c",
            "--param",
            "resource=https://b/",
        ],
    );
    run(&arguments, &[("CLIENT_SECRET", SENTINEL.into())])
        .await
        .check(0, "");
    let requests = server.requests();
    let sent: Vec<_> = requests[0].get_all("resource").collect();
    assert_eq!(sent, ["https://a/?b=c", "https://b/"]);
}

#[tokio::test]
async fn all_settings_can_come_from_the_environment() {
    let (server, listening) = server().await;
    let environment = [
        ("TOKEN_URL", listening.token_endpoint().to_string().into()),
        ("CLIENT_ID", "client".into()),
        ("CLIENT_SECRET", SENTINEL.into()),
        ("SCOPE", "api1".into()),
    ];
    run::<&str>(&[], &environment)
        .await
        .check(0, "scope: \"api1\"\n");
    // A flag takes precedence.
    let run = run(&["--scope", "api2"], &environment).await;
    run.check(0, "scope: \"api2\"\n");
    assert_eq!(server.requests()[1].get("scope"), Some("api2"));
}

#[tokio::test]
async fn a_failed_request_exits_with_1_and_says_what_to_do() {
    let (server, listening) = server().await;
    let arguments = with_url(&listening, &["--client-id", "client"]);
    let wrong = [("CLIENT_SECRET", "wrong".into())];
    let run_with_wrong_secret = || run(&arguments, &wrong);
    run_with_wrong_secret()
        .await
        .check(1, "check the id of the client, its secret");

    server.fail_next(Failure::status(429).retry_after(std::time::Duration::from_secs(99)));
    run_with_wrong_secret()
        .await
        .check(1, "the server asks to wait 99 seconds");

    listening.stop().await;
    let refused = run_with_wrong_secret().await;
    refused.check(1, "because: the request was not sent");
    refused.check_hidden();
}

#[cfg(unix)]
fn not_utf8() -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(b"S3NT1NEL\xff".to_vec())
}

#[tokio::test]
async fn argument_errors_name_the_flag_and_never_print_the_value() {
    let cases: [(&[&str], &str); 12] = [
        (&[], "--token-url is missing"),
        (&["--token-url", "https://a/"], "--client-id is missing"),
        (
            &["--token-url", "https://a/ S3NT1NEL", "--client-id", "c"],
            "--token-url: ",
        ),
        (&["--param", SENTINEL], "--param requires NAME=VALUE"),
        (&[SENTINEL], "a value without an option"),
        (&["--show=S3NT1NEL"], "--show takes no value"),
        (&["--secret=S3NT1NEL"], "unknown option --secret"),
        (&["-x", SENTINEL], "unknown option -x"),
        (&["--client-secret"], "--client-secret requires a value"),
        (
            &["--token-url=https://a/", "--client-id=c", "--auth=tls"],
            "--auth must be basic, basic-raw, post or none",
        ),
        (
            &["--token-url=https://a/", "--client-id=c", "--auth=S3NT1NEL"],
            "--auth must be basic, basic-raw, post or none",
        ),
        (
            &["--token-url=https://a/", "--client-id=c", "--auth=post"],
            "--auth post requires --client-secret",
        ),
    ];
    for (arguments, message) in cases {
        let run = run(arguments, &[]).await;
        run.check(2, &format!("request_token: {message}"));
        run.check_hidden();
    }
    run(&["--help"], &[]).await.check(0, "Requests a token");
    run(&["-h"], &[]).await.check(0, "Requests a token");
}

#[cfg(unix)]
#[tokio::test]
async fn errors_about_invalid_utf8_name_the_setting_and_never_print_the_value() {
    let result = run::<&str>(&[], &[("CLIENT_SECRET", not_utf8())]).await;
    result.check(2, "CLIENT_SECRET: the value is not UTF-8");
    result.check_hidden();
    let result = run(&["--client-secret".into(), not_utf8()], &[]).await;
    result.check(2, "--client-secret: the value is not UTF-8");
    result.check_hidden();
}

#[tokio::test]
async fn tls_uses_the_root_certificates_of_the_system() {
    let server = HttpsServer::start().await;
    let file = env::temp_dir().join(format!("request-token-{}.pem", std::process::id()));
    std::fs::write(&file, server.certificate_pem()).unwrap();
    let uri = server.uri().to_string();
    let arguments = ["--token-url", &uri, "--client-id=c", "--scope=api1"];
    let trusted = [
        ("CLIENT_SECRET", "s".into()),
        ("SSL_CERT_FILE", file.clone().into_os_string()),
    ];
    let result = run(&arguments, &trusted).await;
    std::fs::remove_file(&file).unwrap();
    result.check(0, "expires_in: 3600\n");
    assert_eq!(server.versions(), [http::Version::HTTP_2]);
}
