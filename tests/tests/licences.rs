//! Every dependency may be used under a licence that the project allows, and comes from where it should.
//!
//! The allow-list is `deny.toml`'s, so that cargo-deny, where it is installed, checks the same; this needs cargo alone.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be read fails it")]

use serde_json::Value;
use std::{collections::BTreeSet, path::Path, process::Command};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The quoted members of `allow = [...]`.
fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let (_, rest) = text.split_once("allow = [").unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression (`OR` of `AND`s, with brackets around either; the old `/` means `OR`) can be fulfilled.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let fulfilled = |one: &str| allowed.contains(one.trim().trim_matches(['(', ')']).trim());
    let alternative = |one: &str| one.split(" AND ").all(fulfilled);
    // `(A OR B) AND C` is an AND of ORs: every bracketed part must have an allowed alternative.
    if expression.trim_start().starts_with('(') && expression.contains(") AND ") {
        return expression.split(" AND ").all(|part| part.split(" OR ").any(fulfilled));
    }
    expression.split(" OR ").any(alternative)
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_registry() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = allowed();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        seen += 1;
        match package["license"].as_str() {
            Some(expression) if is_allowed(expression, &allowed) => {}
            other => wrong.push(format!("{name}: licence {other:?}")),
        }
        match package["source"].as_str() {
            None => {}
            Some(source) if source.starts_with("registry+") => {}
            Some(source) => wrong.push(format!("{name}: comes from {source}")),
        }
        if ["openssl-sys", "native-tls"].contains(&name) {
            wrong.push(format!("{name} is banned"));
        }
    }
    assert!(seen > 50, "cargo metadata named only {seen} packages");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_expression_is_judged_by_its_alternatives() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0".to_owned(), "Unicode-3.0".to_owned()]);
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "MIT/Apache-2.0",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "MIT AND Apache-2.0",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", ""] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
