//! From what is recorded and what was seen to findings: a pure function.
//!
//! Nothing is found about what a job holds, nor about a VM whose QEMU does not answer: the one is explained, the other is
//! not seen. Order of trust, as in recovery: QEMU's graph while it lives, then marks and headers on disk, then rows.

use super::{
    facts::{File, Machine, Records, Seen, file_name},
    files,
};
use crate::{
    ports::BlockGraph,
    reconcile::recover::MISMATCH,
    view::{FindingKind, FindingView},
};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use stillpoint_store::{
    checkpoint::CheckpointDiskRow,
    disk::DiskRow,
    image::{ImageRow, ImageState},
};
use stillpoint_types::{CheckpointId, DiskId, ImageFormat, ImageId, SnapshotId};

/// Digits of an id that say what a finding is about; the others say what was seen.
pub(super) const ABOUT_DIGITS: usize = 8;

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// `disk`, `file` or `checkpoint`.
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) name: String,
}

impl Object {
    pub(super) fn disk(disk: &DiskRow) -> Self {
        Self {
            kind: "disk",
            id: disk.id.to_string(),
            name: disk.alias.clone(),
        }
    }

    pub(super) fn text(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing: an operator has to decide.
    Nothing,
    /// The layer of somebody else goes into the recorded image below it.
    MergeOverlay { disk: DiskId, base: ImageId, file: PathBuf },
    /// The file becomes a disk of its own, where it is.
    Adopt {
        file: String,
        format: ImageFormat,
        parent: Option<ImageId>,
    },
    /// What the file shows, through recorded images, is copied into a disk of its own; the file is kept aside.
    Copy {
        file: String,
        below: ImageId,
        size_bytes: u64,
    },
    /// The file is kept aside.
    SetAside { file: String },
    /// Rows follow a merge that has happened.
    Record {
        disk: DiskId,
        base: ImageId,
        top: ImageId,
        leaves: Vec<(SnapshotId, DiskId)>,
        stale: Option<String>,
    },
    /// A map is made anew from what the anchor holds, and no more than an older map has.
    Rebuild {
        checkpoint: CheckpointId,
        disk: DiskId,
        older: Option<CheckpointId>,
    },
    /// The disk leaves the checkpoint.
    Drop { checkpoint: CheckpointId, disk: DiskId },
    /// The mark goes.
    Clear { disk: DiskId },
}

/// Something that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(super) id: String,
    pub(super) kind: FindingKind,
    pub(super) object: Object,
    pub(super) seen: Vec<String>,
    pub(super) recorded: Vec<String>,
    pub(super) plan: Vec<String>,
    pub(super) loses: Vec<String>,
    pub(super) safe: bool,
    pub(super) act: Act,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, object: Object) -> Self {
        Self {
            id: String::new(),
            kind,
            object,
            seen: Vec::new(),
            recorded: Vec::new(),
            plan: Vec::new(),
            loses: Vec::new(),
            safe: false,
            act: Act::Nothing,
        }
    }

    pub(super) fn seen(mut self, text: impl Into<String>) -> Self {
        self.seen.push(text.into());
        self
    }

    pub(super) fn recorded(mut self, text: impl Into<String>) -> Self {
        self.recorded.push(text.into());
        self
    }

    pub(super) fn plan(mut self, text: impl Into<String>) -> Self {
        self.plan.push(text.into());
        self
    }

    pub(super) fn lose(mut self, text: impl Into<String>) -> Self {
        self.loses.push(text.into());
        self
    }

    /// It can be repaired, so.
    pub(super) fn by(mut self, act: Act) -> Self {
        self.safe = true;
        self.act = act;
        self
    }

    /// Gives it its id.
    fn named(mut self) -> Self {
        let about = digest(&[self.kind.label(), self.object.kind, &self.object.id, &self.object.name]);
        let mut facts: Vec<&str> = Vec::new();
        for part in [&self.seen, &self.recorded, &self.plan, &self.loses] {
            facts.extend(part.iter().map(String::as_str));
            facts.push("");
        }
        self.id = format!("{about}{}", digest(&facts));
        self
    }

    pub(super) fn view(&self) -> FindingView {
        FindingView {
            id: self.id.clone(),
            kind: self.kind,
            object_kind: self.object.kind,
            object_id: self.object.id.clone(),
            object_name: self.object.name.clone(),
            seen: self.seen.clone(),
            recorded: self.recorded.clone(),
            plan: self.plan.clone(),
            loses: self.loses.clone(),
            safe: self.safe,
        }
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hex = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    hex.chars().take(ABOUT_DIGITS).collect()
}

