//! Maps of changes that are lost: what a bitmap is elsewhere.

use crate::rig::{Rig, events, expect_kind, get, stillpoint, text, write};
use anyhow::{Context, Result, ensure};
use std::{fs, path::PathBuf};
use stillpoint_system_tests::tool;

/// The map of the newest checkpoint; those of older ones are being removed by the client and swept.
fn map(rig: &Rig) -> Result<PathBuf> {
    let newest = get(&rig.api, &format!("vms/{}/checkpoints", rig.vm))?;
    let newest = newest.children.last().context("no checkpoint")?.id()?.to_owned();
    Ok(rig
        .daemon
        .data_dir()
        .join("maps")
        .join(newest)
        .join(format!("{}.map", rig.disk)))
}

/// Writes what goes into the anchored image, so that the map has to tell it.
fn change(rig: &Rig, pattern: u8, at_mib: u64) -> Result<()> {
    // The end of a backup merges, too.
    rig.idle()?;
    let mut snapshots = Vec::new();
    for at in 0..2 {
        write(&rig.active()?, pattern, at_mib + at)?;
        snapshots.push(rig.api.snapshot(&rig.vm, "frozen", false, None)?);
    }
    write(&rig.active()?, pattern, at_mib + 2)?;
    for snapshot in snapshots {
        rig.api.delete_snapshot(&rig.vm, &snapshot)?;
    }
    rig.idle()
}

#[test]
fn a_lost_map_is_made_anew_from_the_layers_and_the_next_backup_is_incremental_and_right() -> Result<()> {
    let rig = Rig::new("mapped")?;
    let (root, daemon) = (tempfile::tempdir()?, &rig.daemon);
    let points = root.path().join("points");
    let backup = || -> Result<String> {
        let (code, said) = stillpoint(
            daemon,
            "admin",
            &["backup", "run", "mapped", "--incremental", "--to", text(&points)?],
        )?;
        ensure!(code == 0, "code {code}: {said}");
        Ok(said)
    };
    let compare = |name: &str| -> Result<()> {
        let (code, said) = stillpoint(daemon, "admin", &["backup", "restore", text(&points)?, "--as", name])?;
        ensure!(code == 0, "code {code}: {said}");
        let (code, shown) = stillpoint(daemon, "admin", &["disk", "list", "--vm", name, "--json"])?;
        ensure!(code == 0, "{shown}");
        let shown: serde_json::Value = serde_json::from_str(&shown)?;
        let restored = rig.image(shown[0]["image_id"].as_str().context("no image")?);
        let active = rig.active()?;
        tool("qemu-img", &["compare", "-U", text(&restored)?, text(&active)?]).map(drop)
    };
    write(&rig.active()?, 0x51, 1)?;
    backup()?;
    change(&rig, 0x52, 5)?;
    let path = map(&rig)?;
    let mut bytes = fs::read(&path)?;
    *bytes.last_mut().context("empty")? ^= 1;
    fs::write(&path, bytes)?;
    let found = rig.plan_only()?;
    expect_kind(&found, "lost_map", true)?;
    ensure!(found["loses"] == serde_json::json!([]), "{found:#}");
    rig.mend()?;
    let said = backup()?;
    ensure!(
        said.contains("(incremental)"),
        "{said} {:?}",
        (events(&rig.api, 10791)?, events(&rig.api, 20004)?)
    );
    compare("again")?;

    // Gone altogether.
    change(&rig, 0x53, 9)?;
    fs::remove_file(map(&rig)?)?;
    expect_kind(&rig.plan_only()?, "lost_map", true)?;
    rig.mend()?;
    let said = backup()?;
    ensure!(
        said.contains("(incremental)"),
        "{said} {:?}",
        (events(&rig.api, 10791)?, events(&rig.api, 20004)?)
    );
    compare("once-more")?;
    ensure!(events(&rig.api, 20004)?.is_empty(), "no checkpoint lost its disk");
    rig.works()
}
