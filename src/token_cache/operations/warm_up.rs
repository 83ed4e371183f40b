//! Fetches the tokens of many sources before the first requests need them.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::{
    error::{TokenError, TokenErrorKind::Timeout},
    token_cache::{TokenCache, TokenSource, fetch::runtime},
};

impl TokenCache {
    /// Fetches the tokens of many sources at the same time, and returns which of them failed, and why.
    ///
    /// It returns when every source has a token or an error, and after `limit` at the latest. Sources without either then are among the
    /// failed ones, with an error of the kind [`Timeout`]; their fetches continue. Sources with a usable
    /// token are not fetched. Failed sources are in the order in which they were given, and none is missing: if the result is empty,
    /// every source has had a token.
    ///
    /// To warm up a single source, use [`TokenSource::warm_up`].
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: if its future is dropped, the fetches continue.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_oauth2_client::{TokenCache, TokenRequest};
    ///
    /// async fn warm_up(tokens: &TokenCache, tenants: &[&str]) {
    ///     let sources = tenants
    ///         .iter()
    ///         .map(|tenant| tokens.source(TokenRequest::client_credentials().parameter("tenant", *tenant)));
    ///     for (source, error) in tokens.warm_up(sources, Duration::from_secs(10)).await {
    ///         eprintln!("no token yet for {source:?}: {error:#}");
    ///     }
    /// }
    /// ```
    #[must_use = "the sources that failed"]
    pub async fn warm_up(
        &self,
        sources: impl IntoIterator<Item = TokenSource>,
        limit: Duration,
    ) -> Vec<(TokenSource, TokenError)> {
        let sources: Vec<TokenSource> = sources.into_iter().collect();
        let mut results: Vec<Option<Result<(), TokenError>>> = sources
            .iter()
            .map(|source| source.peek().map(|_| Ok(())))
            .collect();
        let runtime = &self.0.settings.runtime;
        match runtime.get() {
            Ok(handle) => {
                // A task each, so that a source is not polled whenever any other is woken.
                let mut tasks = JoinSet::new();
                for (index, source) in sources.iter().enumerate() {
                    if results[index].is_none() {
                        let source = source.clone();
                        let warm_up = async move { (index, source.warm_up().await) };
                        tasks.spawn_on(warm_up, &handle);
                    }
                }
                let all = async {
                    while let Some(joined) = tasks.join_next().await {
                        if let Ok((index, result)) = joined {
                            results[index] = Some(result);
                        }
                    }
                    runtime::no_runtime()
                };
                let missing = runtime.timeout(limit, all).await;
                finish(results, missing.unwrap_or_else(|| too_late(limit)))
            }
            Err(error) => finish(results, error),
        }
        .zip(sources)
        .filter_map(|(result, source)| Some((source, result.err()?)))
        .collect()
    }
}

fn finish(
    results: Vec<Option<Result<(), TokenError>>>,
    missing: TokenError,
) -> impl Iterator<Item = Result<(), TokenError>> {
    results
        .into_iter()
        .map(move |result| result.unwrap_or_else(|| Err(missing.clone())))
}

fn too_late(limit: Duration) -> TokenError {
    let message = format!("no access token arrived within {limit:?}; its fetch continues");
    TokenError::new(Timeout, message, None)
}