/// Everything that is damaged: disks by alias, then files by name, then checkpoints.
pub(super) fn find(records: &Records, seen: &Seen) -> Vec<Finding> {
    let disks = records.disks.iter().filter(|disk| !records.held.contains(&disk.id));
    let mut found: Vec<Finding> = disks.filter_map(|disk| of_disk(records, seen, disk)).collect();
    found.extend(files::find(records, seen));
    found.extend(records.claims.iter().filter_map(|claim| of_claim(records, seen, claim)));
    found.into_iter().map(Finding::named).collect()
}

fn shown(chain: &[&ImageRow]) -> String {
    let ids: Vec<_> = chain.iter().map(|row| row.id.to_string()).collect();
    ids.join(" <- ")
}

fn of_disk(records: &Records, seen: &Seen, disk: &DiskRow) -> Option<Finding> {
    let chain = records.chain(disk.image)?;
    if chain.iter().any(|row| row.state != ImageState::Live) {
        return None;
    }
    let mut graph = None;
    for user in records.users_of(disk.id).filter(|user| user.active) {
        match seen.machines.get(&user.vm) {
            Some(Machine::Silent) => return None,
            Some(Machine::Graph(found)) => graph = Some(found),
            None => {}
        }
    }
    let case = Case {
        records,
        seen,
        disk,
        chain,
    };
    match graph {
        Some(graph) => case.live(graph),
        None => case.at_rest(),
    }
}

/// One disk.
struct Case<'a> {
    records: &'a Records,
    seen: &'a Seen,
    disk: &'a DiskRow,
    /// Base first.
    chain: Vec<&'a ImageRow>,
}

