//! The image tree: which images nobody needs, and which two can become one.
//!
//! Pure: a tree goes in, a plan comes out. The rules (product decision 2): an image has one parent at most and any
//! number of users. One that no disk and no snapshot names is *hidden*. A hidden image without children is unlinked.
//! A hidden image with exactly one child takes that child's content (the child is committed into it) and its place,
//! provided that exactly one disk stands on it, so that one endpoint has the whole chain open; else it stays hidden
//! until that holds.
//!
//! Two things keep a hidden image in its place. An *anchor* (a checkpoint's): what the images above it hold is the record
//! of what changed since. So the boundary between an anchored image and one that a guest writes to stays; a frozen image
//! may be merged into it, as what it holds can be written down first; and it is not unlinked before its anchors have moved.
//! And a *pin*: an unfinished backup reads the image, or one that stands on it. Nothing at all is done to it.

use std::collections::BTreeMap;
use stillpoint_types::{DiskId, ImageId};

/// A node of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its parent.
    pub parent: Option<ImageId>,
    /// Disks whose active image it is.
    pub disks: Vec<DiskId>,
    /// How many snapshots hold it: of VMs, and of volumes that no VM had.
    pub snapshots: u64,
    /// A job is still making it: it counts as a user of its parent and is left alone.
    pub creating: bool,
    /// A checkpoint is anchored at it.
    pub anchored: bool,
    /// An unfinished backup reads it, through itself or through what stands on it.
    pub pinned: bool,
}

/// How much a plan may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All that is possible.
    All,
    /// Without merging what a snapshot holds into an anchored image: that would lock a VM, unasked, each time that
    /// somebody has taken a snapshot after a backup. It is done when the next backup ends.
    Leftovers,
}

/// What shall be done to a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tidy {
    /// Nobody needs it.
    Unlink(ImageId),
    /// `top` is committed into `base` through the chain of `disk`; `base` survives with all that `top` had.
    Merge {
        /// The disk whose chain both are in.
        disk: DiskId,
        /// The image that survives.
        base: ImageId,
        /// The image that goes.
        top: ImageId,
    },
}

/// A tree, or a forest, of images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<ImageId, Node>,
}

