//! Disks go in and out through image transfers, driven by the unmodified oVirt SDK and the unmodified imageio client.
//!
//! The steps are in `tests/clients/transfers.py`; the bytes are judged here, by `qemu-img compare`.

use anyhow::{Result, ensure};
use stillpoint_system_tests::{sdk, tool};
use stillpoint_testkit::Daemon;

/// Returns how many requests for images went over TCP, and how many over the unix socket.
fn run(arguments: &[&str]) -> Result<(u64, u64)> {
    let daemon = Daemon::builder().args(arguments.iter().copied()).start()?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let source = path("source.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", &source, "64M"])?;
    for (pattern, at) in [("11", "1M"), ("22", "17M"), ("33", "63M")] {
        tool(
            "qemu-io",
            &["-f", "qcow2", "-c", &format!("write -P {pattern} {at} 1M"), &source],
        )?;
    }
    let done = sdk::script(&daemon, "transfers.py")?.arg(folder.path()).output()?;
    let said = [done.stdout, done.stderr].concat();
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&said));
    for name in ["cow.qcow2", "raw.qcow2"] {
        tool("qemu-img", &["compare", &source, &path(name)])?;
    }
    daemon.scan_log(&[])?;
    sdk::images_asked(&daemon)
}

#[test]
fn disks_are_uploaded_and_downloaded_by_the_unmodified_clients_over_the_unix_socket_that_they_are_offered() {
    let (tcp, local) = run(&[]).unwrap();
    assert!(tcp <= 4, "each of four transfers asks once what there is: {tcp}");
    assert!(local > 8, "{local}");
}

#[test]
fn disks_are_uploaded_and_downloaded_by_the_unmodified_clients_over_https_where_no_socket_is_offered() {
    let (tcp, local) = run(&["--tls", "auto", "--local-images", "off"]).unwrap();
    assert!(tcp > 12 && local == 0, "{tcp} {local}");
}
