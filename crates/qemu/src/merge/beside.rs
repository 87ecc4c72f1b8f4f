//! A large middle layer, merged beside the chain.
//!
//! QEMU's commit of a middle layer goes through the whole virtual size in steps of 512 KiB, whatever is allocated: 7 to 12 s
//! for an empty TiB (QEMU 7.2, `commit_run`). The commit of an active layer asks for what is allocated in steps of 32 MiB:
//! 0.1 s. But that takes only a layer that nothing stands on, and a base that all others let be written. So:
//!
//! ```text
//! above -> top -> base        above -> SHADOW -> base        above -> SHADOW -> base         above -> base
//!                                        top ---^                 top ---^  (commit)
//!    (no job)        -> aside               -> running -> READY -> PENDING -> concluded -> RELINK -> header -> dismiss
//! ```
//! The shadow is a second, read-only node of the top's file with `force-share`: who stands on it shares writing with the
//! commit, and reads through the top's clusters what the commit writes to the base. The top is frozen, so READY means that
//! all of it is in the base, and no write of the guest is held at any time.
//!
//! Crash consistency: as with any middle merge the header of the layer above says which it is. It names the top until one
//! `blockdev-reopen` has made the base durable (reopening begins with a flush, whose failure is the command's) and has put
//! the layer above onto it. QEMU killed before: the top is whole, and the base only has more of it. Killed between that and
//! the new header: guests write only to layers above, so both chains show the same. The daemon killed: QEMU's graph tells
//! (the shadow is below, or the top is gone); [`super::run`] looks and goes on.

use super::{OP, base_name, below_base, commit, find_job};
use crate::{
    endpoint::Blocks,
    failure::io_failed,
    graph::{Node, Observed},
    layout::utf8,
    machine::command_line::image_nodes,
    names::{format_node, shadow_node, shadow_protocol_node},
    switch::joined,
};
use serde_json::{Value, json};
use std::fs::File;
use stillpoint_engine::ports::{Driven, DriverErrorKind, ImageRef, Merge};
use stillpoint_types::{ImageFormat, crash_point, test_limit};

/// A layer up to this virtual size is merged within its chain: QEMU walks it in 0.2 s, by fewer commands.
const WALKED_MAX_BYTES: u64 = 16 << 30;
/// Lowers that in tests.
const WALKED_MAX: &str = "STILLPOINT_LARGE_LAYER_BYTES";

/// Whether these layers of the middle are merged so. Not with bitmaps, which a second node of the file would read too; nor
/// onto a raw base: the command that writes the header would call it a qcow2 (QEMU 7.2, `qmp_change_backing_file`).
pub(super) fn suits(top: &Node, base: &Node) -> bool {
    let is_plain = |node: &Node| node.drv == "qcow2" && node.bitmaps().next().is_none();
    top.size_bytes() > test_limit(WALKED_MAX, WALKED_MAX_BYTES) && is_plain(top) && is_plain(base)
}

/// Whether the layer above stands on the shadow.
pub(super) fn is_on(observed: &Observed, merge: &Merge) -> bool {
    let above = merge.above();
    above.is_some_and(|above| observed.stands_on_shadow(above.id, merge.top.id))
}

/// Opens the shadow, puts the layer above onto it, and begins the commit of the top that is now free. What an earlier try
/// has done is left.
pub(super) async fn start(blocks: &Blocks, merge: &Merge, above: &ImageRef) -> Driven<()> {
    let _turn = blocks.turn(OP).await?;
    let observed = blocks.observe().await?;
    let shadow = shadow_node(merge.top.id);
    if !observed.has(&shadow) {
        let node = json!({
            "driver": "qcow2", "node-name": shadow, "read-only": true, "force-share": true,
            "backing": format_node(merge.base.id),
            "file": {"driver": "file", "node-name": shadow_protocol_node(merge.top.id),
                     "filename": utf8(OP, &merge.top.path)?, "read-only": true},
        });
        blocks.monitor.run(OP, "blockdev-add", node).await?;
    }
    if !observed.stands_on_shadow(above.id, merge.top.id) {
        reopen(blocks, vec![onto(&observed, above, &shadow)?]).await?;
    }
    tracing::info!(top = %merge.top.id, base = %merge.base.id, "a layer is merged beside its chain");
    crash_point(&["merge", "aside"]);
    let arguments = commit(merge, &format_node(merge.top.id));
    blocks.monitor.run(OP, "block-commit", arguments).await?;
    crash_point(&["merge", "running"]);
    Ok(())
}

