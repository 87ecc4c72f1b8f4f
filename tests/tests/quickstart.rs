//! `./quickstart` as a newcomer runs it: no question, the same again, and `--stop` leaves nothing running.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use stillpoint_testkit::{Api, Turn, binary};

fn quickstart(state: &Path, arguments: &[&str]) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quickstart");
    let mut command = Command::new(script);
    command
        .args(arguments)
        .env("STILLPOINT_BIN", binary()?)
        .env("STILLPOINT_QUICKSTART_DIR", state);
    command
        .env("STILLPOINT_QUICKSTART_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null());
    let done = command.output().context("running ./quickstart")?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    ensure!(
        done.status.success(),
        "./quickstart {arguments:?}: {}\n{said}",
        done.status
    );
    Ok(said)
}

/// Stops what was started also when the test fails.
struct Stop<'a>(&'a Path);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if let Err(error) = quickstart(self.0, &["--stop"]) {
            eprintln!("{error:#}");
        }
    }
}

#[test]
fn the_quickstart_proves_a_way_back_twice_and_stops_without_a_rest() {
    let _turn = Turn::take();
    let directory = tempfile::Builder::new().prefix("sq-").tempdir().unwrap();
    let state = directory.path();
    let stop = Stop(state);
    for round in 0..2 {
        let said = quickstart(state, &[]).unwrap();
        for proof in [
            "proof 1: all 3 disks end at record",
            "proof 2: no reboot",
            "proof 3: it wrote on to record",
        ] {
            assert!(said.contains(proof), "round {round}: no {proof:?} in\n{said}");
        }
        let url = std::fs::read_to_string(state.join("url")).unwrap();
        let password = std::fs::read_to_string(state.join("admin-password")).unwrap();
        assert!(said.contains(url.trim()), "{said}");
        let api = Api::login(url.trim(), "admin@internal", password.trim()).unwrap();
        let vms = api.get("vms?search=name%3Dquickstart").unwrap().xml().unwrap();
        assert_eq!(vms.children.len(), 1, "one VM, however often it ran");
    }
    assert!(quickstart(state, &["--stop"]).unwrap().contains("all stopped"));
    let named = Command::new("pgrep").arg("-f").arg(state).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&named.stdout),
        "",
        "processes that name the directory"
    );
    drop(stop);
}
