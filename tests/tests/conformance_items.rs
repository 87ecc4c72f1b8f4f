//! Every item of the contract's checklist has its place: a test that names it, or a reason here why it has none yet.
//!
//! The numbers are read out of the sources of the tests, so that neither this list nor `docs/conformance.md`, which is made
//! from it, can say more than is there. `STILLPOINT_REGENERATE=1 cargo test -p stillpoint-system-tests --test
//! conformance_items` writes that page anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Items in the checklist.
const ITEMS: u16 = 255;

/// Held by a test that does not name the number: items, file, test.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "C024 C025 C026",
        "tests/tests/ovirt_sdk.rs",
        "the_unmodified_ovirt_sdk_works_over_http",
    ),
    (
        "C027",
        "tests/tests/ovirt_sdk.rs",
        "the_unmodified_ovirt_sdk_works_over_https_with_the_served_ca",
    ),
    ("C028", "crates/api-ovirt/src/pki.rs", "a_key_is_told_as_ssh_writes_it"),
    (
        "C177 C221",
        "tests/tests/ansible.rs",
        "a_playbook_works_twice_and_the_second_run_changes_only_what_must_be_new",
    ),
    (
        "C187 C188",
        "tests/tests/faults_guest.rs",
        "without_an_agent_a_snapshot_is_quick_and_says_that_nothing_was_frozen",
    ),
    (
        "C202",
        "tests/tests/backup_sdk.rs",
        "a_writing_guest_is_backed_up_in_full_and_by_changes_by_the_unmodified_clients",
    ),
];

/// Not in this version; each comes with the part of the product that it belongs to.
const LATER: &[(&str, &str)] = &[];

/// A test: its file, below the repository, and its name.
type Held = (String, String);

/// A heading of the checklist with its rows: the item, and its request and expectation as one text.
type Part = (String, Vec<(u16, String)>);

fn number(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('C').filter(|rest| rest.len() == 3)?;
    digits.parse().ok()
}

/// The numbers of a list such as `C001 C003-C005`.
fn items(list: &str) -> Vec<u16> {
    let range = |item: &str| {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        number(from).expect("an item")..=number(to).expect("an item")
    };
    list.split(' ').flat_map(range).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A function at the outermost level of a file.
struct Function<'a> {
    name: &'a str,
    is_test: bool,
    text: String,
}

fn functions(source: &str) -> Vec<Function<'_>> {
    let mut found: Vec<Function<'_>> = Vec::new();
    let mut is_test = false;
    for line in source.lines() {
        let declared = line.strip_prefix("fn ").or_else(|| line.strip_prefix("pub fn "));
        if let Some(rest) = declared {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            found.push(Function {
                name,
                is_test,
                text: String::new(),
            });
        }
        is_test = line == "#[test]" || (is_test && line.starts_with("#["));
        // What stands between functions, as a table does, is its reader's: it is searched for by name.
        if let Some(last) = found.last_mut() {
            last.text.push_str(line);
            last.text.push('\n');
        }
    }
    found
}

/// The tests of a file that come to a function, by the names that their texts mention.
fn tests_of<'a>(all: &'a [Function<'a>], start: &'a Function<'a>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::from([start.name]);
    let mut waiting = vec![start];
    let mut tests = BTreeSet::new();
    while let Some(function) = waiting.pop() {
        if function.is_test {
            tests.insert(function.name);
            continue;
        }
        let callers = all.iter().filter(|caller| mentions(&caller.text, function.name));
        for caller in callers {
            if seen.insert(caller.name) {
                waiting.push(caller);
            }
        }
    }
    tests
}

fn mentions(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(word) && !after.is_some_and(word)
    })
}

