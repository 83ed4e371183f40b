//! Recovery after the gateway has become healthy again.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{self, Instant},
};
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_oauth2_client::{
    AddAccessTokenLayer, ErrorCode, IssuedToken, TokenCache, TokenError, TokenErrorKind,
    TokenRequest, TokenResponse, add_access_token::CloneBody, token_endpoint::RetryTransient,
};

use super::{assert_is_good, endpoint, introspection, uri};
use crate::{
    setting,
    support::{API_URI, Seen, all_done, api, http, keep_calling},
};

/// Each fault, and whether it is transient.
const FAULTS: [(&str, bool); 9] = [
    ("unavailable", true),
    ("limited", true),
    ("bad-gateway", true),
    ("gateway-timeout", true),
    ("dropped", true),
    ("broken", true),
    ("moved", false),
    ("cut", true),
    ("page", true),
];

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "measures real time")]
async fn retry_transient_recovers_from_transient_faults() {
    for (fault, is_transient) in FAULTS {
        let gateway = Gateway::with(fault, "retry");
        let begun = Instant::now();
        let result = gateway
            .call_and_heal_on_error(TokenRequest::client_credentials())
            .await;

        if is_transient {
            let response = result.unwrap();
            assert_is_good(response.access_token().expose_secret()).await;
            assert_eq!(gateway.attempts(), 2, "{fault}");
        } else {
            result.unwrap_err();
            assert_eq!(gateway.attempts(), 1, "{fault}");
        }
        if matches!(fault, "unavailable" | "limited") {
            assert!(begun.elapsed() >= Duration::from_secs(1), "{fault}");
        }
    }
}

#[tokio::test]
async fn retry_transient_resends_a_refresh_token_only_if_it_was_not_processed() {
    for (fault, attempts) in [
        ("unavailable", 2),
        ("limited", 2),
        ("bad-gateway", 1),
        ("gateway-timeout", 1),
        ("dropped", 1),
        ("broken", 1),
    ] {
        let gateway = Gateway::with(fault, "one-time");
        let error = gateway
            .call_and_heal_on_error(TokenRequest::refresh_token("unknown"))
            .await
            .unwrap_err();

        assert_eq!(gateway.attempts(), attempts, "{fault}");
        // The refusal must come from the server itself, which does not know the token or does not allow the grant.
        let reached = error.error_response().is_some_and(|response| {
            matches!(
                *response.code(),
                ErrorCode::INVALID_GRANT | ErrorCode::INVALID_REQUEST
            )
        });
        assert_eq!(reached, attempts == 2, "{fault}: {error}");
    }
}

#[tokio::test]
async fn cache_recovers_from_each_fault() {
    let mut tasks = JoinSet::new();
    for (fault, is_transient) in FAULTS {
        tasks.spawn(async move {
            let gateway = Gateway::with(fault, "cold");
            let tokens = TokenCache::new(gateway.service());
            let source = tokens.source(TokenRequest::client_credentials());

            let error = source.token().await.unwrap_err();
            assert_eq!(error.is_transient(), is_transient, "{fault}");
            let attempts = gateway.attempts();
            assert!((1..=2).contains(&attempts), "{fault}: {attempts}");
            // During the pause after a failure, callers get the same error and no request is sent.
            let again = source.token().await.unwrap_err();
            assert_eq!(again.to_string(), error.to_string());
            assert_eq!(gateway.attempts(), attempts, "{fault}");

            gateway.heal();
            let token = retry_until_ok(|| source.token()).await;
            assert_is_good(token.expose_secret()).await;
            assert_eq!(gateway.attempts(), attempts + 1, "{fault}");
        });
    }
    all_done(tasks).await;
}

