//! The guide's tour as it is written, and whether people and programs are told the same.

use crate::rig::Cli;
use serde_json::Value;
use stillpoint_system_tests::tour::{Tour, guide};
use stillpoint_testkit::Daemon;

/// The guide's blocks, as they are written.
pub(crate) fn as_written(cli: &Cli, daemon: &Daemon) {
    let told = Tour::of("cli.md").unwrap().at(daemon).unwrap().run().unwrap();
    for line in guide("cli.md").unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "stillpoint" {
            cli.note(&words[1..]);
        }
    }
    for part in [
        "before upgrade",
        "└─ after upgrade",
        "with memory",
        "lost for good: the newer snapshot \"after upgrade\"",
        "nothing was changed",
        "(kept for undo)",
        "VM db1",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// The keys that programs rely on: of a list's items, or of an object.
pub(crate) fn has_keys(shown: &Value, keys: &[&str], what: &str) {
    let object = match shown {
        Value::Array(items) => items.first().unwrap_or_else(|| panic!("{what}: an empty list")),
        object => object,
    };
    for key in keys {
        assert!(object.get(key).is_some(), "{what}: no {key:?} in {object}");
    }
}

/// What people see and what programs parse is the same.
pub(crate) fn people_and_programs(cli: &Cli) {
    let table = cli.text(&["vm", "list"]);
    assert!(
        table.starts_with("NAME") && table.contains("db1") && table.contains("down"),
        "{table}"
    );
    let vms = cli.json(&["vm", "list"]);
    let id = vms[0]["id"].as_str().unwrap();
    assert_eq!(vms[0]["name"], "db1");
    assert!(table.contains(id));
    assert_eq!(cli.json(&["vm", "show", id])["status"], "down");
    assert_eq!(cli.json(&["disk", "list", "--vm", "db1"])[0]["name"], "db1_disk1");
    let explained = cli.json(&["explain", "snapshot/db1/before upgrade"]);
    assert_eq!(explained["status"], "ok");
    let jobs = cli.json(&["job", "list"]);
    let job = jobs[0]["id"].as_str().unwrap();
    assert!(cli.text(&["job", "show", job]).contains("STEP"));
    assert!(cli.text(&["job", "watch", job]).contains("finished"));
    assert!(cli.json(&["transfer", "list"]).as_array().unwrap().is_empty());
    assert!(cli.json(&["checkpoint", "list", "db1"]).as_array().unwrap().is_empty());
    cli.text(&["disk", "extend", "db1_disk1", "--size", "2G"]);
    assert!(cli.text(&["disk", "show", "db1_disk1"]).contains("2.00 GiB"));
    let disks = cli.text(&["snapshot", "disks", "db1", "before upgrade"]);
    assert!(disks.contains("IMAGE") && disks.contains("db1_disk1"), "{disks}");
    cli.text(&["disk", "create", "spare", "--size", "64M"]);
    cli.text(&["disk", "attach", "db1", "spare"]);
    cli.text(&["disk", "detach", "db1", "spare"]);
    let before = "before upgrade";
    for (command, keys) in [
        (&["vm", "list"][..], &["id", "name", "status", "memory", "cpu"][..]),
        (&["vm", "show", "db1"], &["id", "name", "status", "disk_attachments"]),
        (
            &["disk", "list"],
            &["id", "name", "provisioned_size", "status", "format"],
        ),
        (
            &["disk", "show", "spare"],
            &["id", "name", "provisioned_size", "image_id"],
        ),
        (
            &["snapshot", "list", "db1"],
            &["id", "description", "snapshot_status", "snapshot_type", "date"],
        ),
        (
            &["snapshot", "show", "db1", before],
            &["id", "description", "persist_memorystate"],
        ),
        (&["snapshot", "disks", "db1", before], &["id", "image_id"]),
        (&["job", "list"], &["id", "description", "status", "start_time"]),
        (&["job", "show", job], &["id", "status", "steps"]),
        (&["event", "list"], &["id", "code", "severity", "time", "description"]),
    ] {
        has_keys(&cli.json(command), keys, &command.join(" "));
    }
}
