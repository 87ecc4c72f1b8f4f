//! Merges that happened and that no row knows of.

use crate::rig::{MIB, Rig, events, expect_kind, get, shows, stillpoint, text, write};
use anyhow::{Context, Result, ensure};
use std::fs;
use stillpoint_system_tests::tool;

/// What a snapshot holds of a disk: none, if it has lost it.
fn held(rig: &Rig, snapshot: &str) -> Result<usize> {
    let disks = get(&rig.api, &format!("vms/{}/snapshots/{snapshot}/disks", rig.vm))?;
    Ok(disks.children.len())
}

fn catalogue(rig: &Rig) -> Vec<std::path::PathBuf> {
    let names = ["stillpoint.db", "stillpoint.db-wal", "stillpoint.db-shm"];
    names.iter().map(|name| rig.daemon.data_dir().join(name)).collect()
}

#[test]
fn a_merge_that_an_older_catalogue_does_not_know_is_recorded_and_no_write_is_lost() -> Result<()> {
    let mut rig = Rig::new("catalogue")?;
    write(&rig.active()?, 0x31, 1)?;
    let snapshot = rig.api.snapshot(&rig.vm, "kept", false, None)?;
    let newer = rig.active()?;
    write(&newer, 0x32, 2)?;
    // The catalogue is put back from a copy that is older than the merge, which is cut off where its mark is there.
    rig.daemon.stop()?;
    let saved: Vec<_> = catalogue(&rig)
        .into_iter()
        .map(|file| (fs::read(&file).ok(), file))
        .collect();
    let path = format!("vms/{}/snapshots/{snapshot}", rig.vm);
    rig.crash("snapshot_delete:merge:effect", false, |rig| drop(rig.api.delete(&path)))?;
    rig.daemon.kill9()?;
    for (content, file) in &saved {
        match content {
            Some(content) => fs::write(file, content)?,
            None => fs::remove_file(file).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?,
        }
    }
    ensure!(!newer.exists());
    let mark = newer.with_extension("qcow2.merged");
    if !mark.exists() {
        // The daemon ended what it had begun before it was ended again; the mark is what it had been at the crash.
        fs::write(&mark, "")?;
    }
    rig.restart()?;
    let found = rig.plan_only()?;
    expect_kind(&found, "half_merge", true)?;
    ensure!(
        found["loses"][0].as_str().is_some_and(|loses| loses.contains("'kept'")),
        "{found:#}"
    );
    let refused = rig.api.post(&format!("vms/{}/start", rig.vm), "<action/>")?;
    ensure!(
        refused.status != 200
            || rig
                .api
                .wait_status(&format!("vms/{}", rig.vm), "status", "down", crate::rig::LONG)
                .is_ok()
    );
    let id = found["id"].as_str().context("no id")?.to_owned();
    rig.crash("repair:record:started", false, |rig| rig.begin(&id))?;
    rig.healed()?;
    ensure!(held(&rig, &snapshot)? == 0, "what the snapshot held was overwritten");
    shows(&rig.active()?, 0x31, 1)?;
    shows(&rig.active()?, 0x32, 2)?;
    ensure!(events(&rig.api, 20010)?.len() == 1);
    rig.api.delete_snapshot(&rig.vm, &snapshot)?;
    rig.works()
}

#[test]
fn a_merge_of_the_middle_by_another_tool_is_recorded_if_its_content_proves_it_and_refused_if_not() -> Result<()> {
    let rig = Rig::new("middle")?;
    let (vm, api, images) = (&rig.vm, &rig.api, rig.daemon.images_dir());
    let base = rig.active()?;
    write(&base, 0x41, 1)?;
    let first = api.snapshot(vm, "first", false, None)?;
    let middle = rig.active()?;
    write(&middle, 0x42, 2)?;
    let second = api.snapshot(vm, "second", false, None)?;
    let top = rig.active()?;
    write(&top, 0x43, 3)?;
    crate::rig::expect_nothing(&rig.daemon)?;
    let name = |path: &std::path::Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let put_onto = |below: &std::path::Path| -> Result<()> {
        let below = name(below).context("a name")?;
        tool(
            "qemu-img",
            &["rebase", "-q", "-u", "-F", "qcow2", "-b", &below, text(&top)?],
        )
        .map(drop)
    };
    // Only the header was changed: the base lacks what the middle has.
    put_onto(&base)?;
    let found = rig.plan_only()?;
    expect_kind(&found, "half_merge", false)?;
    let id = found["id"].as_str().context("no id")?;
    let (code, said) = stillpoint(&rig.daemon, "admin", &["repair", id, "--yes"])?;
    ensure!(code == 9 && said.contains("rebase"), "code {code}: {said}");
    let native = api.speaking(None, "/stillpoint/v1");
    native
        .post_json(&format!("repairs/{id}"), &serde_json::json!({}))?
        .expect(&[409])?;
    ensure!(stillpoint(&rig.daemon, "admin", &["repair", "--yes"])?.0 == 9);
    put_onto(&middle)?;
    crate::rig::expect_nothing(&rig.daemon)?;

    // It was committed, too.
    let below = name(&base).context("a name")?;
    tool("qemu-img", &["commit", "-q", "-d", "-b", &below, text(&middle)?])?;
    put_onto(&base)?;
    let found = rig.plan_only()?;
    expect_kind(&found, "half_merge", true)?;
    ensure!(
        found["loses"][0]
            .as_str()
            .is_some_and(|loses| loses.contains("'first'")),
        "{found:#}"
    );
    rig.mend()?;
    ensure!(!middle.exists() && rig.orphans().len() == 1, "{:?}", rig.orphans());
    ensure!(held(&rig, &first)? == 0 && held(&rig, &second)? == 1);
    for (pattern, at) in [(0x41, 1), (0x42, 2), (0x43, 3)] {
        shows(&rig.active()?, pattern, at)?;
    }
    shows(&base, 0, 3)?;
    // The snapshot that the middle held shows its moment from the base.
    api.restore(vm, &second, false)?;
    rig.settled()?;
    shows(&rig.active()?, 0x42, 2)?;
    shows(&rig.active()?, 0, 3)?;
    ensure!(fs::metadata(images.join("orphans").join(&rig.orphans()[0]))?.len() > MIB);
    rig.works()
}
