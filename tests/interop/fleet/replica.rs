//! [`Replica`]: an instance of a service, as a process of its own.

use std::{env, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::ChildStdout,
};

use super::program::{MARK, SETTINGS};

/// A process. It is killed when it is dropped.
pub(super) struct Replica {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Replica {
    /// Starts a process, which waits until [`go`](Self::go).
    pub(super) async fn start(settings: &Value) -> Self {
        let mut process = tokio::process::Command::new(env::current_exe().unwrap())
            .args(["--exact", "fleet::program::replica", "--nocapture"])
            .env(SETTINGS, settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let mut replica = Self {
            process,
            lines: BufReader::new(stdout).lines(),
        };
        assert_eq!(replica.next().await, "ready");
        replica
    }

    pub(super) fn go(&mut self) {
        drop(self.process.stdin.take());
    }

    pub(super) async fn result(&mut self) -> Value {
        self.next().await
    }

    /// `kill -9`
    pub(super) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    async fn next(&mut self) -> Value {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if let Some((_, said)) = line.split_once(MARK) {
                return serde_json::from_str(said).unwrap();
            }
        }
        panic!("the replica has ended");
    }
}