#[tokio::test]
async fn no_call_fails_while_token_renewals_fail() {
    let mut tasks = JoinSet::new();
    for (fault, _) in FAULTS {
        tasks.spawn(async move {
            let gateway = Gateway::healthy(fault, "renewal");
            let tokens = TokenCache::new(gateway.service());
            let source = tokens.source(TokenRequest::client_credentials());
            let api = ServiceBuilder::new()
                .layer(
                    AddAccessTokenLayer::new(source.clone())
                        .origin(API_URI)
                        .unwrap()
                        .resend(CloneBody),
                )
                .service(api(http(), introspection(), Seen::default()));
            let first = source.token().await.unwrap();

            let calling = keep_calling(&api, 1, 20, Duration::from_millis(50));
            gateway.break_down();
            source.renew().await.unwrap_err();
            assert_eq!(source.token().await.unwrap(), first, "{fault}");
            gateway.heal();
            let second = retry_until_ok(|| source.renew()).await;
            assert_ne!(second, first, "{fault}");
            all_done(calling).await;
            all_done(keep_calling(&api, 1, 2, Duration::from_millis(50))).await;
        });
    }
    all_done(tasks).await;
}

#[tokio::test]
async fn cache_times_out_when_the_server_never_answers() {
    let gateway = Gateway::with("silent", "silent");
    let tokens = TokenCache::builder(gateway.service())
        .fetch_timeout(Duration::from_millis(300))
        .build();
    let source = tokens.source(TokenRequest::client_credentials());

    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Timeout);
    gateway.heal();
    retry_until_ok(|| source.token()).await;
}

#[tokio::test]
async fn failing_token_endpoint_of_one_tenant_does_not_affect_another() {
    let tokens = TokenCache::new(endpoint("/token"));
    let tenant = |path| {
        let request = TokenRequest::client_credentials().token_endpoint(uri(path));
        tokens.source(request)
    };
    let (failing, healthy) = (tenant("/bad-gateway"), tenant("/text-lifetime"));

    for _ in 0..2 {
        let error = failing.token().await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), 502);
        assert_is_good(healthy.token().await.unwrap().expose_secret()).await;
    }
}

/// A location that fails while a certain file exists, and the number of requests sent to it.
#[derive(Clone)]
struct Gateway {
    path: String,
    switch: PathBuf,
    attempts: Arc<AtomicUsize>,
}

impl Gateway {
    fn healthy(fault: &str, test: &str) -> Self {
        let name = format!("{test}-{fault}");
        Self {
            path: format!("/unless/{fault}/{name}"),
            switch: PathBuf::from(setting("NGINX_SWITCHES")).join(name),
            attempts: Arc::default(),
        }
    }

    fn with(fault: &str, test: &str) -> Self {
        let gateway = Self::healthy(fault, test);
        gateway.break_down();
        gateway
    }

    fn break_down(&self) {
        fs::write(&self.switch, "").unwrap();
    }

    fn heal(&self) {
        // An earlier error may have removed the file already.
        let _ = fs::remove_file(&self.switch);
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    fn service(
        &self,
    ) -> impl Service<
        TokenRequest,
        Response = TokenResponse,
        Error = TokenError,
        Future = impl Future<Output = Result<TokenResponse, TokenError>> + Send,
    > + Clone
    + Send
    + 'static {
        let attempts = self.attempts.clone();
        endpoint(&self.path).map_request(move |request| {
            attempts.fetch_add(1, Ordering::SeqCst);
            request
        })
    }

    async fn call_and_heal_on_error(
        &self,
        request: TokenRequest,
    ) -> Result<TokenResponse, TokenError> {
        let healing = self.clone();
        ServiceBuilder::new()
            .retry(RetryTransient::new().initial_pause(Duration::from_millis(10)))
            .map_err(move |error| {
                healing.heal();
                error
            })
            .service(self.service())
            .oneshot(request)
            .await
    }
}

/// Retries until there is a token. The cache limits the rate of token requests.
async fn retry_until_ok<F>(ask: impl Fn() -> F) -> IssuedToken
where
    F: Future<Output = Result<IssuedToken, TokenError>>,
{
    let asking = async {
        loop {
            match ask().await {
                Ok(token) => return token,
                Err(_) => time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    time::timeout(Duration::from_secs(30), asking)
        .await
        .unwrap()
}
