//! The compiler names the way out of common mistakes. It says so in words of this crate, whatever the version of the compiler.

use std::{collections::HashMap, path::Path, process::Command};

use serde_json::Value;

const OTHER_BODY: [&str; 2] = [
    "does not accept HTTP requests with the body `http_body_util::Full<bytes::Bytes>`",
    ".request_body(axum::body::Body::from)",
];
const NOT_CLONE: [&str; 3] = ["is not `Clone`", "tower's `Buffer`", "`BoxCloneService`"];

/// The files in `cases`, and what the compiler must say about each.
const CASES: [(&str, &[&str]); 9] = [
    ("boxed_service", &NOT_CLONE),
    ("boxed_service_below_the_layer", &NOT_CLONE),
    (
        "buffered_body_that_is_no_body",
        &[
            "cannot keep the request body `Vec<u8>`",
            "`http_body::Body<Data = Bytes> + Unpin`",
        ],
    ),
    ("discovery_with_another_body", &OTHER_BODY),
    (
        "error_that_is_no_error",
        &[
            "does not accept HTTP requests",
            "an error that is `Into<BoxError>`",
        ],
    ),
    ("local_service", &["cannot be sent between threads safely"]),
    (
        "reqwest_client",
        &["`reqwest::Client` becomes such a service in `ReqwestService`"],
    ),
    (
        "resent_stream",
        &[
            "`CloneBody` cannot keep the request body",
            "`BufferBody::new(65_536, wrap)`",
            "for the bodies of tonic use `BufferBody::tonic(65_536)`",
            "of reqwest `BufferBody::reqwest(65_536)`",
        ],
    ),
    ("revocation_with_another_body", &OTHER_BODY),
];

#[test]
fn each_mistake_is_one_error_that_names_the_way_out() {
    let errors = errors();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_errors/cases");
    assert_eq!(
        cases.read_dir().unwrap().count(),
        CASES.len() + 1,
        "a file is not tested"
    );
    for (case, words) in CASES {
        let errors = errors.get(case).map_or(&[][..], |errors| errors);
        let [error] = errors else {
            panic!("{case}: {} errors\n{}", errors.len(), errors.join("\n"));
        };
        for word in words {
            assert!(
                error.contains(word),
                "{case}: `{word}` is missing in\n{error}"
            );
        }
    }
}

/// Compiles the cases with the features and in the directory of this test, so that everything else has been built. Returns the errors
/// of each file, by its name.
fn errors() -> HashMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "test",
            "--no-run",
            "--offline",
            "--all-features",
            "--message-format=json",
        ])
        .args(["--test", "compile_error_cases"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(!output.status.success(), "the cases compile");
    let mut errors: HashMap<_, Vec<_>> = HashMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        let message = &message["message"];
        if let ("error", Some(span)) = (
            message["level"].as_str().unwrap_or_default(),
            message["spans"].get(0),
        ) {
            let file = Path::new(span["file_name"].as_str().unwrap());
            let case = file.file_stem().unwrap().to_str().unwrap();
            let rendered = message["rendered"].as_str().unwrap();
            errors
                .entry(case.to_owned())
                .or_default()
                .push(rendered.to_owned());
        }
    }
    assert!(
        !errors.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    errors
}
