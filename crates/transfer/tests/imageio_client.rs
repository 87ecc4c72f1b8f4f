//! The real ovirt-imageio client, unmodified, against this data plane: what backup products run.
//!
//! `STILLPOINT_TEST_PYTHON` names a Python that has it (`./test` makes one; `scripts/make-venv target/venv` does it by
//! hand).
mod common;

use common::*;
use std::path::{Path, PathBuf};
use stillpoint_engine::ports::DataPlane as _;

fn python() -> PathBuf {
    let by_hand = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    std::env::var_os("STILLPOINT_TEST_PYTHON").map_or(by_hand, PathBuf::from)
}

/// Runs the checks of `clients/imageio.py`.
async fn drive_client(directory: &Path, urls: [String; 3]) {
    let mut command = tokio::process::Command::new(python());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/imageio.py");
    command.arg("-B").arg(script).arg(directory);
    command.args(urls).kill_on_drop(true);
    let limit = std::time::Duration::from_secs(300);
    let done = tokio::time::timeout(limit, command.output()).await.expect("it ends");
    let done = done.expect("scripts/make-venv target/venv makes the Python");
    let said = [done.stdout, done.stderr]
        .map(|said| String::from_utf8_lossy(&said).into_owned())
        .concat();
    assert!(done.status.success(), "{said}");
    let checks = said.lines().filter(|line| line.starts_with("ok "));
    assert!(checks.count() >= 18, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unmodified_imageio_client_downloads_uploads_and_compares() {
    // Not a whole number of blocks of a checksum.
    let size = 50 * MIB + 64 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (disk, base, source, target) = (
        at("disk.qcow2"),
        at("base.qcow2"),
        at("source.qcow2"),
        at("target.qcow2"),
    );
    make_qcow2(&disk, size);
    qemu_io(
        &disk,
        &[
            "write -P 1 0 9M",
            "write -P 2 20M 200k",
            "write -z 30M 5M",
            "write -P 3 50M 64k",
        ],
    );
    std::fs::copy(&disk, &base).unwrap();
    run("qemu-img", &["bitmap", "--add", text(&disk), "cp1"]);
    qemu_io(&disk, &["write -P 4 3M 1M", "write -P 5 40M 64k", "write -z 8M 128k"]);
    make_qcow2(&source, size);
    qemu_io(&source, &["write -P 6 1M 17M", "write -P 7 45M 300k"]);
    make_qcow2(&target, size);
    qemu_io(&target, &["write -P 8 0 50M"]);

    let reader = Nbd::start(directory.path(), &disk, &["--read-only", "--bitmap=cp1"]).await;
    let writer = Nbd::start(directory.path(), &target, &["--discard=unmap"]).await;
    let plane = Plane::start().await;
    let url = |id| format!("http://{}{}", plane.address, path(id));
    let download = plane.add(reader.source(None), size, READ).await;
    let incremental = plane.add(reader.source(Some("cp1")), size, READ).await;
    let upload = plane.add(writer.source(None), size, WRITE).await;

    drive_client(directory.path(), [url(&download), url(&incremental), url(&upload)]).await;

    let written = plane.transferred(&upload).await;
    assert_eq!(written, size, "an upload says what is zero, too");
    for id in [&download, &incremental, &upload] {
        let limit = std::time::Duration::from_secs(5);
        plane.transfer.remove(id, limit).await.unwrap();
    }
    drop((reader, writer));
    for (one, other) in [
        (&disk, &at("full.qcow2")),
        (&disk, &at("incremental.qcow2")),
        (&source, &target),
    ] {
        run(
            "qemu-img",
            &["compare", "-f", "qcow2", "-F", "qcow2", text(one), text(other)],
        );
    }
    run("qemu-img", &["check", "-q", text(&target)]);
}
