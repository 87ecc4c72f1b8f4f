//! `--dry-run` and the questions: nothing is changed by the one, nothing is lost without a yes to the other.

use crate::{
    people,
    rig::{Cli, with_option},
    volumes,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stillpoint_testkit::Daemon;

/// All that the server has.
fn state(cli: &Cli) -> Value {
    let lists = [
        "vm list",
        "disk list",
        "snapshot list db1",
        "checkpoint list db1",
        "transfer list",
        "volume list",
        "volume snapshot list",
        "user list",
        "project list",
        "key list",
    ];
    let look = |line: &str| cli.json(&line.split(' ').collect::<Vec<_>>());
    lists.iter().map(|line| json!([line, look(line)])).collect()
}

/// Each command that has `--dry-run` says what it would do and changes nothing.
pub(crate) fn change_nothing(cli: &Cli, daemon: &Daemon) {
    let admin = daemon.api("admin").unwrap();
    let disk = cli.id(&["disk", "show", "spare"]);
    let wanted = format!("<image_transfer><disk id=\"{disk}\"/><direction>upload</direction></image_transfer>");
    let made = admin
        .post("imagetransfers", &wanted)
        .unwrap()
        .expect(&[200, 201, 202])
        .unwrap();
    let transfer = made.xml().unwrap().attribute("id").unwrap().to_owned();
    assert!(cli.text(&["transfer", "list"]).contains("upload"));
    assert!(cli.text(&["transfer", "show", &transfer]).contains(&disk));
    let checkpoint = cli.json(&["checkpoint", "list", "db1"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    cli.text(&["snapshot", "preview", "db1", "before upgrade"]);

    let commands: [&[&str]; 15] = [
        &["vm", "stop", "db1"],
        &["vm", "delete", "db1"],
        &["disk", "delete", "spare"],
        &["snapshot", "delete", "db1", "before upgrade"],
        &["snapshot", "restore", "db1", "before upgrade"],
        &["snapshot", "commit", "db1"],
        &["snapshot", "undo", "db1"],
        &["checkpoint", "delete", "db1", &checkpoint],
        &["transfer", "cancel", &transfer],
        &["volume", "revert", "data", "second"],
        &["volume", "delete", "data"],
        &["volume", "snapshot", "delete", "data", "second"],
        &["user", "delete", "carol"],
        &["project", "delete", "lab"],
        &["key", "delete", "nightly"],
    ];
    let mut planned = BTreeSet::new();
    let before = state(cli);
    for command in commands {
        let text = cli.text(&[command, &["--dry-run"]].concat());
        assert!(
            text.contains("lost for good") && text.contains("nothing was changed"),
            "{text}"
        );
        let plan = cli.json(&[command, &["--dry-run"]].concat());
        assert_eq!(plan["dry_run"], true);
        assert!(
            plan["plan"]["loses"].as_array().is_some_and(|loses| !loses.is_empty()),
            "{plan}"
        );
        // Without a terminal nobody is asked.
        let told = cli.ends(7, command);
        assert!(told.contains("lost for good") && told.contains("--yes"), "{told}");
        let leaf = cli.leaves().iter().filter(|leaf| {
            let words: Vec<&str> = leaf.split(' ').collect();
            command.starts_with(&words)
        });
        planned.extend(leaf.cloned());
    }
    assert_eq!(state(cli), before, "a plan changed something");
    let mut all = with_option(&cli.reference(), "--dry-run");
    // It has a test of its own.
    all.remove("repair");
    assert_eq!(planned, all, "each command with --dry-run is in the list above");

    cli.text(&["transfer", "cancel", &transfer, "--yes"]);
    cli.text(&["snapshot", "undo", "db1", "--yes"]);
    cli.text(&["checkpoint", "delete", "db1", &checkpoint, "--yes"]);
    people::away(cli);
    volumes::away(cli);
}

/// A plan says what stands in the way, too.
pub(crate) fn nothing_without_a_yes(cli: &Cli) {
    let plan = cli.json(&["disk", "delete", "spare", "--dry-run"]);
    assert!(plan["plan"]["does"].as_str().unwrap().contains("spare"), "{plan}");
    cli.text(&["disk", "delete", "spare", "--yes"]);
    assert!(cli.ends(3, &["disk", "show", "spare"]).contains("there is no disk"));
}