/// Puts the layer above onto the base, which has all of the top, and makes its header say so.
pub(super) async fn relink(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let turn = blocks.turn(OP).await?;
    let observed = blocks.observe().await?;
    let Some(above) = merge.above().filter(|_| is_on(&observed, merge)) else {
        return Ok(()); // Another one had the turn before.
    };
    let [_, base] = image_nodes(&merge.base, below_base(merge), true)?;
    let above_on_base = onto(&observed, above, &format_node(merge.base.id))?;
    reopen(blocks, vec![base, above_on_base]).await?;
    drop(turn);
    crash_point(&["merge", "relinked"]);
    name_base(blocks, merge, above).await
}

/// Makes the header of the layer above name the base, durably: the top's file goes next.
pub(super) async fn name_base(blocks: &Blocks, merge: &Merge, above: &ImageRef) -> Driven<()> {
    let observed = blocks.observe().await?;
    let name = json!({
        "device": observed.root(merge.disk).unwrap_or_default(),
        "image-node-name": format_node(above.id), "backing-file": base_name(merge)?,
    });
    blocks.monitor.run(OP, "change-backing-file", name).await?;
    let path = above.path.clone();
    let sync = move || {
        let synced = File::open(&path).and_then(|file| file.sync_data());
        synced.map_err(|error| io_failed(OP, &path, error))
    };
    joined(tokio::task::spawn_blocking(sync).await)?
}

/// Puts the layer above onto the top itself again, if it is on the shadow and no job is there.
pub(super) async fn put_back(blocks: &Blocks, merge: &Merge, above: &ImageRef) -> Driven<()> {
    let _turn = blocks.turn(OP).await?;
    if find_job(blocks, merge).await?.is_some() {
        return Ok(());
    }
    let observed = blocks.observe().await?;
    if observed.has(&shadow_node(merge.top.id)) {
        leave_shadow(blocks, &observed, above, &merge.top).await?;
    }
    Ok(())
}

/// The graph, without shadows that this merge does not need: what a daemon that died in another one has left.
pub(super) async fn settled(blocks: &Blocks, merge: &Merge) -> Driven<Observed> {
    let observed = super::observe(blocks, merge).await?;
    let suits = match (observed.image(merge.top.id), observed.image(merge.base.id)) {
        (Some(top), Some(base)) => suits(top, base),
        _ => false,
    };
    let is_stale = |pair: &&[ImageRef]| {
        observed.has(&shadow_node(pair[0].id)) && !(suits && !merge.is_active() && pair[0] == merge.top)
    };
    let stale: Vec<_> = merge.chain.windows(2).filter(is_stale).collect();
    if stale.is_empty() {
        return Ok(observed);
    }
    let _turn = blocks.turn(OP).await?;
    for pair in stale {
        leave_shadow(blocks, &observed, &pair[1], &pair[0]).await?;
    }
    super::observe(blocks, merge).await
}

async fn leave_shadow(blocks: &Blocks, observed: &Observed, above: &ImageRef, image: &ImageRef) -> Driven<()> {
    if observed.stands_on_shadow(above.id, image.id) {
        reopen(blocks, vec![onto(observed, above, &format_node(image.id))?]).await?;
    }
    close_shadow(blocks, image).await
}

/// Closes the shadow.
pub(super) async fn close(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    close_shadow(blocks, &merge.top).await
}

async fn close_shadow(blocks: &Blocks, image: &ImageRef) -> Driven<()> {
    let node = json!({"node-name": shadow_node(image.id)});
    match blocks.monitor.run(OP, "blockdev-del", node).await {
        Err(error) if error.kind == DriverErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The options that a layer's node has, but with that node below it.
fn onto(observed: &Observed, above: &ImageRef, below: &str) -> Driven<Value> {
    debug_assert!(above.format == ImageFormat::Cow, "only a qcow2 stands on something");
    let is_read_only = observed.needed(OP, above.id)?.is_read_only;
    let [_, mut node] = image_nodes(above, None, is_read_only)?;
    node["backing"] = json!(below);
    Ok(node)
}

async fn reopen(blocks: &Blocks, nodes: Vec<Value>) -> Driven<()> {
    let options = json!({"options": nodes});
    blocks.monitor.run(OP, "blockdev-reopen", options).await
}
