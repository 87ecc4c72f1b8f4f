//! What happens to dirty bitmaps when layers change. Actions for one QMP `transaction`; nothing is sent here.
//!
//! A bitmap must never miss a write; it may hold more. A bitmap that was not stored cleanly (`inconsistent`) is lost and
//! is never a source; it is left for whoever reports it, not replaced by an empty one.
//!
//! On a merge, a recording bitmap of the base records what the commit writes there, which are whole clusters of the
//! top. Together with the top's bitmap of the same name that is exact if the bitmap's granularity is not below the
//! cluster size (QEMU's default is just that), else rounded up to clusters: a superset.

use crate::{
    graph::{Bitmap, Node},
    names::format_node,
};
use serde_json::{Value, json};
use stillpoint_types::ImageId;

/// Same names, empty and recording, on the overlay of a switch.
pub(crate) fn clone_to_overlay(base: &Node, overlay: ImageId) -> Vec<Value> {
    base.bitmaps()
        .filter(|(_, bitmap)| bitmap.recording && !bitmap.inconsistent)
        .map(|(name, bitmap)| add(&format_node(overlay), name, bitmap, false))
        .collect()
}

/// Before a commit begins: what records in the top must record in the base too, or the committed writes would be
/// missing there (seen with QEMU 7.2: a disabled bitmap stayed as it was).
pub(crate) fn enable_before_merge(top: &Node, base: &Node) -> Vec<Value> {
    pairs(top, base)
        .filter(|(_, above, below)| above.recording && below.is_some_and(|b| !b.recording && !b.inconsistent))
        .map(|(name, ..)| json!({"type": "block-dirty-bitmap-enable", "data": {"node": base.name, "name": name}}))
        .collect()
}

/// Before the pivot: all that the top's bitmaps know goes to the base's. May be done twice.
pub(crate) fn carry_to_base(top: &Node, base: &Node, base_image: ImageId) -> Vec<Value> {
    let mut actions = Vec::new();
    for (name, above, below) in pairs(top, base) {
        match below {
            Some(below) if below.inconsistent => {
                tracing::warn!(bitmap = name, base = %base_image, "bitmap is lost in the base: not merged");
                continue;
            }
            None if base.drv == "raw" => {
                tracing::warn!(bitmap = name, base = %base_image, "bitmap is lost: a raw base cannot store it");
                continue;
            }
            None => actions.push(add(&base.name, name, above, !above.recording)),
            Some(_) => {}
        }
        actions.push(json!({"type": "block-dirty-bitmap-merge", "data": {
            "node": format_node(base_image), "target": name, "bitmaps": [{"node": top.name, "name": name}]}}));
    }
    actions
}

/// Usable bitmaps of the top, each with the base's of the same name.
fn pairs<'a>(top: &'a Node, base: &'a Node) -> impl Iterator<Item = (&'a str, &'a Bitmap, Option<&'a Bitmap>)> {
    top.bitmaps()
        .filter(|(_, bitmap)| !bitmap.inconsistent)
        .map(|(name, bitmap)| {
            let below = base.bitmaps().find(|(there, _)| *there == name);
            (name, bitmap, below.map(|(_, bitmap)| bitmap))
        })
}

fn add(node: &str, name: &str, like: &Bitmap, disabled: bool) -> Value {
    json!({"type": "block-dirty-bitmap-add", "data": {"node": node, "name": name, "persistent": true,
        "granularity": like.granularity, "disabled": disabled}})
}
