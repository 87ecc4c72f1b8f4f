//! `./quickstart` as a newcomer runs it: no question, the same again, also after a run that was cut off, and `--stop` leaves
//! nothing running.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_testkit::{Api, Turn, binary, eventually};

const LONG: Duration = Duration::from_secs(180);

fn command(state: &Path, arguments: &[&str]) -> Result<Command> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../quickstart");
    let mut command = Command::new(script);
    command
        .args(arguments)
        .env("STILLPOINT_BIN", binary()?)
        .env("STILLPOINT_QUICKSTART_DIR", state);
    command
        .env("STILLPOINT_QUICKSTART_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null());
    Ok(command)
}

fn quickstart(state: &Path, arguments: &[&str]) -> Result<String> {
    let done = command(state, arguments)?.output().context("running ./quickstart")?;
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

/// Of the daemon that the quickstart left up.
fn api(state: &Path) -> Api {
    let url = std::fs::read_to_string(state.join("url")).unwrap();
    let password = std::fs::read_to_string(state.join("admin-password")).unwrap();
    Api::login(url.trim(), "admin@internal", password.trim()).unwrap()
}

/// Those whose command line names the directory.
fn processes(directory: &Path) -> String {
    let named = Command::new("pgrep").arg("-f").arg(directory).output().unwrap();
    String::from_utf8(named.stdout).unwrap()
}

/// Kills a run, and the command that it waits for, while that reads its first backup.
fn cut_off_in_a_backup(state: &Path) {
    let mut run = command(state, &[]).unwrap().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let begun = lines.any(|line| line.unwrap().contains(" backup run quickstart "));
    assert!(begun, "a run that did not come to its backup: {:?}", run.wait());
    let api = api(state);
    let vms = api.get("vms?search=name%3Dquickstart").unwrap().xml().unwrap();
    let backups = format!("vms/{}/backups", vms.children[0].id().unwrap());
    eventually(LONG, "the backup", || {
        Ok((!api.get(&backups)?.xml()?.children.is_empty()).then_some(()))
    })
    .unwrap();
    run.kill().unwrap();
    for process in processes(&state.join("backups")).lines() {
        // It may have ended by itself, without the one that started it.
        Command::new("kill").args(["-KILL", process]).status().unwrap();
    }
    run.wait().unwrap();
}

fn assert_all_was_proved(state: &Path, said: &str) {
    for proof in [
        "proof 1: all 3 disks end at record",
        "proof 2: no reboot",
        "proof 3: it wrote on to record",
        "proof: all 3 disks are the same as at the moment of point 1, byte for byte",
        "proof: all 3 disks are the same as at the moment of point 2, byte for byte",
    ] {
        assert!(said.contains(proof), "no {proof:?} in\n{said}");
    }
    // The table: what, seconds, and a number of bytes that is not zero.
    for what in [
        "full backup",
        "incremental backup",
        "restore of the full point",
        "restore of the incremental point",
    ] {
        let is_row = |line: &str| {
            let cells: Vec<_> = line
                .trim()
                .strip_prefix(what)
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            let [time, "s", bytes, "KiB" | "MiB" | "GiB"] = cells[..] else {
                return false;
            };
            [time, bytes]
                .iter()
                .all(|cell| cell.parse::<f64>().is_ok_and(|number| number > 0.0))
        };
        assert!(said.lines().any(is_row), "no row of {what:?} in\n{said}");
    }
    let url = std::fs::read_to_string(state.join("url")).unwrap();
    assert!(said.contains(url.trim()), "{said}");
}

#[test]
fn the_quickstart_proves_snapshots_and_backups_again_after_a_run_that_was_cut_off_and_stops_without_a_rest() {
    let _turn = Turn::take();
    let directory = tempfile::Builder::new().prefix("sq-").tempdir().unwrap();
    let state = directory.path();
    let stop = Stop(state);
    for round in 0..2 {
        let said = quickstart(state, &[]).unwrap();
        assert_all_was_proved(state, &said);
        let api = api(state);
        let vms = api.get("vms").unwrap().xml().unwrap();
        let mut shown: Vec<_> = vms
            .all("vm")
            .map(|vm| (vm.text_at("name").unwrap(), vm.text_at("status").unwrap()))
            .collect();
        shown.sort_unstable();
        let names = ["quickstart", "quickstart-full", "quickstart-incremental"];
        assert_eq!(shown, names.map(|name| (name, "down")), "however often it ran");
        let disks = api.get("disks").unwrap().xml().unwrap();
        assert_eq!(disks.children.len(), 9, "three of each VM");
        let mut points: Vec<_> = std::fs::read_dir(state.join("backups/points"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        points.sort();
        assert!(
            matches!(&points[..], [full, incremental, lock]
                if full.starts_with("000001-") && incremental.starts_with("000002-") && lock == "lock"),
            "{points:?}"
        );
        if round == 0 {
            cut_off_in_a_backup(state);
        }
        assert!(quickstart(state, &["--stop"]).unwrap().contains("all stopped"));
        assert_eq!(processes(state), "", "processes that name the directory");
    }
    drop(stop);
}
