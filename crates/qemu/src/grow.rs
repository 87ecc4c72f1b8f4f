//! Growing a disk: `block_resize` of its active layer, whether a guest runs on it or not.
//!
//! Crash consistency. QEMU writes the new size of a qcow2 file as the last thing, flushed: the file has the old size or
//! the new one. A raw file's size is only in the kernel's memory when QEMU answers, so the file is synced here before
//! anybody records the new size.

use crate::{endpoint::Blocks, failure::io_failed, graph::Observed, names::format_node, switch::joined};
use serde_json::json;
use std::{fs::File, path::Path};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind, ImageRef};
use stillpoint_types::DiskId;

const OP: &str = "extend disk";

/// See [`stillpoint_engine::ports::Endpoint::grow`].
pub(crate) async fn grow(blocks: &Blocks, disk: DiskId, active: &ImageRef, size_bytes: u64) -> Driven<()> {
    let _turn = blocks.turn(OP).await?;
    let observed = blocks.observe().await?;
    let size_now = size(&observed, disk, active)?;
    if size_now > size_bytes {
        let text = format!(
            "image {} has {size_now} bytes already, more than the {size_bytes} that were asked for",
            active.id
        );
        return Err(DriverError::new(DriverErrorKind::InvalidImage, OP, text));
    }
    if size_now < size_bytes {
        drop_lost_bitmaps(blocks, &observed, active).await?;
        let resize = json!({"node-name": format_node(active.id), "size": size_bytes});
        blocks.monitor.run(OP, "block_resize", resize).await?;
    }
    let path = active.path.clone();
    joined(tokio::task::spawn_blocking(move || sync(&path)).await)?
}

/// The active layer's size, if it is that disk's.
fn size(observed: &Observed, disk: DiskId, active: &ImageRef) -> Driven<u64> {
    let root = observed
        .root(disk)
        .ok_or_else(|| DriverError::new(DriverErrorKind::NotFound, OP, format!("disk {disk} is not attached")))?;
    if observed.active(disk) != Some(active.id) {
        let text = format!("disk {disk}: its active layer is not {} but node {root}", active.id);
        return Err(DriverError::new(DriverErrorKind::Protocol, OP, text));
    }
    Ok(observed.needed(OP, active.id)?.size_bytes())
}

/// With such a bitmap QEMU refuses to resize (`qcow2_truncate_bitmaps_check`), and what it knew is lost in any case.
async fn drop_lost_bitmaps(blocks: &Blocks, observed: &Observed, active: &ImageRef) -> Driven<()> {
    let node = observed.needed(OP, active.id)?;
    for (name, _) in node.bitmaps().filter(|(_, bitmap)| bitmap.inconsistent) {
        tracing::warn!(bitmap = name, image = %active.id, "bitmap was lost: removed, so that the disk can be extended");
        let remove = json!({"node": format_node(active.id), "name": name});
        blocks.monitor.run(OP, "block-dirty-bitmap-remove", remove).await?;
    }
    Ok(())
}

/// The kernel syncs a file's size whoever has written it. Another process may open it: QEMU's locks are its own.
fn sync(path: &Path) -> Driven<()> {
    let file = File::open(path).map_err(|error| io_failed(OP, path, error))?;
    file.sync_all().map_err(|error| io_failed(OP, path, error))
}
