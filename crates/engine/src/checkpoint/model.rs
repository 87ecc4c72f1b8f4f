//! The rules of checkpoints against a model of a disk: whatever is done in whatever order, what changed since a checkpoint
//! is never missed. The planner and [`Tree::between`] are the real ones; files are maps from blocks to values.

use crate::graph::{Effort, Node, Tidy, Tree};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stillpoint_types::{DiskId, ImageId};
use uuid::Uuid;

type Content = BTreeMap<u8, u64>;

#[derive(Debug, Clone)]
enum Op {
    Write(u8),
    Snapshot,
    DeleteSnapshot(prop::sample::Index),
    Restore(prop::sample::Index),
    /// Of a snapshot, or of the disk as it is.
    Preview(prop::sample::Index),
    /// Commits the preview, or undoes it.
    EndPreview {
        commit: bool,
    },
    /// Begins a backup, or fails the one that is under way.
    Backup {
        visible: bool,
    },
    Finalize,
    DeleteCheckpoint(prop::sample::Index),
    Tidy,
    /// The machine dies in the middle of a merge that was planned.
    HalfMerge(prop::sample::Index),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let index = || any::<prop::sample::Index>();
    let op = prop_oneof![
        6 => (0..12_u8).prop_map(Op::Write),
        2 => Just(Op::Snapshot),
        2 => index().prop_map(Op::DeleteSnapshot),
        2 => index().prop_map(Op::Restore),
        2 => index().prop_map(Op::Preview),
        2 => any::<bool>().prop_map(|commit| Op::EndPreview { commit }),
        3 => any::<bool>().prop_map(|visible| Op::Backup { visible }),
        3 => Just(Op::Finalize),
        1 => index().prop_map(Op::DeleteCheckpoint),
        2 => Just(Op::Tidy),
        1 => index().prop_map(Op::HalfMerge),
    ];
    prop::collection::vec(op, 1..60)
}

#[derive(Debug, Clone)]
struct Checkpoint {
    anchor: ImageId,
    map: BTreeSet<u8>,
    /// The disk's whole content at its moment.
    then: Content,
}

#[derive(Debug, Default)]
struct Model {
    parents: BTreeMap<ImageId, Option<ImageId>>,
    files: BTreeMap<ImageId, Content>,
    active: ImageId0,
    snapshots: Vec<(ImageId, Content)>,
    checkpoints: Vec<Checkpoint>,
    /// What a preview keeps, what that shows, and the place of the previewed snapshot.
    former: Option<(ImageId, Content, usize)>,
    /// The image that it reads, what that showed at its moment, and whether a snapshot names it too.
    backup: Option<(ImageId, Content, bool)>,
    ticks: u64,
}

/// An image id with a default, for the model's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ImageId0(ImageId);

