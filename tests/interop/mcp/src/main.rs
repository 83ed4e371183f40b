//! The client under test of the Model Context Protocol's conformance suite.
//!
//! The suite starts it once for each scenario, with the URL of its server as the last argument. `tests/run mcp` runs the suite.

mod authorization;
mod tower_http_client;

use std::{env, error::Error, process::ExitCode};

use rmcp::{
    ClientServiceExt,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, JsonObject,
        ProtocolVersion,
    },
    service::ClientLifecycleMode,
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};
use tower_oauth2_client::BoxError;

use self::tower_http_client::TowerHttpClient;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let url = env::args().next_back().unwrap_or_default();
    let scenario = env::var("MCP_CONFORMANCE_SCENARIO")?;
    let version: ProtocolVersion =
        serde_json::from_value(env::var("MCP_CONFORMANCE_PROTOCOL_VERSION")?.into())?;
    let context: Value = match env::var("MCP_CONFORMANCE_CONTEXT") {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => Value::Null,
    };

    let stack = authorization::stack(&context)?;
    let transport = StreamableHttpClientTransport::with_client(
        TowerHttpClient::new(stack),
        StreamableHttpClientTransportConfig::with_uri(url),
    );
    let implementation = Implementation::new("tower-oauth2-client", "1.0.0");
    let mut info = ClientConfig::new(ClientCapabilities::default(), implementation);
    info.protocol_version = version.clone();
    let lifecycle = if version.has_initialize() {
        ClientLifecycleMode::Initialize
    } else {
        ClientLifecycleMode::Discover {
            preferred_versions: vec![version],
        }
    };

    let client = info.serve_with_lifecycle(transport, lifecycle).await?;
    for tool in client.list_all_tools().await? {
        let call = CallToolRequestParams::new(tool.name).with_arguments(arguments(&scenario));
        client.call_tool(call).await?;
    }
    client.cancel().await?;
    Ok(())
}

/// The arguments that the tool of the scenario requires.
fn arguments(scenario: &str) -> JsonObject {
    match (scenario, json!({ "a": 2, "b": 3 })) {
        ("tools_call", Value::Object(numbers)) => numbers,
        _ => JsonObject::new(),
    }
}

/// Prints an error and its sources.
fn report(error: &(dyn Error + 'static)) {
    let mut next = Some(error);
    while let Some(error) = next {
        eprintln!("{error}");
        next = error.source();
    }
}