impl Tree {
    /// A tree of the given nodes.
    #[must_use]
    pub fn new(nodes: BTreeMap<ImageId, Node>) -> Self {
        Self { nodes }
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<ImageId, Node> {
        &self.nodes
    }

    /// Takes one snapshot's name away from an image.
    pub fn forget_snapshot(&mut self, image: ImageId) {
        if let Some(node) = self.nodes.get_mut(&image) {
            node.snapshots = node.snapshots.saturating_sub(1);
        }
    }

    fn children(&self, of: ImageId) -> impl Iterator<Item = (ImageId, &Node)> {
        self.nodes
            .iter()
            .filter(move |(_, node)| node.parent == Some(of))
            .map(|(id, node)| (*id, node))
    }

    fn only_child(&self, of: ImageId) -> Option<ImageId> {
        let mut children = self.children(of);
        let (child, _) = children.next()?;
        children.next().is_none().then_some(child)
    }

    /// The one disk that stands on `image` and nothing else does: the branch above it is a line with the disk at its end.
    fn only_disk(&self, mut image: ImageId) -> Option<DiskId> {
        for _ in 0..=self.nodes.len() {
            let node = self.nodes.get(&image)?;
            if node.creating {
                return None;
            }
            match (node.disks.as_slice(), self.children(image).next().is_some()) {
                ([disk], false) => return Some(*disk),
                ([], true) => image = self.only_child(image)?,
                _ => return None,
            }
        }
        None
    }

    fn is_hidden(node: &Node) -> bool {
        node.disks.is_empty() && node.snapshots == 0 && !node.creating
    }

    /// The images that make the content of `to` differ from that of `from`, at most: those on either's chain above the
    /// last one that both have. `None`: they have none in common, so all may differ.
    #[must_use]
    pub fn between(&self, from: ImageId, to: ImageId) -> Option<Vec<ImageId>> {
        let (mut left, mut right) = (self.chain(from)?, self.chain(to)?);
        if left.first() != right.first() {
            return None;
        }
        let common = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
        let mut images = left.split_off(common);
        images.extend(right.split_off(common));
        Some(images)
    }

    /// The chain that ends in an image, base first; `None` if something of it is not in the tree.
    fn chain(&self, top: ImageId) -> Option<Vec<ImageId>> {
        let mut chain = vec![top];
        let mut at = self.nodes.get(&top)?;
        while let Some(parent) = at.parent {
            if chain.len() > self.nodes.len() {
                return None;
            }
            chain.push(parent);
            at = self.nodes.get(&parent)?;
        }
        chain.reverse();
        Some(chain)
    }

    /// Whether `top` may be merged into the hidden image `base`, as far as anchors and pins go.
    fn may_merge(&self, base: ImageId, top: ImageId, effort: Effort) -> bool {
        let (Some(base), Some(top)) = (self.nodes.get(&base), self.nodes.get(&top)) else {
            return false;
        };
        let is_written = !top.disks.is_empty();
        let is_seen = top.snapshots > 0 && effort == Effort::Leftovers;
        !base.pinned && !top.pinned && !(base.anchored && (is_written || is_seen))
    }

    fn next(&self, effort: Effort) -> Option<Tidy> {
        let hidden = || {
            self.nodes
                .iter()
                .filter(|(_, node)| Self::is_hidden(node))
                .map(|(id, _)| *id)
        };
        let is_free = |id: &ImageId| self.nodes.get(id).is_some_and(|node| !node.anchored && !node.pinned);
        if let Some(leaf) = hidden().find(|id| is_free(id) && self.children(*id).next().is_none()) {
            return Some(Tidy::Unlink(leaf));
        }
        hidden().find_map(|base| {
            let top = self.only_child(base).filter(|top| self.may_merge(base, *top, effort))?;
            Some(Tidy::Merge {
                disk: self.only_disk(top)?,
                base,
                top,
            })
        })
    }

    /// Does one thing to the model.
    pub fn apply(&mut self, tidy: Tidy) {
        match tidy {
            Tidy::Unlink(image) => {
                self.nodes.remove(&image);
            }
            Tidy::Merge { base, top, .. } => {
                let Some(gone) = self.nodes.remove(&top) else { return };
                for node in self.nodes.values_mut().filter(|node| node.parent == Some(top)) {
                    node.parent = Some(base);
                }
                if let Some(node) = self.nodes.get_mut(&base) {
                    node.disks.extend(gone.disks);
                    node.snapshots += gone.snapshots;
                    node.anchored |= gone.anchored;
                    node.pinned |= gone.pinned;
                }
            }
        }
    }

    /// Everything that can be done now, in an order in which each step is possible after the ones before.
    #[must_use]
    pub fn plan(&self, effort: Effort) -> Vec<Tidy> {
        let mut model = self.clone();
        let mut plan = Vec::new();
        while let Some(tidy) = model.next(effort) {
            model.apply(tidy);
            plan.push(tidy);
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    fn image(n: usize) -> ImageId {
        ImageId(Uuid::from_u128(n as u128 + 1))
    }

    /// A forest: node k's parent is one of the nodes before it, or none.
    fn forest() -> impl Strategy<Value = Tree> {
        let node = (
            any::<prop::sample::Index>(),
            0..4_u8,
            any::<bool>(),
            0..3_u64,
            0..12_u8,
            0..8_u8,
        );
        prop::collection::vec(node, 1..14).prop_map(|nodes| {
            let mut tree = BTreeMap::new();
            for (k, (parent, root, disk, snapshots, creating, held)) in nodes.iter().enumerate() {
                let parent = (k > 0 && *root > 0).then(|| image(parent.index(k)));
                let disks = if *disk {
                    vec![DiskId(Uuid::from_u128(k as u128))]
                } else {
                    vec![]
                };
                let node = Node {
                    parent,
                    disks,
                    snapshots: *snapshots / 2,
                    creating: *creating == 0,
                    anchored: *held == 0 || *held == 1,
                    pinned: *held == 2,
                };
                tree.insert(image(k), node);
            }
            // What a guest writes to has no children: a disk's active image is a leaf.
            let parents: BTreeSet<_> = tree.values().filter_map(|node| node.parent).collect();
            for (id, node) in &mut tree {
                if parents.contains(id) {
                    node.disks.clear();
                }
            }
            Tree::new(tree)
        })
    }

    /// What a reader of an image sees: the newest writer of each block. Each image writes its own block and one shared.
    type Content = BTreeMap<u8, ImageId>;

    fn contents(tree: &Tree, own: &BTreeMap<ImageId, Content>, id: ImageId) -> Content {
        let below = tree.nodes[&id]
            .parent
            .map(|parent| contents(tree, own, parent))
            .unwrap_or_default();
        let mut all = below;
        all.extend(own[&id].clone());
        all
    }

    proptest! {
        #[test]
        fn tidying_never_changes_what_a_disk_or_snapshot_reads(tree in forest()) {
            let mut own: BTreeMap<ImageId, Content> =
                tree.nodes.keys().zip(0..).map(|(id, k)| (*id, BTreeMap::from([(k, *id), (200 + k % 3, *id)]))).collect();
            let mut model = tree.clone();
            let mut read: BTreeMap<ImageId, Content> = BTreeMap::new();
            for (id, node) in &tree.nodes {
                if !Tree::is_hidden(node) || node.pinned {
                    read.insert(*id, contents(&tree, &own, *id));
                }
            }
            for step in tree.plan(Effort::All) {
                match step {
                    Tidy::Unlink(id) => {
                        prop_assert!(Tree::is_hidden(&model.nodes[&id]));
                        prop_assert!(model.children(id).next().is_none());
                        prop_assert!(!model.nodes[&id].anchored, "the record of a checkpoint would go");
                        prop_assert!(!model.nodes[&id].pinned);
                    }
                    Tidy::Merge { base, top, .. } => {
                        prop_assert!(Tree::is_hidden(&model.nodes[&base]));
                        prop_assert!(!model.nodes[&base].pinned && !model.nodes[&top].pinned);
                        let is_written = !model.nodes[&top].disks.is_empty();
                        prop_assert!(!(model.nodes[&base].anchored && is_written), "what is written since would be unknown");
                        prop_assert_eq!(model.only_child(base), Some(top));
                        let merged = own[&top].clone();
                        own.entry(base).or_default().extend(merged);
                        if let Some(content) = read.remove(&top) {
                            read.insert(base, content);
                        }
                    }
                }
                model.apply(step);
                for (id, content) in &read {
                    prop_assert_eq!(&contents(&model, &own, *id), content);
                }
            }
            prop_assert!(model.plan(Effort::All).is_empty());
            let names = |tree: &Tree| tree.nodes.values().map(|n| n.snapshots + n.disks.len() as u64).sum::<u64>();
            prop_assert_eq!(names(&tree), names(&model), "no disk and no snapshot loses its image");
        }

        #[test]
        fn a_line_that_one_disk_stands_on_shrinks_to_its_named_images(named in prop::collection::vec(any::<bool>(), 0..20)) {
            let mut nodes = BTreeMap::new();
            for (k, named) in named.iter().enumerate() {
                let parent = k.checked_sub(1).map(image);
                nodes.insert(image(k), Node { parent, snapshots: u64::from(*named), ..Node::default() });
            }
            let last = named.len();
            let disks = vec![DiskId(Uuid::from_u128(9))];
            nodes.insert(image(last), Node { parent: last.checked_sub(1).map(image), disks, ..Node::default() });
            let mut tree = Tree::new(nodes);
            for step in tree.clone().plan(Effort::All) {
                tree.apply(step);
            }
            let kept = named.iter().filter(|named| **named).count();
            let trailing = u64::from(named.last().is_none_or(|last| *last));
            prop_assert_eq!(tree.nodes.len() as u64, kept as u64 + trailing.max(u64::from(!named.last().copied().unwrap_or(true))));
        }
    }

    #[test]
    fn an_image_that_two_disks_stand_on_stays_hidden() {
        let disk = |n: u128| vec![DiskId(Uuid::from_u128(n))];
        let nodes = BTreeMap::from([
            (image(0), Node::default()),
            (
                image(1),
                Node {
                    parent: Some(image(0)),
                    ..Node::default()
                },
            ),
            (
                image(2),
                Node {
                    parent: Some(image(1)),
                    disks: disk(1),
                    ..Node::default()
                },
            ),
            (
                image(3),
                Node {
                    parent: Some(image(1)),
                    disks: disk(2),
                    ..Node::default()
                },
            ),
        ]);
        assert_eq!(Tree::new(nodes).plan(Effort::All), vec![]);
    }
}
