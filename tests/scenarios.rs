//! Runs the scenarios in `tests/scenarios`; its README explains the format.

mod cache_support;
#[path = "scenarios/format.rs"]
mod format;
#[path = "scenarios/harness.rs"]
mod harness;
#[path = "scenarios/outcome.rs"]
mod outcome;
#[path = "scenarios/server.rs"]
mod server;

use std::{
    cell::Cell,
    collections::HashSet,
    fmt::Write,
    fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
};

use self::{format::Scenario, harness::Harness};

/// How often each scenario runs. It must hold for any jitter.
const ROUNDS: usize = 5;

/// Guards against scenarios that are skipped by mistake.
const MIN_SCENARIOS: usize = 60;

macro_rules! files {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run_file(stringify!($name));
        })*

        const FILES: &[&str] = &[$(stringify!($name)),*];
    };
}

files! {
    callers
    clocks
    failures
    invalidate
    keep_warm
    keys
    lifetimes
    polling
    refresh_tokens
    refusals
    renew
    retry_after
    same_token
    secrets
    terminal_errors
    windows
}

#[test]
fn every_scenario_file_is_run_and_names_are_unique() {
    let files = fs::read_dir(folder()).unwrap();
    let mut found: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, FILES);

    let scenarios: Vec<_> = FILES.iter().flat_map(|file| read(file)).collect();
    let mut names = HashSet::new();
    for scenario in &scenarios {
        assert!(
            names.insert(&scenario.name),
            "duplicate name {:?}",
            scenario.name
        );
    }
    assert!(names.len() >= MIN_SCENARIOS, "{} scenarios", names.len());
}

fn run_file(file: &str) {
    let mut failed = String::new();
    for scenario in read(file) {
        let result = (0..ROUNDS).try_for_each(|_| run(&scenario));
        if let Err(failure) = result {
            write!(failed, "\n{file}.json: {:?}, {failure}", scenario.name).unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

fn run(scenario: &Scenario) -> Result<(), String> {
    let number = Cell::new(0);
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run_steps(scenario, &number))
    };
    // The panic message itself has already been printed.
    panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(format!("step {}: panicked", number.get())))
}

async fn run_steps(scenario: &Scenario, number: &Cell<usize>) -> Result<(), String> {
    let mut harness = Harness::new(&scenario.given);
    for (index, step) in scenario.steps.iter().enumerate() {
        number.set(index + 1);
        let result = harness.run(step).await;
        result.map_err(|differences| {
            format!("step {}, {}:{differences}", number.get(), harness.time())
        })?;
    }
    harness
        .finish()
        .map_err(|difference| format!("at the end: {difference}"))
}

fn read(file: &str) -> Vec<Scenario> {
    let path = folder().join(file).with_extension("json");
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}.json: {error}"))
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios"))
}
