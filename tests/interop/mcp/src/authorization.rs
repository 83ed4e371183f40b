//! The stack of HTTP layers that authorizes the client: all of the client that knows OAuth.

use serde_json::Value;
use tower_oauth2_client::{BoxError, HttpsClient};

/// Builds the stack. `context` contains the identity that the scenario gives to the client.
pub fn stack(_context: &Value) -> Result<HttpsClient, BoxError> {
    Ok(HttpsClient::new()?)
}