impl Case<'_> {
    fn finding(&self, kind: FindingKind) -> Finding {
        Finding::new(kind, Object::disk(self.disk)).recorded(format!("layers {}", shown(&self.chain)))
    }

    fn is_illegal(&self) -> bool {
        self.disk
            .illegal
            .as_deref()
            .is_some_and(|why| why.starts_with(MISMATCH))
    }

    fn live(&self, graph: &BlockGraph) -> Option<Finding> {
        let ids: Vec<ImageId> = self.chain.iter().map(|row| row.id).collect();
        if let Some(layer) = graph.strange(self.disk.id).next() {
            let file = layer
                .file
                .as_ref()
                .map_or_else(|| layer.node.clone(), |file| file.display().to_string());
            let found = self
                .finding(FindingKind::OrphanOverlay)
                .seen(format!("QEMU runs the disk on {file}, which nobody recorded"));
            return Some(match super::top_of_somebody_else(graph, self.disk.id, &ids) {
                Some((base, path)) => self.merge_overlay(found, base, path),
                None => found
                    .plan("Nothing by itself: merge what lies above and below it with the tools that made it, then look again."),
            });
        }
        let Some(observed) = graph.chain(self.disk.id) else {
            let seen = "the VM's QEMU does not have the disk";
            let plan = "Nothing by itself: shut the VM down and start it, then look again.";
            return Some(self.finding(FindingKind::BrokenChain).seen(seen).plan(plan));
        };
        if observed == ids {
            return self
                .is_illegal()
                .then(|| self.clear("QEMU has the layers that are recorded"));
        }
        let seen = format!(
            "QEMU has the layers {}",
            observed
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" <- ")
        );
        for at in 1..ids.len() {
            let mut without = ids.clone();
            without.remove(at);
            if observed == without {
                let found = self.finding(FindingKind::HalfMerge).seen(seen);
                return Some(self.merged(found, at, true));
            }
        }
        let plan = "Nothing by itself: the layers do not tell what happened. Copy the disk out of the guest, or put the \
                    layers back as they were.";
        Some(self.finding(FindingKind::BrokenChain).seen(seen).plan(plan))
    }

    fn at_rest(&self) -> Option<Finding> {
        let last = self.chain.len().checked_sub(1)?;
        let top = self.chain[last];
        let mark = format!("{}.merged", file_name(top.id, top.format));
        if self.seen.image(top).is_none() && self.seen.files.contains_key(&mark) && last > 0 {
            let found = self
                .finding(FindingKind::HalfMerge)
                .seen(format!("{mark} is there instead of {}", file_name(top.id, top.format)));
            return Some(self.merged(found, last, true));
        }
        for at in 1..last {
            let (base, above) = (self.chain[at - 1], self.chain[at + 1]);
            if self.seen.stands_on(above, base) {
                let text = format!("{} names {} as its base", file_name(above.id, above.format), base.id);
                let found = self.finding(FindingKind::HalfMerge).seen(text);
                return Some(self.merged(found, at, false));
            }
        }
        if let Some(broken) = self.broken() {
            return Some(broken);
        }
        if !self.is_illegal() {
            return None;
        }
        let standing: Vec<_> = files::standing_on(self.records, self.seen, top).collect();
        if standing.is_empty() {
            return Some(self.clear("all files are as recorded, and no other stands on them"));
        }
        let strange = self
            .records
            .strange
            .iter()
            .find(|row| row.disk == self.disk.id && row.image == top.id)?;
        let is_it = |(_, file): &&(&str, &File)| file.path == strange.file;
        standing.iter().find(is_it)?;
        let found = self.finding(FindingKind::OrphanOverlay).seen(format!(
            "QEMU was seen to run the disk on {}, which nobody recorded; nothing has written to the disk since",
            strange.file.display()
        ));
        Some(self.merge_overlay(found, top.id, strange.file.clone()))
    }

    /// A layer of somebody else on top of the recorded chain.
    fn merge_overlay(&self, found: Finding, base: ImageId, path: PathBuf) -> Finding {
        let name = path.display();
        let key = match path.parent() == Some(self.seen.directory.as_path()) {
            true => path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            false => path.display().to_string(),
        };
        let facts = self.seen.files.get(&key).map(|file| file.facts.as_ref());
        let size = match facts {
            Some(Ok(facts)) => facts.size_bytes,
            Some(Err(why)) => {
                return found.plan(format!("Nothing by itself: {name} cannot be read ({why})."));
            }
            None => return found.plan(format!("Nothing by itself: {name} was not found.")),
        };
        if size != self.disk.size_bytes {
            let plan = format!(
                "Nothing by itself: {name} has {size} bytes, the disk {}. Make them equal first.",
                self.disk.size_bytes
            );
            return found.plan(plan);
        }
        let Some(active) = self.records.images.get(&base) else {
            return found.plan("Nothing by itself: what it stands on is not recorded.");
        };
        let others: Vec<_> = files::standing_on(self.records, self.seen, active)
            .filter(|(_, file)| file.path != path)
            .map(|(name, _)| name.to_owned())
            .collect();
        if !others.is_empty() || !self.records.children(base).is_empty() {
            return found.plan(format!(
                "Nothing by itself: more than this file stands on image {base}: {}.",
                others.join(", ")
            ));
        }
        found
            .plan(format!(
                "Merge {name} into image {base}, which the disk is recorded to be; a guest that runs goes on."
            ))
            .plan(format!("Keep what is left of {name} aside: nothing is unlinked."))
            .plan("Make the disk usable again.")
            .by(Act::MergeOverlay {
                disk: self.disk.id,
                base,
                file: path,
            })
    }

    /// The layer `at` was merged into the one below it, and no row knows. `is_certain`: QEMU or a mark says so; else the
    /// images' content must.
    fn merged(&self, found: Finding, at: usize, is_certain: bool) -> Finding {
        let (base, top) = (self.chain[at - 1], self.chain[at]);
        let is_active = at + 1 == self.chain.len();
        let (files, top_file) = (&self.seen.files, file_name(top.id, top.format));
        let mark = format!("{top_file}.merged");
        let nothing = |found: Finding, why: &str| found.plan(format!("Nothing by itself: {why}"));
        match self.seen.image(base).map(|file| &file.facts) {
            Some(Ok(facts)) if facts.size_bytes == top.size_bytes => {}
            Some(Ok(facts)) => {
                let why = format!(
                    "image {} has {} bytes, what was merged into it {}. Grow it first: qemu-img resize.",
                    base.id, facts.size_bytes, top.size_bytes
                );
                return nothing(found, &why);
            }
            _ => return nothing(found, &format!("the file of image {} cannot be read.", base.id)),
        }
        if files.contains_key(&top_file) && files.contains_key(&mark) {
            return nothing(
                found,
                &format!("both {top_file} and {mark} are there: find out which is the newer."),
            );
        }
        if !is_active && !(is_certain || self.seen.stands_on(self.chain[at + 1], base)) {
            return nothing(found, "the header of the layer above does not name the base.");
        }
        if !is_active {
            match self.seen.contained.get(&(base.id, top.id)) {
                Some(true) => {}
                Some(false) => {
                    let why = format!(
                        "image {} does not hold what image {} has, so it was not merged: the layer above was only put \
                         onto it. Put it back with qemu-img rebase -u, with the VM down.",
                        base.id, top.id
                    );
                    return nothing(found, &why);
                }
                None => return nothing(found, "the images cannot be compared."),
            }
        }
        let same: Vec<_> = self
            .records
            .children(base.id)
            .into_iter()
            .filter(|id| *id != top.id)
            .collect();
        let more = self.records.children(top.id).len() > usize::from(!is_active);
        if !same.is_empty() || more {
            return nothing(
                found,
                "other images stand on them: what those show is not known any more.",
            );
        }
        let held: Vec<_> = self
            .records
            .holders
            .iter()
            .filter(|holder| holder.image == base.id)
            .collect();
        if held.iter().any(|holder| holder.snapshot.is_none()) {
            return nothing(found, "a snapshot of a volume holds the base: delete it first.");
        }
        let leaves: Vec<_> = held
            .iter()
            .filter_map(|holder| Some((holder.snapshot?, holder.disk)))
            .collect();
        let mut found = found.plan(format!(
            "Record that image {} has gone into image {}: what named the one names the other.",
            top.id, base.id
        ));
        if !leaves.is_empty() {
            let names: Vec<_> = held.iter().map(|holder| format!("'{}'", holder.name)).collect();
            found = found.plan(format!("Take the disk out of snapshot {}.", names.join(", ")));
            found = found.lose(format!(
                "the disk as snapshot {} held it: the merge has overwritten it already",
                names.join(", ")
            ));
        }
        // A mark of ours is stale by its name, and goes as after any merge.
        let stale = files.contains_key(&top_file).then(|| top_file.clone());
        if stale.is_some() {
            found = found.plan(format!("Keep {top_file} aside: nothing is unlinked."));
        }
        found.by(Act::Record {
            disk: self.disk.id,
            base: base.id,
            top: top.id,
            leaves,
            stale,
        })
    }

    /// What is wrong with the files of a chain at rest, and nothing explains.
    fn broken(&self) -> Option<Finding> {
        let mut base: Option<&ImageRow> = None;
        for row in &self.chain {
            let name = file_name(row.id, row.format);
            let wrong = match self.seen.image(row).map(|file| &file.facts) {
                None => Some(format!("{name} is not there")),
                Some(Err(why)) => Some(format!("{name} cannot be read: {why}")),
                Some(Ok(facts)) if facts.size_bytes != row.size_bytes => {
                    Some(format!("{name} has {} bytes, not {}", facts.size_bytes, row.size_bytes))
                }
                Some(Ok(facts)) if row.format == ImageFormat::Cow => {
                    let is_right = match base {
                        Some(base) => self.seen.stands_on(row, base),
                        None => facts.backing_name.is_none(),
                    };
                    let names = facts.backing_name.as_deref().unwrap_or("none");
                    (!is_right).then(|| format!("{name} names {names} as its base"))
                }
                Some(Ok(_)) => None,
            };
            if let Some(wrong) = wrong {
                let plan = "Nothing by itself: put the file back as it was, or restore the disk from a backup.";
                return Some(self.finding(FindingKind::BrokenChain).seen(wrong).plan(plan));
            }
            base = Some(row);
        }
        None
    }

    fn clear(&self, seen: &str) -> Finding {
        self.finding(FindingKind::IllegalMark)
            .recorded(format!("illegal: {}", self.disk.illegal.as_deref().unwrap_or_default()))
            .seen(seen)
            .plan("Make the disk usable again.")
            .by(Act::Clear { disk: self.disk.id })
    }
}

