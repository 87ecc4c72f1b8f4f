//! Image files that no row names.

use crate::rig::{MIB, Rig, expect_kind, get, overlay, shows, text, write};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{fs, path::PathBuf};
use stillpoint_system_tests::tool;

/// The disk that a repair has made, by its file.
fn recovered(rig: &Rig, before: &[String]) -> Result<PathBuf> {
    let disks = get(&rig.api, "disks")?;
    let fresh = disks.children.iter().find(|disk| {
        let is_named = disk
            .text_at("alias")
            .is_some_and(|alias| alias.starts_with("recovered-"));
        is_named && disk.id().is_ok_and(|id| !before.iter().any(|known| known == id))
    });
    let image = fresh
        .context("no recovered disk")?
        .text_at("image_id")
        .context("no image_id")?
        .to_owned();
    Ok(rig.image(&image))
}

fn disks(rig: &Rig) -> Result<Vec<String>> {
    let disks = get(&rig.api, "disks")?;
    disks.children.iter().map(|disk| Ok(disk.id()?.to_owned())).collect()
}

#[test]
fn a_file_that_nobody_recorded_becomes_a_disk_or_is_kept_aside_and_nothing_is_unlinked() -> Result<()> {
    let mut rig = Rig::new("orphans")?;
    let (top, images) = (rig.active()?, rig.daemon.images_dir());
    write(&top, 0x21, 1)?;

    // An overlay with newer data, perhaps: what it shows becomes a disk of its own, whatever dies meanwhile.
    let foreign = images.join("foreign.qcow2");
    overlay(&top, &foreign)?;
    write(&foreign, 0x22, 2)?;
    let found = rig.plan_only()?;
    expect_kind(&found, "orphan_image", true)?;
    ensure!(found["loses"] == json!([]), "{found:#}");
    let (before, id) = (disks(&rig)?, found["id"].as_str().context("no id")?.to_owned());
    rig.crash("repair:copy:effect", false, |rig| rig.begin(&id))?;
    rig.healed()?;
    let made = recovered(&rig, &before)?;
    shows(&made, 0x21, 1)?;
    shows(&made, 0x22, 2)?;
    shows(&top, 0, 2)?;
    ensure!(
        rig.orphans().iter().any(|name| name.ends_with("-foreign.qcow2")),
        "{:?}",
        rig.orphans()
    );

    // A VM that runs writes to what the file stands on: nothing is done until it is down.
    overlay(&top, &foreign)?;
    write(&foreign, 0x23, 3)?;
    rig.api.start(&rig.vm)?;
    expect_kind(&rig.plan_only()?, "orphan_image", false)?;
    rig.api.stop(&rig.vm)?;
    expect_kind(&rig.plan_only()?, "orphan_image", true)?;
    rig.mend()?;

    // One that stands on nothing is adopted where it is.
    let before = disks(&rig)?;
    let alone = images.join("alone.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", text(&alone)?, "8M"])?;
    write(&alone, 0x24, 4)?;
    expect_kind(&rig.plan_only()?, "orphan_image", true)?;
    let id = rig.plan_only()?["id"].as_str().context("no id")?.to_owned();
    rig.crash("repair:adopt:effect", false, |rig| rig.begin(&id))?;
    rig.healed()?;
    ensure!(!alone.exists());
    shows(&recovered(&rig, &before)?, 0x24, 4)?;

    // What is no image is kept, and what a job or the daemon makes is none of this.
    fs::write(images.join("broken.qcow2"), "no header")?;
    fs::write(images.join("README"), "what is in here")?;
    expect_kind(&rig.plan_only()?, "orphan_image", true)?;
    rig.mend()?;
    let kept = rig.orphans().into_iter().find(|name| name.ends_with("-broken.qcow2"));
    ensure!(fs::read_to_string(images.join("orphans").join(kept.context("gone")?))? == "no header");
    ensure!(images.join("README").exists());
    shows(&top, 0x21, 1)?;
    rig.works()?;
    ensure!(fs::metadata(&top)?.len() > MIB);
    rig.daemon.scan_log(&[])
}
