//! `ovirt-img`, the command of ovirt-imageio 2.5.1, unmodified, moves disks into a running daemon and out again.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fs, path::Path, process::Command};
use stillpoint_system_tests::{sdk, tool};
use stillpoint_testkit::{Daemon, Password};
use uuid::Uuid;

/// Runs it; what it told on the way.
fn ovirt_img(daemon: &Daemon, folder: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
    let secret = folder.join("password");
    fs::write(&secret, Password::of("admin")?.0)?;
    let mut command = Command::new(sdk::python().with_file_name("ovirt-img"));
    command
        .args(arguments)
        .args(["--engine-url", daemon.url(), "--username", "admin@internal"]);
    command.args(["--output", "json"]).arg("--password-file").arg(secret);
    command.arg("--cafile").arg(sdk::fetch_ca(daemon)?);
    command.env("no_proxy", "*").env("PYTHONDONTWRITEBYTECODE", "1");
    let done = command.output()?;
    let said = String::from_utf8(done.stdout)?;
    ensure!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    Ok(said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[test]
fn disks_are_uploaded_and_downloaded_by_the_unmodified_command() -> Result<()> {
    let daemon = Daemon::builder().args(["--tls", "auto"]).start()?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let source = path("source.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", &source, "64M"])?;
    for (pattern, at) in [("0x51", "0"), ("0x52", "33M"), ("0x53", "63M")] {
        let write = format!("write -P {pattern} {at} 1M");
        tool("qemu-io", &["-f", "qcow2", "-c", &write, &source])?;
    }
    for format in ["qcow2", "raw"] {
        let disk = Uuid::new_v4().to_string();
        let upload = [
            "upload-disk",
            "--storage-domain",
            "data",
            "--format",
            format,
            "--disk-id",
            &disk,
            &source,
        ];
        let told = ovirt_img(&daemon, folder.path(), &upload)?;
        let last = told.last().context("nothing was told")?;
        ensure!(
            last["description"] == "upload completed" && last["transferred"] == 64 << 20,
            "{last}"
        );
        for (into, target) in [("qcow2", path("out.qcow2")), ("raw", path("out.raw"))] {
            let download = ["download-disk", "--format", into, &disk, &target];
            let told = ovirt_img(&daemon, folder.path(), &download)?;
            let last = told.last().context("nothing was told")?;
            ensure!(last["description"] == "download completed", "{last}");
            tool(
                "qemu-img",
                &["compare", "-q", "-f", "qcow2", "-F", into, &source, &target],
            )?;
            fs::remove_file(&target)?;
        }
    }
    let unknown = ["download-disk", "00000000-0000-4000-8000-00000000dead", &path("none")];
    let refused = ovirt_img(&daemon, folder.path(), &unknown)
        .expect_err("a disk that is not there")
        .to_string();
    ensure!(refused.contains("404"), "{refused}");
    let (tcp, local) = sdk::images_asked(&daemon)?;
    ensure!(
        tcp <= 6 && local > tcp,
        "it is on this host: {tcp} over TCP, {local} over the socket"
    );
    daemon.scan_log(&[])
}
