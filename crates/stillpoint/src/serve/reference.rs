//! The references of configuration and metrics, made from what the program itself goes by: `docs/reference/configuration.md` and
//! `metrics.md`; and whether the dashboard names metrics that there are.
//!
//! `STILLPOINT_REGENERATE=1 cargo test -p stillpoint reference` writes them anew.

use super::metrics::Numbers;
use crate::cli::Cli;
use clap::{Arg, CommandFactory as _};
use std::{fmt::Write as _, fs, path::Path};
use stillpoint_auth::Bootstrap;

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The document is this, or is made to be.
fn is_up_to_date(name: &str, now: &str) {
    let path = docs().join("reference").join(name);
    if std::env::var_os("STILLPOINT_REGENERATE").is_some() {
        fs::write(&path, now).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == now,
        "docs/reference/{name} is stale: run this test with STILLPOINT_REGENERATE=1"
    );
}

/// The keys that a place of a file may have: what its reader says when it meets another one.
fn keys(told: &str) -> Vec<String> {
    let (_, expected) = told.split_once("expected").unwrap();
    let mut keys: Vec<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    keys.sort();
    keys
}

/// A row for each key, and none else.
fn rows(text: &mut String, keys: &[String], about: &[(&str, &str)]) {
    let mut known: Vec<&str> = about.iter().map(|(key, _)| *key).collect();
    known.sort_unstable();
    assert_eq!(known, keys, "say in serve/reference.rs what each key means");
    for (key, means) in about {
        writeln!(text, "| `{key}` | {means} |").unwrap();
    }
}

fn option(arg: &Arg) -> String {
    let mut about = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some(long) = arg.get_long_help() {
        about = long.to_string();
    }
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        write!(about, " One of {}.", values.join(", ")).unwrap();
    }
    let variable = arg
        .get_env()
        .map_or_else(String::new, |name| format!("`{}`", name.display()));
    let value = arg.get_value_names().unwrap_or_default().join(" ").replace('|', "\\|");
    let name = arg.get_long().unwrap();
    format!(
        "| `--{name} {value}` | {variable} | {} |\n",
        about.replace('|', "\\|").replace('\n', " ")
    )
}

const FILE: &[(&str, &str)] = &[
    ("data-dir", "as `--data-dir`"),
    ("listen", "as `--listen`"),
    ("tls", "as `--tls`"),
    ("local-images", "as `--local-images`"),
    ("bootstrap", "as `--bootstrap`"),
    ("public-url", "as `--public-url`"),
    ("default-api", "as `--default-api`"),
    ("accel", "as `--accel`"),
    ("log", "as `--log`"),
    (
        "boot-dirs",
        "a list of directories, beside the data directory's `boot`, from which VMs may name kernels by absolute path. Default: none",
    ),
    (
        "user-freeze-seconds",
        "after how many seconds a guest is thawed that a user has frozen and not thawed himself. Default: 60",
    ),
    (
        "network-stub",
        "true adds a service `network` to the catalogue of the volume API, whose URL answers 404: the test suite tempest asks one \
         when its dynamic credentials take a project down. Leave it out otherwise. Default: false",
    ),
];

/// A table's name, a file that is good but for its keys, and its keys.
type Table = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const BOOTSTRAP: &[Table] = &[
    (
        "the file",
        "",
        &[
            ("project", "`[[project]]`: a project each"),
            ("user", "`[[user]]`: a user each"),
        ],
    ),
    (
        "`[[project]]`",
        "[[project]]\nname = \"p\"\n",
        &[
            ("name", "its name"),
            (
                "id",
                "its id (a UUID), if it is to have a certain one; else one is made once",
            ),
        ],
    ),
    (
        "`[[user]]`",
        "[[user]]\nname = \"u\"\n",
        &[
            ("name", "logs in as `NAME@internal`"),
            ("password", "the password itself; wins over what was set elsewhere"),
            (
                "password_file",
                "or a file with it, relative to this file's directory; of one line, for its owner alone",
            ),
            ("admin", "true: an administrator of the installation. Default: false"),
            ("role", "`[[user.role]]`: a role in a project each"),
            ("access_key", "`[[user.access_key]]`: a key for signed requests each"),
        ],
    ),
    (
        "`[[user.role]]`",
        "[[user]]\nname = \"u\"\n[[user.role]]\nproject = \"p\"\nrole = \"member\"\n",
        &[
            ("project", "the project's name"),
            ("role", "`admin`, `member` or `reader`"),
        ],
    ),
    (
        "`[[user.access_key]]`",
        "[[user]]\nname = \"u\"\n[[user.access_key]]\naccess = \"a\"\nsecret = \"s\"\n",
        &[
            ("access", "the key's public name"),
            ("secret", "its secret; kept sealed with `keys/secret.key`"),
        ],
    ),
];

