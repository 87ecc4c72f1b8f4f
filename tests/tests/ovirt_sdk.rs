//! The real oVirt SDK for Python against the real daemon and a real guest, over plain HTTP and over HTTPS.
//!
//! The checks are in `tests/clients/ovirt_sdk_core.py`; `STILLPOINT_TEST_PYTHON` names a Python that has the SDK
//! (`./test` makes one; `scripts/make-venv target/venv` does it by hand).

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::sdk;
use stillpoint_testkit::{Daemon, Guest};

fn run(arguments: &[&str]) -> Result<()> {
    let daemon = Daemon::builder().args(arguments.iter().copied()).start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let mut command = sdk::script(&daemon, "ovirt_sdk_core.py")?;
    command.env(
        "STILLPOINT_CMDLINE",
        guest.cmdline("sp.disks=2 sp.pause=2000 sp.memory=64")?,
    );
    command.env("STILLPOINT_CONSOLES", daemon.data_dir().join("run/vm"));
    let done = command
        .output()
        .context("running Python; scripts/make-venv target/venv makes it")?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    ensure!(done.status.success(), "the SDK's checks:\n{said}");
    let last = said
        .lines()
        .rfind(|line| line.ends_with(" checks passed"))
        .context("no count at the end")?;
    ensure!(
        said.lines().filter(|line| line.starts_with("ok ")).count() >= 40,
        "only {last}:\n{said}"
    );
    daemon.scan_log(&[])
}

#[test]
fn the_unmodified_ovirt_sdk_works_over_http() {
    run(&[]).unwrap();
}

#[test]
fn the_unmodified_ovirt_sdk_works_over_https_with_the_served_ca() {
    run(&["--tls", "auto"]).unwrap();
}