/// A map that is lost.
fn of_claim(records: &Records, seen: &Seen, claim: &CheckpointDiskRow) -> Option<Finding> {
    if records.held.contains(&claim.disk) {
        return None;
    }
    let anchor = records.images.get(&claim.image);
    let why = match (seen.lost_maps.get(&(claim.checkpoint, claim.disk)), anchor) {
        (Some(why), _) => format!("the map of its changes cannot be read: {why}"),
        (None, None) => format!("its anchor, image {}, is gone", claim.image),
        (None, Some(_)) => return None,
    };
    let alias = records
        .disks
        .iter()
        .find(|disk| disk.id == claim.disk)
        .map(|disk| disk.alias.as_str());
    let object = Object {
        kind: "checkpoint",
        id: claim.checkpoint.to_string(),
        name: format!("{} of disk {}", claim.checkpoint, alias.unwrap_or("(gone)")),
    };
    let found = Finding::new(FindingKind::LostMap, object)
        .seen(why)
        .recorded(format!("changes since then, above image {}", claim.image));
    let is_provable = !claim.moved
        && anchor.is_some_and(|row| row.format == ImageFormat::Cow && row.state == ImageState::Live)
        && anchor
            .and_then(|row| seen.image(row))
            .is_some_and(|file| file.facts.is_ok());
    if !is_provable {
        return Some(
            found
                .plan("Take the disk out of the checkpoint: the layers do not prove what has changed since.")
                .lose("incremental backups of the disk from this checkpoint: the next one holds all of it")
                .by(Act::Drop {
                    checkpoint: claim.checkpoint,
                    disk: claim.disk,
                }),
        );
    }
    let older = records
        .claims
        .iter()
        .filter(|other| other.disk == claim.disk)
        .take_while(|other| other.checkpoint != claim.checkpoint)
        .filter(|other| other.image == claim.image && !other.moved && other.map)
        .filter(|other| !seen.lost_maps.contains_key(&(other.checkpoint, other.disk)))
        .last();
    let found = found.plan(format!(
        "Make the map anew: all that image {} holds, for nothing that has changed since can be elsewhere.",
        claim.image
    ));
    let found = match older {
        Some(older) => found.plan(format!(
            "Of that, only what has changed since the older checkpoint {}.",
            older.checkpoint
        )),
        None => found,
    };
    Some(
        found
            .plan("The next backup from it may hold more than has changed, never less.")
            .by(Act::Rebuild {
                checkpoint: claim.checkpoint,
                disk: claim.disk,
                older: older.map(|older| older.checkpoint),
            }),
    )
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