impl Default for ImageId0 {
    fn default() -> Self {
        Self(ImageId(Uuid::nil()))
    }
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        model.active = ImageId0(model.image(None));
        model
    }

    fn image(&mut self, parent: Option<ImageId>) -> ImageId {
        self.ticks += 1;
        // Ids in no order, as real ones: the planner must not depend on it.
        let id = ImageId(Uuid::from_u128(u128::from(
            self.ticks.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )));
        self.parents.insert(id, parent);
        self.files.insert(id, Content::new());
        id
    }

    fn content(&self, id: ImageId) -> Content {
        let mut all = self.parents[&id].map(|parent| self.content(parent)).unwrap_or_default();
        all.extend(self.files[&id].clone());
        all
    }

    fn tree(&self) -> Tree {
        let mut pinned = BTreeSet::new();
        let mut next = self.backup.as_ref().map(|(image, ..)| *image);
        while let Some(image) = next {
            pinned.insert(image);
            next = self.parents[&image];
        }
        let node = |(id, parent): (&ImageId, &Option<ImageId>)| {
            let named = self.snapshots.iter().filter(|(image, _)| image == id).count() as u64
                + u64::from(self.former.as_ref().is_some_and(|(image, ..)| image == id));
            let by_backup = self
                .backup
                .as_ref()
                .is_some_and(|(image, _, seen)| image == id && *seen);
            let node = Node {
                parent: *parent,
                disks: if self.active.0 == *id {
                    vec![DiskId(Uuid::nil())]
                } else {
                    vec![]
                },
                snapshots: named + u64::from(by_backup),
                creating: false,
                anchored: self.checkpoints.iter().any(|k| k.anchor == *id),
                pinned: pinned.contains(id),
            };
            (*id, node)
        };
        Tree::new(self.parents.iter().map(node).collect())
    }

    /// A new overlay takes the writes; the image below it is frozen.
    fn freeze(&mut self, on: ImageId) -> ImageId {
        let frozen = self.active.0;
        self.active = ImageId0(self.image(Some(on)));
        frozen
    }

    fn fold(&mut self, base: ImageId, top: ImageId) {
        let held: Vec<u8> = self.files[&top].keys().copied().collect();
        for k in self.checkpoints.iter_mut().filter(|k| k.anchor == base) {
            k.map.extend(&held);
        }
    }

    fn do_merge(&mut self, base: ImageId, top: ImageId) {
        self.fold(base, top);
        let merged = self.files.remove(&top).unwrap();
        self.files.get_mut(&base).unwrap().extend(merged);
        self.parents.remove(&top);
        for parent in self.parents.values_mut().filter(|parent| **parent == Some(top)) {
            *parent = Some(base);
        }
        let renamed = |image: &mut ImageId| {
            if *image == top {
                *image = base;
            }
        };
        renamed(&mut self.active.0);
        self.snapshots.iter_mut().for_each(|(image, _)| renamed(image));
        self.former.iter_mut().for_each(|(image, ..)| renamed(image));
        self.checkpoints.iter_mut().for_each(|k| renamed(&mut k.anchor));
    }

    /// What tidy does before it plans: anchors leave hidden leaves, one level at a time.
    fn retire(&mut self) {
        while let Some(leaf) = self.anchored_leaf() {
            let parent = self.parents[&leaf];
            let held: Vec<u8> = self.files[&leaf].keys().copied().collect();
            match parent {
                Some(parent) => {
                    for k in self.checkpoints.iter_mut().filter(|k| k.anchor == leaf) {
                        k.map.extend(&held);
                        k.anchor = parent;
                    }
                }
                None => self.checkpoints.retain(|k| k.anchor != leaf),
            }
        }
    }

    fn anchored_leaf(&self) -> Option<ImageId> {
        let tree = self.tree();
        let is_leaf = |id: &ImageId| !self.parents.values().any(|parent| *parent == Some(*id));
        let hidden = |node: &Node| node.disks.is_empty() && node.snapshots == 0 && !node.pinned;
        let found = tree
            .nodes()
            .iter()
            .find(|(id, node)| node.anchored && hidden(node) && is_leaf(id));
        found.map(|(id, _)| *id)
    }

    fn run(&mut self, plan: &[Tidy]) {
        for tidy in plan {
            match tidy {
                Tidy::Merge { base, top, .. } => self.do_merge(*base, *top),
                Tidy::Unlink(id) => {
                    self.files.remove(id);
                    self.parents.remove(id);
                }
            }
        }
    }

    fn end_backup(&mut self, well: bool) {
        let Some((image, then, _)) = self.backup.take() else {
            return;
        };
        if well {
            let map = BTreeSet::new();
            self.checkpoints.push(Checkpoint {
                anchor: image,
                map,
                then,
            });
        }
        // A settle job merges only: what else there is to do is tidy's.
        let plan = self.tree().plan(Effort::All);
        let merges: Vec<_> = plan
            .into_iter()
            .take_while(|tidy| matches!(tidy, Tidy::Merge { .. }))
            .collect();
        self.run(&merges);
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(block) => {
                self.ticks += 1;
                self.files.get_mut(&self.active.0).unwrap().insert(*block, self.ticks);
            }
            // While a preview lasts there is none of these.
            Op::Snapshot | Op::DeleteSnapshot(_) | Op::Restore(_) | Op::Preview(_) | Op::Backup { .. }
                if self.former.is_some() => {}
            Op::Preview(at) if self.backup.is_none() => {
                let at = at.index(self.snapshots.len() + 1);
                let on = self.snapshots.get(at).map_or(self.active.0, |(image, _)| *image);
                let then = self.content(self.active.0);
                let kept = self.freeze(on);
                self.former = Some((kept, then, at));
            }
            Op::EndPreview { commit } => match self.former.take() {
                Some((_, _, at)) if *commit => self.snapshots.truncate(at + 1),
                Some((kept, ..)) => self.active = ImageId0(kept),
                None => {}
            },
            Op::Snapshot => {
                let then = self.content(self.active.0);
                let frozen = self.freeze(self.active.0);
                self.snapshots.push((frozen, then));
            }
            // Both are refused while a backup is under way.
            Op::DeleteSnapshot(at) if !self.snapshots.is_empty() && self.backup.is_none() => {
                self.snapshots.remove(at.index(self.snapshots.len()));
                let plan = self.tree().plan(Effort::All);
                self.run(&plan);
            }
            Op::Restore(at) if !self.snapshots.is_empty() && self.backup.is_none() => {
                let at = at.index(self.snapshots.len());
                self.snapshots.truncate(at + 1);
                self.freeze(self.snapshots[at].0);
            }
            Op::Backup { visible } => match self.backup {
                None => {
                    let then = self.content(self.active.0);
                    let frozen = self.freeze(self.active.0);
                    self.backup = Some((frozen, then, *visible));
                }
                Some(_) => self.end_backup(false),
            },
            Op::Finalize => self.end_backup(true),
            Op::DeleteCheckpoint(at) if !self.checkpoints.is_empty() && self.backup.is_none() => {
                self.checkpoints.remove(at.index(self.checkpoints.len()));
            }
            Op::Tidy => {
                self.retire();
                let plan = self.tree().plan(Effort::Leftovers);
                self.run(&plan);
            }
            Op::HalfMerge(at) => {
                let plan = self.tree().plan(Effort::All);
                if let Some(Tidy::Merge { base, top, .. }) = plan.first().copied() {
                    self.fold(base, top);
                    let part = at.index(self.files[&top].len() + 1);
                    let moved: Vec<_> = self.files[&top].clone().into_iter().take(part).collect();
                    self.files.get_mut(&base).unwrap().extend(moved);
                }
            }
            Op::DeleteSnapshot(_) | Op::Restore(_) | Op::Preview(_) | Op::DeleteCheckpoint(_) => {}
        }
    }

    fn check(&self, before: Option<&Content>) -> Result<(), TestCaseError> {
        let now = self.content(self.active.0);
        if let Some(before) = before {
            prop_assert_eq!(&now, before, "the guest's disk changed by itself");
        }
        for (image, then) in &self.snapshots {
            prop_assert_eq!(&self.content(*image), then, "a snapshot changed");
        }
        if let Some((image, then, _)) = &self.former {
            prop_assert_eq!(&self.content(*image), then, "what a preview keeps changed");
        }
        if let Some((image, then, _)) = &self.backup {
            prop_assert_eq!(&self.content(*image), then, "what a backup reads changed");
        }
        let tree = self.tree();
        for k in &self.checkpoints {
            let layers = tree.between(k.anchor, self.active.0);
            let Some(layers) = layers else {
                return Err(TestCaseError::fail("an anchor fell out of its disk's tree"));
            };
            let mut dirty = k.map.clone();
            for layer in layers {
                dirty.extend(self.files[&layer].keys());
            }
            for block in 0..12_u8 {
                prop_assert!(
                    dirty.contains(&block) || now.get(&block) == k.then.get(&block),
                    "block {} changed and is not known to",
                    block
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn whatever_is_done_in_whatever_order_no_change_since_a_checkpoint_is_missed(ops in ops()) {
        let mut model = Model::new();
        for op in &ops {
            let before = model.content(model.active.0);
            model.apply(op);
            let is_still = !matches!(
                op,
                Op::Write(_) | Op::Restore(_) | Op::Preview(_) | Op::EndPreview { commit: false }
            );
            model.check(is_still.then_some(&before))?;
        }
        // In the end all that is left over can be tidied away: no more than an image for each name and each anchor.
        model.end_backup(false);
        model.apply(&Op::EndPreview { commit: false });
        model.checkpoints.clear();
        for _ in 0..2 {
            model.apply(&Op::Tidy);
        }
        prop_assert!(model.parents.len() <= model.snapshots.len() + 1 + usize::from(!model.snapshots.is_empty()));
        model.check(None)?;
    }
}