#[test]
fn the_reference_of_the_configuration_has_every_option_and_key() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let mut text = "# Configuration\n\n\
        Made from the program. What is given on the command line wins over a variable, that over the file of `--config`, that over the\n\
        default. Client commands: [cli.md](cli.md).\n\n## `stillpoint serve`\n\n| option | variable | |\n|---|---|---|\n"
        .to_owned();
    for arg in serve.get_arguments().filter(|arg| arg.get_id() != "help") {
        text.push_str(&option(arg));
    }
    text.push_str("| | `RUST_LOG` | What the log holds, such as `info,stillpoint_engine=debug`. Default: `info`. |\n");
    text.push_str("\n## The file of `--config`\n\nTOML. A key that is not known is an error with its line.\n\n| key | |\n|---|---|\n");
    let unknown = super::config::unknown_key("no-such-key = 1\n");
    rows(&mut text, &keys(&unknown), FILE);
    text.push_str(
        "\n## The bootstrap file of `--bootstrap`\n\nTOML, applied at every start. It adds and changes, and never deletes. Keep it `chmod 600`.\n",
    );
    for (place, begin, about) in BOOTSTRAP {
        writeln!(text, "\n**{place}**\n\n| key | |\n|---|---|").unwrap();
        let wrong = format!("{begin}no-such-key = 1\n");
        let told = Bootstrap::parse(&wrong, Path::new("bootstrap.toml"))
            .unwrap_err()
            .to_string();
        rows(&mut text, &keys(&told), about);
    }
    is_up_to_date("configuration.md", &text);
}

/// Name (with what its series are called, for counters), kind and help of each.
fn metrics() -> Vec<(String, String, String)> {
    let told = Numbers::with_samples().text().unwrap();
    let mut found: Vec<(String, String, String)> = Vec::new();
    for line in told.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.push((name.to_owned(), String::new(), help.to_owned()));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let last = found.last_mut().filter(|(known, ..)| known == name);
            let last = last.unwrap_or_else(|| panic!("{name} has no help"));
            kind.clone_into(&mut last.1);
            if kind == "counter" {
                last.0.push_str("_total");
            }
        }
    }
    found
}

#[test]
fn the_reference_of_the_metrics_has_every_metric() {
    let metrics = metrics();
    assert!(metrics.len() > 20, "{metrics:?}");
    let mut text = "# Metrics\n\n\
        Made from the registry of the daemon. How they are scraped, and what to look at: [metrics](../ops/metrics.md). Counters and\n\
        histograms begin with the process; histograms have `_bucket`, `_sum` and `_count`. A series appears with its first value.\n\n\
        | name | kind | what |\n|---|---|---|\n"
        .to_owned();
    for (name, kind, help) in metrics {
        writeln!(text, "| `{name}` | {kind} | {help} |").unwrap();
    }
    is_up_to_date("metrics.md", &text);
}

#[test]
fn the_dashboard_and_the_page_for_operators_name_only_metrics_that_there_are() {
    let metrics = metrics();
    for page in ["dashboard.json", "ops/metrics.md"] {
        let text = fs::read_to_string(docs().join(page)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let named: Vec<&str> = words
            .filter(|word| word.starts_with("stillpoint_") || word.starts_with("process_"))
            .collect();
        assert!(named.len() > 10, "{page}: {named:?}");
        for word in named {
            let is_known = metrics.iter().any(|(name, kind, _)| {
                let of_histogram = || {
                    ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|end| word.strip_suffix(end) == Some(name))
                };
                name == word || (kind == "histogram" && of_histogram())
            });
            assert!(is_known, "{page} names {word}, which is no metric");
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(docs().join("dashboard.json")).unwrap()).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}
