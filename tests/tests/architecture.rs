//! The rules of the house that a compiler does not check: who may use whom, and how a file looks.
//!
//! They are read from what is really there, `cargo metadata` and the tracked files; a room that is not in the table of
//! dependencies fails, so that whoever adds one decides where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Lines that a source file may have.
const LINES_MAX: usize = 900;

/// What each room may use of the others (never more; an edge knows nothing of SQL, QEMU or another edge).
const ROOMS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("wire", &["types"]),
    // A client of any server of the API: it knows nothing of our own.
    ("sdk", &["wire"]),
    ("store", &["types"]),
    ("engine", &["types", "store"]),
    ("auth", &["types", "store"]),
    // Image files as they are: it knows nothing of what they are for.
    ("qcow2", &[]),
    ("qemu", &["types", "engine", "qcow2"]),
    ("api-ovirt", &["types", "wire", "engine", "auth"]),
    ("api-volume", &["types", "engine", "auth"]),
    ("api-native", &["types", "engine", "auth"]),
    ("console", &["types", "engine", "auth"]),
    ("transfer", &["types", "engine", "qcow2"]),
    (
        "stillpoint",
        &[
            "types",
            "store",
            "engine",
            "qemu",
            "auth",
            "api-ovirt",
            "api-volume",
            "api-native",
            "console",
            "transfer",
            "sdk",
        ],
    ),
    ("testkit", &[]),
    ("system-tests", &["testkit"]),
];

/// What only tests of a room may use beside that.
const TESTS_MAY: &[(&str, &[&str])] = &[
    // The dialect's tests stand on a real core over a real store and real images.
    ("api-ovirt", &["store", "qemu"]),
    // A whole core on a real QEMU, without the HTTP of a dialect; its bytes are fetched by the tests' client.
    ("stillpoint", &["testkit"]),
    // They walk the route table as it is, and are a program that uses our own client.
    ("system-tests", &["api-ovirt", "api-volume", "api-native", "sdk"]),
];

/// Libraries that belong to one room: what speaks SQL, HTTP, XML or QMP to the world is in one place.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    (
        "axum",
        &[
            "api-ovirt",
            "api-volume",
            "api-native",
            "console",
            "transfer",
            "stillpoint",
        ],
    ),
    (
        "http",
        &[
            "api-ovirt",
            "api-volume",
            "api-native",
            "console",
            "transfer",
            "sdk",
            "stillpoint",
        ],
    ),
    ("hyper", &["sdk", "stillpoint"]),
    ("hyper-rustls", &["sdk"]),
    ("indicatif", &["stillpoint"]),
    ("quick-xml", &["wire", "api-ovirt", "testkit"]),
    ("nix", &["qemu", "qcow2"]),
    ("argon2", &["auth"]),
    ("clap", &["stillpoint"]),
    ("anyhow", &["stillpoint", "testkit", "system-tests"]),
    ("ureq", &["testkit"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace is above its members")
        .to_owned()
}

struct Dependency {
    room: String,
    name: String,
    for_tests: bool,
}

/// All direct dependencies of the workspace's members; rooms without their prefix.
fn dependencies() -> Result<Vec<Dependency>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let done = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&done.stdout)?;
    let short = |name: &str| name.strip_prefix("stillpoint-").unwrap_or(name).to_owned();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let room = short(package["name"].as_str().context("a name")?);
        let listed = package["dependencies"].as_array().context("dependencies")?;
        // A room without dependencies must be known, too.
        found.push(Dependency {
            room: room.clone(),
            name: String::new(),
            for_tests: true,
        });
        for dependency in listed {
            found.push(Dependency {
                room: room.clone(),
                name: short(dependency["name"].as_str().context("a name")?),
                for_tests: dependency["kind"] == "dev",
            });
        }
    }
    ensure!(found.len() > 50, "only {} dependencies", found.len());
    Ok(found)
}

/// The files that git tracks, with their text; binary ones are left out.
fn tracked() -> Result<Vec<(String, String)>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout)?;
    let mut files = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        // Deleted and not yet committed: there is nothing to look at.
        let Ok(bytes) = fs::read(root().join(name)) else {
            continue;
        };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push((name.to_owned(), text));
        }
    }
    ensure!(files.len() > 100, "only {} files", files.len());
    Ok(files)
}

