//! Volumes and their snapshots.

use crate::{rig::Cli, tour::has_keys};

pub(crate) fn from_nothing_to_nothing(cli: &Cli) {
    let made = cli.text(&[
        "volume",
        "create",
        "data",
        "--size",
        "512M",
        "--description",
        "of a test",
    ]);
    assert!(made.contains("available") && made.contains("1.00 GiB"), "{made}");
    cli.text(&["volume", "snapshot", "create", "data", "first"]);
    cli.text(&["volume", "snapshot", "create", "data", "second"]);
    let list = cli.text(&["volume", "snapshot", "list", "data"]);
    assert!(
        list.find("first") < list.find("second") && list.contains("data"),
        "{list}"
    );
    let shown = cli.text(&["volume", "show", "data"]);
    assert!(shown.contains("first, second"), "{shown}");
    for (command, keys) in [
        (
            &["volume", "list"][..],
            &["id", "name", "status", "size", "volume_type", "attachments"][..],
        ),
        (
            &["volume", "show", "data"],
            &["id", "name", "status", "metadata", "created_at"],
        ),
        (
            &["volume", "snapshot", "list"],
            &["id", "name", "volume_id", "status", "size"],
        ),
        (
            &["volume", "snapshot", "show", "data", "first"],
            &["id", "name", "volume_id"],
        ),
    ] {
        has_keys(&cli.json(command), keys, &command.join(" "));
    }
    // A disk of the oVirt API is a volume, and one that a VM has says so.
    assert!(cli.text(&["volume", "list"]).contains("db1_disk1"));
    let in_use = cli.ends(5, &["volume", "delete", "db1_disk1", "--yes"]);
    assert!(
        in_use.contains("in the way") && in_use.contains("stillpoint disk detach"),
        "{in_use}"
    );

    back(cli);
    wrong_names(cli);
}

fn back(cli: &Cli) {
    // Only the newest snapshot is gone back to; what else there is, is said.
    let older = cli.ends(5, &["volume", "revert", "data", "first", "--yes"]);
    for part in [
        "was not brought back",
        "\"second\" is newer",
        "volume create NAME --snapshot first",
    ] {
        assert!(older.contains(part), "{part}: {older}");
    }
    let plan = cli.text(&["volume", "revert", "data", "second", "--dry-run"]);
    assert!(
        plan.contains("everything that was written to the volume since"),
        "{plan}"
    );
    cli.text(&["volume", "revert", "data", "second", "--yes"]);
    cli.text(&["volume", "create", "copy", "--snapshot", "first"]);
    cli.text(&["volume", "create", "twin", "--volume", "data", "--size", "2G"]);
    cli.text(&["volume", "extend", "data", "--size", "2G"]);
    let smaller = cli.ends(2, &["volume", "extend", "data", "--size", "1G"]);
    assert!(smaller.contains("2.00 GiB already"), "{smaller}");
    let grown = cli.ends(5, &["volume", "revert", "data", "second", "--yes"]);
    assert!(grown.contains("2.00 GiB now, and had 1.00 GiB then"), "{grown}");
}

fn wrong_names(cli: &Cli) {
    for (wrong, remedy) in [
        (&["volume", "show", "dta"][..], "did you mean \"data\"?"),
        (
            &["volume", "snapshot", "show", "data", "fisrt"][..],
            "did you mean \"first\"?",
        ),
        (
            &["volume", "snapshot", "delete", "copy", "first", "--yes"][..],
            "stillpoint volume snapshot list copy",
        ),
    ] {
        let told = cli.ends(3, wrong);
        assert!(told.contains(remedy), "{wrong:?}: {told}");
    }
    cli.text(&["volume", "create", "twin", "--size", "1G"]);
    let told = cli.ends(3, &["volume", "show", "twin"]);
    assert!(told.contains("2 volumes are named so"), "{told}");
    let elsewhere = cli.ends(3, &["volume", "show", "data", "--project", "other"]);
    assert!(elsewhere.contains("there is no volume"), "{elsewhere}");
    let none = cli.ends_with(2, &["volume", "list"], |command| {
        command.env_remove("STILLPOINT_PROJECT")
    });
    assert!(none.contains("demo") && none.contains("--project"), "{none}");
    let unknown = cli.ends(4, &["volume", "create", "x", "--size", "1G", "--project", "nowhere"]);
    assert!(unknown.contains("role on the project \"nowhere\""), "{unknown}");
    let kind = cli.ends(3, &["volume", "create", "x", "--size", "1G", "--type", "nothing"]);
    assert!(kind.contains("\"x\" was not made"), "{kind}");
}

/// What the plans have been shown for is done.
pub(crate) fn away(cli: &Cli) {
    cli.text(&["volume", "snapshot", "delete", "data", "second", "--yes"]);
    let held = cli.ends(5, &["volume", "delete", "data", "--yes"]);
    assert!(held.contains("--with-snapshots"), "{held}");
    cli.text(&["volume", "delete", "data", "--with-snapshots", "--yes"]);
    assert!(cli.ends(3, &["volume", "show", "data"]).contains("there is no volume"));
    cli.text(&["volume", "delete", "copy", "--yes"]);
}
