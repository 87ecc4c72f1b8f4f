//! What a running guest is asked for, and its backups.

use crate::{rig::Cli, tour::has_keys};
use std::time::Duration;
use stillpoint_testkit::eventually;

const LONG: Duration = Duration::from_secs(180);

/// Runs a command until it is not refused: the guest's agent may still be on its way.
fn when_it_can(cli: &Cli, arguments: &[&str]) {
    let what = arguments.join(" ");
    eventually(LONG, &what, || {
        let done = cli.command(arguments).output()?;
        Ok(done.status.success().then_some(()))
    })
    .unwrap();
    cli.note(arguments);
}

pub(crate) fn asked(cli: &Cli) {
    cli.text(&["vm", "start", "db1"]);
    when_it_can(cli, &["vm", "freeze", "db1"]);
    cli.text(&["vm", "thaw", "db1"]);
}

/// A backup of the server, step by step; then a point in a directory, all at once.
pub(crate) fn backups(cli: &Cli) {
    let begun = cli.json(&["backup", "start", "db1", "--description", "by hand"]);
    has_keys(&begun, &["id", "phase", "to_checkpoint_id"], "backup start");
    assert_eq!(begun["phase"], "ready");
    let (id, checkpoint) = (
        begun["id"].as_str().unwrap(),
        begun["to_checkpoint_id"].as_str().unwrap(),
    );
    let listed = cli.text(&["backup", "list", "--vm", "db1"]);
    assert!(listed.contains(id) && listed.contains("ready"), "{listed}");
    let second = cli.ends(5, &["backup", "start", "db1"]);
    assert!(
        second.contains("was not begun") && second.contains("backup list --vm db1"),
        "{second}"
    );
    assert!(cli.text(&["backup", "finalize", "db1", id]).contains("succeeded"));
    assert!(cli.text(&["backup", "show", "db1", id]).contains("db1_disk1"));
    assert!(cli.ends(0, &["backup", "finalize", "db1", id]).contains("before"));
    let shown = cli.text(&["checkpoint", "show", "db1", checkpoint]);
    assert!(shown.contains("created") && shown.contains("db1_disk1"), "{shown}");
    let list = cli.json(&["checkpoint", "list", "db1"]);
    has_keys(&list, &["id", "state", "creation_date"], "checkpoint list");
    let absent = "00000000-0000-4000-8000-000000000000";
    for (noun, list) in [
        ("backup", "backup list --vm db1"),
        ("checkpoint", "checkpoint list db1"),
    ] {
        let told = cli.ends(3, &[noun, "show", "db1", absent]);
        assert!(told.contains(list), "{told}");
    }
    cli.text(&["vm", "shutdown", "db1", "--timeout", "120"]);

    let points = cli.home.path().join("points");
    let points = points.to_str().unwrap();
    cli.text(&["backup", "run", "db1", "--to", points]);
    assert!(cli.text(&["backup", "list", points]).contains("db1"));
    cli.text(&["backup", "verify", points]);
    cli.text(&["backup", "restore", points, "--as", "db1-back"]);
    cli.text(&["vm", "delete", "db1-back", "--yes"]);
    // What there is to repair: `tests/tests/repair/`.
    cli.text(&["repair", "--yes"]);
}

/// A new VM of a snapshot has its disks.
pub(crate) fn clones(cli: &Cli) {
    let made = cli.text(&["vm", "clone", "db1", "before upgrade", "--as", "db1-test"]);
    assert!(made.contains("db1-test") && made.contains("1.00 GiB"), "{made}");
    cli.text(&["vm", "delete", "db1-test", "--yes"]);
    cli.text(&["snapshot", "preview", "db1", "before upgrade"]);
    cli.text(&["snapshot", "commit", "db1", "--yes"]);
}
