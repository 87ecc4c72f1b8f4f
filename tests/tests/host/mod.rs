//! What the tests of a failing host and of foreign files have in common: machines without guest, image files at rest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
pub(crate) use stillpoint_system_tests::tool;
use stillpoint_testkit::{Answer, Api, Daemon, Refusal, VmSpec, Xml, eventually};

pub(crate) const FAILED: &str = "Operation Failed";
pub(crate) const LONG: Duration = Duration::from_secs(180);
pub(crate) const MIB: u64 = 1 << 20;

/// A VM without guest, its disks attached.
pub(crate) fn vm(api: &Api, name: &str, disks: usize) -> Result<(String, Vec<String>)> {
    let vm = api.create_vm(&VmSpec::new(name).memory_mib(64).without_guest())?;
    let mut ids = Vec::new();
    for number in 0..disks {
        let disk = api.create_disk(&format!("{name}_{number}"), 64 * MIB)?;
        api.attach(&vm, &disk, "virtio", number == 0)?;
        ids.push(disk);
    }
    Ok((vm, ids))
}

pub(crate) fn refused(answer: Result<Answer>) -> Result<Refusal> {
    answer?.refusal()
}

pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}

pub(crate) fn active_file(daemon: &Daemon, api: &Api, disk: &str) -> Result<PathBuf> {
    let xml = api.get(&format!("disks/{disk}"))?.expect(&[200])?.xml()?;
    let image = xml.text_at("image_id").context("no image_id")?;
    Ok(daemon.images_dir().join(format!("{image}.qcow2")))
}

/// Writes a pattern into an image at rest, as a guest would have.
pub(crate) fn write(image: &Path, pattern: u8, offset_mib: u64, length_mib: u64) -> Result<()> {
    let command = format!("write -P {pattern} {offset_mib}M {length_mib}M");
    tool("qemu-io", &["-f", "qcow2", "-c", &command, text(image)?]).map(drop)
}

/// Whether a disk at rest shows a pattern.
pub(crate) fn shows(image: &Path, pattern: u8, offset_mib: u64, length_mib: u64) -> Result<()> {
    let command = format!("read -P {pattern} {offset_mib}M {length_mib}M");
    let said = tool("qemu-io", &["-r", "-U", "-f", "qcow2", "-c", &command, text(image)?])?;
    ensure!(
        !said.contains("Pattern verification failed"),
        "{}: {said}",
        image.display()
    );
    Ok(())
}

fn newest_event(api: &Api, code: &str) -> Result<Option<Xml>> {
    let events = api.events(0)?;
    Ok(events
        .into_iter()
        .rev()
        .find(|event| event.text_at("code") == Some(code)))
}

/// The description of the newest event with a code; waits for it.
pub(crate) fn told(api: &Api, code: &str) -> Result<String> {
    let event = eventually(LONG, &format!("event {code}"), || newest_event(api, code))?;
    Ok(event.text_at("description").unwrap_or_default().to_owned())
}

/// Waits until a snapshot that failed has gone, as if it had never been asked for.
pub(crate) fn gone(api: &Api, vm: &str, snapshot: &str) -> Result<()> {
    eventually(LONG, "the failed snapshot to be taken back", || {
        let list = api.get(&format!("vms/{vm}/snapshots"))?.expect(&[200])?.xml()?;
        let kinds: Vec<_> = list.all("snapshot").filter(|s| s.id().ok() == Some(snapshot)).collect();
        let left = kinds.iter().any(|s| s.text_at("snapshot_type") != Some("active"));
        Ok((!left).then_some(()))
    })
}
