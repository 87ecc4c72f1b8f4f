//! Disks that come to a running machine, and go from it.
//!
//! A device is added at the place that it would have at a start, so that a machine that is started anew, or a memory that is
//! loaded, finds the same devices. A device only goes when the guest lets go of it: QEMU asks, and tells by an event.
//!
//! Both are *ensures*: what an earlier try has done is found in QEMU's graph and left.

use crate::{
    endpoint::Blocks,
    machine::command_line::{chain_nodes, disk_options},
    monitor::wake,
    names::disk_device,
};
use serde_json::json;
use std::time::Duration;
use stillpoint_engine::ports::{DiskSpec, Driven, DriverError, DriverErrorKind};
use stillpoint_types::{DiskId, ImageId};
use tokio::time::Instant;

/// How long one try waits for the guest.
const LET_GO_LIMIT: Duration = Duration::from_secs(3);
/// How often it is looked without an event.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// See [`stillpoint_engine::ports::Machine::plug`].
pub(crate) async fn plug(blocks: &Blocks, disk: &DiskSpec) -> Driven<()> {
    const OP: &str = "plug disk";
    let _turn = blocks.turn(OP).await?;
    let observed = blocks.observe().await?;
    let id = disk.chain.disk;
    if observed.root(id).is_some() {
        if observed.active(id) == Some(disk.chain.active().id) {
            return Ok(());
        }
        let text = format!("disk {id} is plugged in already, with another active layer");
        return Err(DriverError::new(DriverErrorKind::Protocol, OP, text));
    }
    for (image, nodes) in chain_nodes(&disk.chain, disk.read_only)? {
        blocks.add_image(&observed, OP, image, nodes).await?;
    }
    blocks.monitor.run(OP, "device_add", disk_options(disk)?).await
}

/// See [`stillpoint_engine::ports::Machine::unplug`].
pub(crate) async fn unplug(blocks: &Blocks, disk: DiskId, images: &[ImageId]) -> Driven<()> {
    const OP: &str = "unplug disk";
    let _turn = blocks.turn(OP).await?;
    let mut events = blocks.monitor.events(OP).await?;
    if blocks.observe_tops().await?.root(disk).is_some() {
        let device = json!({"id": disk_device(disk)});
        match blocks.monitor.run(OP, "device_del", device).await {
            // It went meanwhile; or the guest was asked before and has not answered.
            Err(error) if matches!(error.kind, DriverErrorKind::NotFound | DriverErrorKind::Protocol) => {
                tracing::debug!(%disk, error = error.chain(), "asked for a disk before");
            }
            other => other?,
        }
        let end = Instant::now() + LET_GO_LIMIT;
        while blocks.observe_tops().await?.root(disk).is_some() {
            let now = Instant::now();
            if now >= end {
                let text = format!("the guest has not let go of disk {disk} yet");
                return Err(DriverError::new(DriverErrorKind::Busy, OP, text));
            }
            let next = end.min(now + LOOK_PERIOD);
            wake(&mut events, next, OP, |event| event.name == "DEVICE_DELETED").await?;
        }
    }
    for image in images.iter().rev() {
        blocks.close_image(*image).await?;
    }
    Ok(())
}