/// The items that stand in string literals of the conformance tests, with the tests that come there.
fn named() -> Result<BTreeMap<u16, BTreeSet<Held>>> {
    let mut found: BTreeMap<u16, BTreeSet<Held>> = BTreeMap::new();
    for entry in fs::read_dir(repository().join("tests/tests"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("conformance_") || name == "conformance_items.rs" {
            continue;
        }
        let source = fs::read_to_string(&path)?;
        let all = functions(&source);
        for function in &all {
            for literal in function.text.split('"') {
                let words: Vec<&str> = literal.split(' ').collect();
                let is_item = |word: &&str| number(word).is_some() || word.starts_with("R-");
                if !words.iter().all(is_item) {
                    continue;
                }
                let tests = tests_of(&all, function);
                for item in words.into_iter().filter_map(number) {
                    let held = tests
                        .iter()
                        .map(|test| (format!("tests/tests/{name}"), (*test).to_owned()));
                    found.entry(item).or_default().extend(held);
                }
            }
        }
    }
    for (list, file, test) in ELSEWHERE {
        let source = fs::read_to_string(repository().join(file))?;
        ensure!(source.contains(&format!("fn {test}(")), "{file} has no test {test}");
        for item in items(list) {
            let twice = found.insert(item, BTreeSet::from([((*file).to_owned(), (*test).to_owned())]));
            ensure!(twice.is_none(), "C{item:03} names its test itself");
        }
    }
    Ok(found)
}

/// The checklist, part by part.
fn checklist() -> Result<Vec<Part>> {
    let text = fs::read_to_string(repository().join("tests/checklist.md"))?;
    let mut parts: Vec<Part> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            parts.push((heading.to_owned(), Vec::new()));
        }
        let row = line.strip_prefix("| ").and_then(|row| row.split_once(" | "));
        if let Some((item, rest)) = row
            && let Some(item) = number(item)
        {
            let part = parts.last_mut().context("a row before the first heading")?;
            part.1.push((item, rest.trim_end_matches(['|', ' ']).to_owned()));
        }
    }
    Ok(parts)
}

/// The page for people.
fn page() -> Result<String> {
    let named = named()?;
    let mut later: BTreeMap<u16, &str> = BTreeMap::new();
    for (list, why) in LATER {
        later.extend(items(list).into_iter().map(|item| (item, *why)));
    }
    let mut text = format!(
        "# Conformance\n\n\
         The checklist of the oVirt dialect (`tests/checklist.md`), and the test that holds each item. Made by\n\
         `tests/tests/conformance_items.rs`, which fails when this page is stale; do not edit it by hand.\n\n\
         Held: {held} of {ITEMS}. Left out, with the reason: {out}.\n",
        held = named.len(),
        out = later.len(),
    );
    for (heading, rows) in checklist()? {
        let held = rows.iter().filter(|(item, _)| named.contains_key(item)).count();
        write!(
            text,
            "\n## {heading}: {held} of {}\n\n| item | request | expected | test |\n|---|---|---|---|\n",
            rows.len()
        )?;
        for (item, row) in rows {
            let place = match (named.get(&item), later.get(&item)) {
                (Some(tests), _) => {
                    let shown = tests.iter().map(|(file, test)| {
                        let file = file.rsplit('/').next().unwrap_or_default();
                        format!("`{file}`: {test}")
                    });
                    shown.collect::<Vec<_>>().join("; ")
                }
                (None, Some(why)) => format!("**left out**: {why}"),
                (None, None) => "**nowhere**".to_owned(),
            };
            writeln!(text, "| C{item:03} | {row} | {place} |")?;
        }
    }
    Ok(text)
}

#[test]
fn every_item_of_the_checklist_is_held_by_a_test_or_has_a_reason() {
    let named = named().unwrap();
    let mut later = BTreeSet::new();
    for (list, _) in LATER {
        for item in items(list) {
            assert!(later.insert(item), "C{item:03} is listed twice");
        }
    }
    assert!(named.len() > 200, "only {} items are named in tests", named.len());
    let mut wrong = Vec::new();
    for n in 1..=ITEMS {
        match (named.get(&n), later.contains(&n)) {
            (None, true) => {}
            (Some(tests), false) if !tests.is_empty() => {}
            (Some(_), false) => wrong.push(format!("C{n:03} stands where no test comes")),
            (None, false) => wrong.push(format!("C{n:03} is nowhere")),
            (Some(_), true) => wrong.push(format!("C{n:03} has a test and a reason why not")),
        }
    }
    let beyond = named.keys().chain(&later).filter(|n| **n == 0 || **n > ITEMS);
    wrong.extend(beyond.map(|n| format!("C{n:03} is not in the checklist")));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let listed: Vec<u16> = checklist()
        .unwrap()
        .into_iter()
        .flat_map(|(_, rows)| rows)
        .map(|(n, _)| n)
        .collect();
    assert!(
        listed == (1..=ITEMS).collect::<Vec<_>>(),
        "tests/checklist.md: {listed:?}"
    );
}

#[test]
fn the_page_about_conformance_says_what_is() {
    let (path, page) = (repository().join("docs/conformance.md"), page().unwrap());
    if std::env::var_os("STILLPOINT_REGENERATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default(); // absent is stale
    assert!(
        there == page,
        "docs/conformance.md is stale: run this test with STILLPOINT_REGENERATE=1"
    );
}
