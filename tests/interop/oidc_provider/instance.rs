//! A separate oidc-provider for one test, which can be stopped and restarted.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::setting;

/// Ends with the test: the process is killed on drop, and belongs to the process group of the test run.
pub(super) struct Instance {
    process: Child,
    issuer: String,
}

impl Instance {
    pub(super) async fn start() -> Self {
        let (process, issuer) = launch("0").await;
        Self { process, issuer }
    }

    pub(super) fn uri(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    pub(super) async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Restarts the server on the same port, with empty state.
    pub(super) async fn start_again(&mut self) {
        let port = self.issuer.rsplit(':').next().unwrap();
        let (process, issuer) = launch(port).await;
        assert_eq!(issuer, self.issuer);
        self.process = process;
    }
}

async fn launch(port: &str) -> (Child, String) {
    let ca = setting("OIDC_PROVIDER_CA");
    let (certificates, _) = ca.rsplit_once('/').unwrap();
    let mut process = Command::new(setting("OIDC_PROVIDER_NODE"))
        .args([&*setting("OIDC_PROVIDER_SCRIPT"), certificates, port])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut issuer = None;
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(value) = line.strip_prefix("OIDC_PROVIDER=") {
            issuer = Some(value.to_owned());
        }
        if line == "ready" {
            return (process, issuer.unwrap());
        }
    }
    panic!("oidc-provider exited before it was ready");
}
