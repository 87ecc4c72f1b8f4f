//! A repair that is cut off: it is ended after the restart, whoever died.

use crate::rig::{Rig, expect_kind, shows};
use anyhow::{Context, Result, ensure};

#[test]
fn a_merge_of_a_foreign_layer_is_ended_wherever_the_daemon_or_the_machine_dies() -> Result<()> {
    let mut rig = Rig::new("cut")?;
    rig.api.start(&rig.vm)?;
    let cases = [
        ("repair:merge:started", false),
        ("merge:pending", false),
        ("merge:marked", false),
        ("repair:merge:done", false),
        ("repair:aside:effect", false),
        ("merge:ready", true),
        ("merge:marked", true),
    ];
    for (number, (point, and_machine)) in (1_u8..).zip(cases) {
        let what = || format!("{point}, machine {and_machine}");
        let top = rig.active()?;
        let foreign = rig.daemon.images_dir().join(format!("foreign{number}.qcow2"));
        let mut monitor = rig.monitor()?;
        monitor.snapshot_blkdev(&top, &foreign)?;
        monitor.write(&foreign, number, u64::from(number))?;
        drop(monitor);
        let found = rig.plan_only().with_context(what)?;
        expect_kind(&found, "orphan_overlay", true)?;
        let id = found["id"].as_str().context("no id")?.to_owned();
        rig.crash(point, and_machine, |rig| rig.begin(&id))?;
        rig.healed().with_context(what)?;
        rig.settled().with_context(what)?;
        if and_machine {
            for at in 1..=number {
                shows(&top, at, u64::from(at)).with_context(what)?;
            }
            rig.api.start(&rig.vm).with_context(what)?;
        }
        ensure!(
            rig.orphans().len() == usize::from(number),
            "{}: {:?}",
            what(),
            rig.orphans()
        );
    }
    rig.api.stop(&rig.vm)?;
    rig.works()
}
