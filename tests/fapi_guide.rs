//! Every test that the guide on FAPI 2.0 names exists, and every requirement names one or says why not.

use std::{fs, path::Path};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The rows of the tables: number, requirement, how, tests.
fn rows(guide: &str) -> Vec<Vec<&str>> {
    let lines = guide.lines().filter(|line| line.starts_with("| "));
    let rows = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect());
    let rows: Vec<Vec<&str>> = rows.collect();
    let numbered = |row: &Vec<&str>| row[0].parse::<u32>().is_ok();
    rows.into_iter().filter(numbered).collect()
}

/// Whether a test is defined in the file that its path names.
fn exists(path: &str) -> bool {
    let (module, name) = path.rsplit_once("::").unwrap();
    let file = format!("{ROOT}/tests/{}.rs", module.replace("::", "/"));
    assert!(Path::new(&file).exists(), "{path}: there is no {file}");
    let code = fs::read_to_string(file).unwrap();
    code.contains(&format!("fn {name}("))
}

#[test]
fn every_named_test_exists() {
    let guide = fs::read_to_string(format!("{ROOT}/docs/fapi.md")).unwrap();
    let rows = rows(&guide);
    // §5.3.3.1, §5.3.3.2, §5.4.1.
    assert_eq!(rows.len(), 13 + 7 + 2);
    for row in rows {
        let tests = row.get(3).copied().unwrap_or_default();
        let tests: Vec<_> = tests
            .split('`')
            .filter(|text| text.contains("::"))
            .collect();
        let is_of_the_application = row[2].contains("redirects nobody");
        assert_ne!(tests.is_empty(), !is_of_the_application, "{row:?}");
        for test in tests {
            assert!(exists(test), "there is no test {test}");
        }
    }
    assert!(!exists("fapi_guide::no_such_test"));
}
