//! OpenStack's own tests of the volume API against the daemon: those that must pass (`tempest/p0.txt`). All of them, with their
//! counts: `tests/tempest/run`; what it said last is in `docs/tempest.md`.

use anyhow::{Result, ensure};
use std::{path::Path, process::Command};
use stillpoint_testkit::binary;

#[test]
fn openstacks_own_volume_tests_pass() -> Result<()> {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tempest/run");
    let done = Command::new(run)
        .args(["--list", "p0", "--workers", "2"])
        .env("STILLPOINT_BIN", binary()?)
        .output()?;
    let (said, log) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    eprintln!("{said}");
    ensure!(done.status.success(), "{said}{log}");
    ensure!(said.contains("p0: 115 passed, 0 failed, 0 skipped"), "{said}");
    Ok(())
}
