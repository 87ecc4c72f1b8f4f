//! The snapshots of a VM as a drawing: each stands on the one before it, and the VM where it is now.

use super::{
    find::{description, kind},
    shown::moment,
};
use stillpoint_sdk::types::Snapshot;

/// Draws snapshots that are in their order, oldest first.
///
/// Regular snapshots are a line. During a preview the VM stands on the previewed one, and what it had before (`preview`)
/// on the newest.
pub(crate) fn draw(all: &[Snapshot]) -> String {
    let regular: Vec<_> = all.iter().filter(|one| kind(one) == "regular").collect();
    let previewed = regular
        .iter()
        .position(|one| one.snapshot_status.as_deref() == Some("in_preview"));
    let kept = all.iter().find(|one| kind(one) == "preview");
    let mut lines = Vec::new();
    let mut indent = String::new();
    let here = "you are here: the VM as it is now";
    for (depth, one) in regular.iter().enumerate() {
        let is_last = depth + 1 == regular.len();
        lines.push(format!("{indent}{}{}", branch(depth), label(one)));
        if depth > 0 {
            indent.push_str("   ");
        }
        if previewed == Some(depth) {
            // More hangs below it when it is not the last, or when the state before the preview does.
            let mark = if is_last && kept.is_none() {
                "└─ "
            } else {
                "├─ "
            };
            lines.push(format!("{indent}{mark}{here} (preview)"));
        }
        if is_last && let Some(kept) = kept {
            lines.push(format!("{indent}└─ {} (kept for undo)", label(kept)));
        }
    }
    if previewed.is_none() {
        lines.push(format!("{indent}{}{here}", branch(regular.len())));
    }
    lines.join("\n")
}

fn branch(depth: usize) -> &'static str {
    if depth == 0 { "" } else { "└─ " }
}

fn label(one: &Snapshot) -> String {
    let mut text = description(one).to_owned();
    if let Some(date) = one.date {
        text.push_str(&format!("  {}", moment(date.0)));
    }
    if one.persist_memorystate == Some(true) {
        text.push_str("  with memory");
    }
    match one.snapshot_status.as_deref() {
        None | Some("ok") => {}
        Some(status) => text.push_str(&format!("  [{status}]")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, kind: &str, status: &str) -> Snapshot {
        let mut snapshot = Snapshot {
            snapshot_type: Some(kind.to_owned()),
            snapshot_status: Some(status.to_owned()),
            ..Snapshot::default()
        };
        snapshot.base.head.description = Some(text.to_owned());
        snapshot
    }

    #[test]
    fn the_vm_hangs_below_the_newest_snapshot_or_the_one_that_it_previews() {
        let active = one("Active VM", "active", "ok");
        assert_eq!(draw(std::slice::from_ref(&active)), "you are here: the VM as it is now");
        let line = [one("a", "regular", "ok"), one("b", "regular", "locked"), active.clone()];
        assert_eq!(
            draw(&line),
            "a\n└─ b  [locked]\n   └─ you are here: the VM as it is now"
        );
        let preview = [
            one("a", "regular", "in_preview"),
            one("b", "regular", "ok"),
            one("before", "preview", "ok"),
            active,
        ];
        assert_eq!(
            draw(&preview),
            "a  [in_preview]\n├─ you are here: the VM as it is now (preview)\n└─ b\n   └─ before (kept for undo)"
        );
    }
}
