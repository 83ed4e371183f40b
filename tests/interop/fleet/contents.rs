//! What a fleet leaves in Redis.

use std::time::Duration;

use serde_json::json;

use super::{assert_no_errors, authority::Authority, replica::Replica, run, settings, with};
use crate::redis::server::Server;

#[tokio::test]
async fn what_stands_in_redis_tells_nothing_and_cannot_be_moved() {
    let redis = Server::start().await;
    let authority = Authority::start(Duration::from_secs(300)).await;
    let first = authority.server.issue_refresh_token("client", "api1");
    let settings = settings(&authority, redis.url());
    let refreshing = with(settings.clone(), &json!({ "refresh_token": first }));
    let mut secrets = vec![
        first,
        "client".into(),
        "api1".into(),
        "http".into(),
        "orders".into(),
    ];
    secrets.extend(["bearer", "Bearer", "token_type", "expires_in"].map(String::from));
    for settings in [&settings, &refreshing] {
        let results = run(vec![Replica::start(settings).await]).await;
        secrets.push(results[0]["tokens"][0].as_str().unwrap().to_owned());
    }
    let stored = redis.contents().await;
    assert_eq!(stored.len(), 2);
    for secret in &secrets {
        for (key, content) in &stored {
            let name = key.strip_prefix("tower-oauth2-client:").unwrap();
            let all = [name.as_bytes(), content].concat();
            let found = all
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {key}");
        }
    }

    // Each key gets the content of the other one.
    let [one, other] = [&stored[0].0, &stored[1].0];
    for words in [
        ["RENAME", one, "x"],
        ["RENAME", other, one],
        ["RENAME", "x", other],
    ] {
        redis.command(&words).await;
    }
    let before = authority.server.token_requests();
    let results = run(vec![Replica::start(&settings).await]).await;
    assert_no_errors(&results);
    assert_eq!(authority.server.token_requests(), before + 1);
}
