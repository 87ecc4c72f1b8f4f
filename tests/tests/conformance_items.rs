//! Every item of the contract's checklist has its place: a test that names it, or a reason here why it has none yet.
//!
//! The numbers are read out of the sources of the tests, so that this list cannot say more than is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;

/// Items in the checklist.
const ITEMS: u16 = 255;

/// Held by a test that does not name the number.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "C024 C025 C026",
        "ovirt_sdk.rs: test(), a renewed token and close() of the real SDK",
    ),
    (
        "C027",
        "ovirt_sdk.rs: the CA is fetched without trust, and then verifies the server",
    ),
    ("C028", "api-ovirt, pki.rs: a_key_is_told_as_ssh_writes_it"),
    ("C202", "backup_sdk.rs: require_consistency as the real SDK sends it"),
];

/// Not in this version; each comes with the part of the product that it belongs to.
const LATER: &[(&str, &str)] = &[
    ("C074", "search by number and status: the whole search language"),
    ("C076", "descending order: the whole search language"),
    ("C090 C091", "search through related things: the whole search language"),
    ("C101", "backups in JSON"),
    (
        "C134",
        "incremental backup of a disk can be switched on when there are backups",
    ),
    ("C136", "attaching a disk's snapshot: backup appliances"),
    ("C144 C145", "copy, reduce and sparsify of disks"),
    ("C177", "Ansible"),
    ("C187 C188", "backups of a guest whose freeze fails"),
    ("C203-C208 C211-C221", "image transfers"),
    ("C224-C228", "jobs and events of clients"),
];

fn number(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('C').filter(|rest| rest.len() == 3)?;
    digits.parse().ok()
}

fn listed(table: &[(&str, &str)]) -> BTreeMap<u16, String> {
    let mut found = BTreeMap::new();
    for (items, why) in table {
        for item in items.split(' ') {
            let (from, to) = item.split_once('-').unwrap_or((item, item));
            let (from, to) = (number(from).expect("an item"), number(to).expect("an item"));
            for n in from..=to {
                assert!(found.insert(n, (*why).to_owned()).is_none(), "C{n:03} is listed twice");
            }
        }
    }
    found
}

/// The numbers that stand in string literals of the other files.
fn named() -> Result<BTreeSet<u16>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("conformance_") || name == "conformance_items.rs" {
            continue;
        }
        for literal in fs::read_to_string(&path)?.split('"') {
            let words: Vec<&str> = literal.split(' ').collect();
            let is_item = |word: &&str| number(word).is_some() || word.starts_with("R-");
            if words.iter().all(is_item) {
                found.extend(words.into_iter().filter_map(number));
            }
        }
    }
    Ok(found)
}

#[test]
fn every_item_of_the_checklist_is_held_by_a_test_or_has_a_reason() {
    let (named, elsewhere, later) = (named().unwrap(), listed(ELSEWHERE), listed(LATER));
    assert!(named.len() > 130, "only {} items are named in tests", named.len());
    let mut wrong = Vec::new();
    for n in 1..=ITEMS {
        let places = [named.contains(&n), elsewhere.contains_key(&n), later.contains_key(&n)];
        match places.iter().filter(|place| **place).count() {
            1 => {}
            0 => wrong.push(format!("C{n:03} is nowhere")),
            _ => wrong.push(format!("C{n:03} has a test and a reason why not")),
        }
    }
    let beyond = named
        .iter()
        .chain(elsewhere.keys())
        .chain(later.keys())
        .filter(|n| **n == 0 || **n > ITEMS);
    wrong.extend(beyond.map(|n| format!("C{n:03} is not in the checklist")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}