fn rust(files: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    files.iter().filter(|(name, _)| name.ends_with(".rs"))
}

/// The text of a source file up to its unit tests, which come last.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn rooms_use_only_what_stands_below_them() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ROOMS
        .iter()
        .map(|(room, may)| (*room, may.iter().copied().collect()))
        .collect();
    let tests_may = |room: &str| {
        TESTS_MAY
            .iter()
            .find(|(of, _)| *of == room)
            .map_or(&[][..], |(_, may)| may)
    };
    let all = dependencies().unwrap();
    let mut wrong = Vec::new();
    for Dependency { room, name, for_tests } in &all {
        let Some(may) = allowed.get(room.as_str()) else {
            wrong.push(format!("{room} has no place in the table"));
            continue;
        };
        let is_room = allowed.contains_key(name.as_str());
        let good = may.contains(name.as_str()) || *for_tests && tests_may(room).contains(&name.as_str());
        if is_room && !good {
            wrong.push(format!("{room} must not use {name}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let real: BTreeSet<&str> = all.iter().map(|dependency| dependency.room.as_str()).collect();
    let gone: Vec<_> = allowed.keys().filter(|room| !real.contains(*room)).collect();
    assert!(gone.is_empty(), "in the table, but not there: {gone:?}");
}

#[test]
fn each_way_into_the_world_belongs_to_its_room() {
    let mut wrong = Vec::new();
    for Dependency { room, name, for_tests } in dependencies().unwrap() {
        let owners = LIBRARIES
            .iter()
            .find(|(library, _)| *library == name)
            .map(|(_, rooms)| *rooms);
        if let Some(rooms) = owners
            && !for_tests
            && !rooms.contains(&room.as_str())
        {
            wrong.push(format!("{room} must not use {name}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn source_files_say_what_they_are_for_and_stay_short() {
    let files = tracked().unwrap();
    let mut wrong = Vec::new();
    for (name, text) in rust(&files) {
        if !text.starts_with("//! ") {
            wrong.push(format!("{name} does not begin with //!"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name} has {lines} lines"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rooms_speak_through_the_log_only() {
    let files = tracked().unwrap();
    let mut wrong = Vec::new();
    for (name, text) in rust(&files) {
        // The binary talks to its user; the test kit to whoever reads a failed test.
        let is_room = name.starts_with("crates/") && name.contains("/src/");
        if !is_room || name.starts_with("crates/stillpoint/") || name.starts_with("crates/testkit/") {
            continue;
        }
        if name.ends_with("/tests.rs") {
            continue;
        }
        // Examples in the documentation are programs of their own.
        let is_doc = |line: &&str| ["///", "//!"].iter().any(|mark| line.trim_start().starts_with(mark));
        let code: Vec<&str> = without_tests(text).lines().filter(|line| !is_doc(line)).collect();
        for word in ["println!", "eprintln!", "print!", "eprint!"] {
            if code.iter().any(|line| line.contains(word)) {
                wrong.push(format!("{name} has {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_to_be_done_later_and_no_machine_is_named() {
    // Put together here, so that this file does not hold them.
    let marks = ["TO-DO", "FIX-ME", "X-X-X", "HA-CK"].map(|mark| mark.replace('-', ""));
    let places = ["/wo+rk/", "/ho+me/", "/ro+ot/", "localdom+ain"].map(|place| place.replace('+', ""));
    let hosts = [
        "crates.+io",
        "pypi.+org",
        "pythonhosted.+org",
        "docker.+io",
        "ghcr.+io",
        "quay.+io",
        "index.+crates",
    ]
    .map(|host| host.replace('+', ""));
    let mut wrong = Vec::new();
    for (name, text) in tracked().unwrap() {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}: {line}", number + 1);
            let whole_word = |mark: &String| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark);
            let names_a_place = places.iter().any(|part| line.contains(part));
            let names_a_host = name != "Cargo.lock" && hosts.iter().any(|host| line.contains(host));
            if marks.iter().any(whole_word) || names_a_place || names_a_host {
                wrong.push(place);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
