//! The block graph as QEMU reports it, and the chains of recorded images in it.
//!
//! Nodes come from `query-named-block-nodes` (flat), which disk uses which from `query-block`. Which node stands on
//! which is told by the member `children` of newer QEMUs; 7.2 has only `x-debug-query-block-graph` for that. File
//! names are not used: QEMU prints them as it likes once a backing node was given by name.
//!
//! The walk down a chain steps through nodes that are not ours (filters of block jobs and backups), so a chain is seen
//! whole while a job runs on it.

use crate::{
    monitor::Monitor,
    names::{NodeRole, disk_of_device, format_node, node_role, shadow_node},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};
use stillpoint_engine::ports::{BlockGraph, Driven, DriverError, DriverErrorKind, ImageRef, StrangeLayer};
use stillpoint_types::{DiskId, ImageId};

const OP: &str = "read block graph";

/// A node, as far as we care (`BlockDeviceInfo`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    /// Empty for a node without a name, which is none of ours.
    #[serde(rename = "node-name", default)]
    pub(crate) name: String,
    /// Driver: `qcow2`, `raw`, `file` ...
    #[serde(default)]
    pub(crate) drv: String,
    image: NodeImage,
    /// As QEMU prints it; a plain path where the driver is `file`.
    #[serde(default)]
    file: String,
    #[serde(rename = "ro", default)]
    pub(crate) is_read_only: bool,
    #[serde(rename = "dirty-bitmaps", default)]
    bitmaps: Vec<Bitmap>,
    #[serde(default)]
    children: Option<Vec<NodeChild>>,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeImage {
    #[serde(rename = "virtual-size")]
    virtual_size: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct NodeChild {
    #[serde(rename = "child")]
    role: String,
    #[serde(rename = "node-name")]
    node: Option<String>,
}

/// A dirty bitmap. Those that block jobs add have no name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Bitmap {
    pub(crate) name: Option<String>,
    pub(crate) granularity: u64,
    #[serde(default)]
    pub(crate) recording: bool,
    #[serde(default)]
    pub(crate) persistent: bool,
    #[serde(default)]
    pub(crate) inconsistent: bool,
}

impl Node {
    /// Virtual size in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.image.virtual_size
    }

    /// Bitmaps that have a name and survive the process, by name.
    pub(crate) fn bitmaps(&self) -> impl Iterator<Item = (&str, &Bitmap)> {
        self.bitmaps
            .iter()
            .filter(|bitmap| bitmap.persistent)
            .filter_map(|bitmap| Some((bitmap.name.as_deref()?, bitmap)))
    }
}

/// Drivers of image formats that a disk can stand on; anything else that is not ours is a filter or a file.
const FORMATS: [&str; 8] = ["qcow2", "raw", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc"];

/// Whether two paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_gone| path.to_owned());
    one == other || real(one) == real(other)
}

/// What was seen at one moment.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    nodes: HashMap<String, Node>,
    /// Node above to (role, node below).
    below: HashMap<String, Vec<(String, String)>>,
    /// Disk to its topmost node.
    roots: Vec<(DiskId, String)>,
}

#[derive(Deserialize)]
struct DebugGraph {
    nodes: Vec<DebugNode>,
    edges: Vec<DebugEdge>,
}

#[derive(Deserialize)]
struct DebugNode {
    id: u64,
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct DebugEdge {
    parent: u64,
    child: u64,
    name: String,
}

#[derive(Deserialize)]
struct BlockDevice {
    qdev: Option<String>,
    inserted: Option<Node>,
}

async fn nodes(monitor: &Monitor) -> Driven<Vec<Node>> {
    let flat = json!({"flat": true});
    monitor.call(OP, "query-named-block-nodes", flat).await
}

async fn devices(monitor: &Monitor) -> Driven<Vec<BlockDevice>> {
    monitor.call(OP, "query-block", json!({})).await
}

fn by_name(nodes: Vec<Node>) -> HashMap<String, Node> {
    nodes.into_iter().map(|node| (node.name.clone(), node)).collect()
}

fn tops(devices: Vec<BlockDevice>) -> Vec<(DiskId, Node)> {
    let top = |device: BlockDevice| Some((disk_of_device(&device.qdev?)?, device.inserted?));
    devices
        .into_iter()
        .filter_map(top)
        .filter(|(_, node)| !node.name.is_empty())
        .collect()
}

fn roots(tops: &[(DiskId, Node)]) -> Vec<(DiskId, String)> {
    tops.iter().map(|(disk, node)| (*disk, node.name.clone())).collect()
}

/// Asks a machine for the topmost node of each disk and nothing else: every command costs a guest that works about a
/// millisecond of its main loop, and the answer about all nodes grows with the chains.
pub(crate) async fn observe_tops(monitor: &Monitor) -> Driven<Observed> {
    let tops = tops(devices(monitor).await?);
    Ok(Observed {
        roots: roots(&tops),
        nodes: by_name(tops.into_iter().map(|(_, node)| node).collect()),
        below: HashMap::new(),
    })
}

/// Asks the monitor. `at_rest` has, for a storage daemon, the images of each disk as they were opened.
pub(crate) async fn observe(monitor: &Monitor, at_rest: Option<&[(DiskId, Vec<ImageId>)]>) -> Driven<Observed> {
    let devices = async {
        match at_rest {
            Some(_) => Ok(Vec::new()), // A storage daemon has no devices, and no such command.
            None => devices(monitor).await,
        }
    };
    // Asked together: three answers for one wait.
    let (nodes, graph, devices) = tokio::join!(
        nodes(monitor),
        monitor.call::<DebugGraph>(OP, "x-debug-query-block-graph", json!({})),
        devices,
    );
    let (nodes, devices) = (nodes?, devices?);
    let mut observed = Observed::default();
    if nodes.iter().any(|node| node.children.is_some()) {
        for node in &nodes {
            let children = node.children.iter().flatten();
            let below = children
                .filter_map(|c| Some((c.role.clone(), c.node.clone()?)))
                .collect();
            observed.below.insert(node.name.clone(), below);
        }
    } else if !nodes.is_empty() {
        // Only here does it matter whether this QEMU has the command.
        observed.below = edges(graph?);
    }
    observed.nodes = by_name(nodes);
    observed.roots = match at_rest {
        Some(disks) => observed.roots_at_rest(disks),
        None => roots(&tops(devices)),
    };
    Ok(observed)
}

fn edges(graph: DebugGraph) -> HashMap<String, Vec<(String, String)>> {
    let names: HashMap<u64, String> = graph
        .nodes
        .into_iter()
        .filter(|node| node.kind == "block-driver")
        .map(|node| (node.id, node.name))
        .collect();
    let mut below: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for edge in graph.edges {
        if let (Some(parent), Some(child)) = (names.get(&edge.parent), names.get(&edge.child)) {
            let children = below.entry(parent.clone()).or_default();
            children.push((edge.name, child.clone()));
        }
    }
    below
}

impl Observed {
    /// The format node of an image.
    pub(crate) fn image(&self, image: ImageId) -> Option<&Node> {
        self.nodes.get(&format_node(image))
    }

    /// The format node of an image, or `NotFound`.
    pub(crate) fn needed(&self, op: &'static str, image: ImageId) -> Driven<&Node> {
        self.image(image)
            .ok_or_else(|| DriverError::new(DriverErrorKind::NotFound, op, format!("image {image} is not open")))
    }

    /// Whether a node of that name is there.
    pub(crate) fn has(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    /// The topmost node of a disk.
    pub(crate) fn root(&self, disk: DiskId) -> Option<&str> {
        let root = self.roots.iter().find(|(of, _)| *of == disk);
        root.map(|(_, node)| node.as_str())
    }

    /// The image whose node is a disk's topmost: none if there is a filter above it, or no such disk.
    pub(crate) fn active(&self, disk: DiskId) -> Option<ImageId> {
        match node_role(self.root(disk)?) {
            NodeRole::Format(image) => Some(image),
            NodeRole::Shadow(_) | NodeRole::Protocol(_) | NodeRole::MergeFilter | NodeRole::Foreign => None,
        }
    }

    /// The layers of a disk, base first.
    pub(crate) fn layers(&self, disk: DiskId) -> Option<Vec<ImageId>> {
        self.root(disk).map(|root| self.walk(root))
    }

    /// As the core sees it.
    pub(crate) fn graph(&self) -> BlockGraph {
        let mut graph = BlockGraph::default();
        for (disk, root) in &self.roots {
            graph.chains.push((*disk, self.walk(root)));
            graph.strange.extend(self.strange(*disk, root));
        }
        for name in self.nodes.keys() {
            match node_role(name) {
                NodeRole::Format(image) | NodeRole::Shadow(image) => graph.open.push(image),
                NodeRole::Foreign => graph.foreign.push(name.clone()),
                NodeRole::Protocol(_) | NodeRole::MergeFilter => {}
            }
        }
        graph.open.sort_unstable();
        graph.open.dedup();
        graph.foreign.sort_unstable();
        graph
    }

    /// Layers of a disk that are none of ours, lowest first.
    fn strange(&self, disk: DiskId, root: &str) -> Vec<StrangeLayer> {
        let is_layer = |node: &&str| match node_role(node) {
            NodeRole::Format(_) | NodeRole::Shadow(_) => true,
            NodeRole::Protocol(_) | NodeRole::MergeFilter => false,
            NodeRole::Foreign => self
                .nodes
                .get(*node)
                .is_some_and(|node| FORMATS.contains(&node.drv.as_str())),
        };
        let nodes = self.descend(root);
        let layers = nodes.iter().rev().copied().filter(is_layer).enumerate();
        layers
            .filter(|(_, node)| node_role(node) == NodeRole::Foreign)
            .map(|(depth, node)| StrangeLayer {
                disk,
                node: node.to_owned(),
                file: self.file_of(node),
                depth,
            })
            .collect()
    }

    /// The file of a format node, if it has a plain one.
    fn file_of(&self, node: &str) -> Option<PathBuf> {
        let protocol = self.nodes.get(self.child(node, "file")?)?;
        let is_path = protocol.drv == "file" && protocol.file.starts_with('/');
        is_path.then(|| PathBuf::from(&protocol.file))
    }

    /// Takes a node that somebody else opened for the image that it is: one whose file this is. Its own name stays what
    /// commands call it by.
    pub(crate) fn adopt(&mut self, image: &ImageRef) {
        let ours = format_node(image.id);
        if self.nodes.contains_key(&ours) {
            return;
        }
        let is_it = |node: &&Node| {
            node_role(&node.name) == NodeRole::Foreign
                && FORMATS.contains(&node.drv.as_str())
                && self.file_of(&node.name).is_some_and(|file| is_same(&file, &image.path))
        };
        let Some(found) = self.nodes.values().find(is_it).map(|node| node.name.clone()) else {
            return;
        };
        if let Some(node) = self.nodes.remove(&found) {
            self.nodes.insert(ours.clone(), node);
        }
        if let Some(below) = self.below.remove(&found) {
            self.below.insert(ours.clone(), below);
        }
        let children = self.below.values_mut().flatten().map(|(_, child)| child);
        for name in children.chain(self.roots.iter_mut().map(|(_, root)| root)) {
            if *name == found {
                name.clone_from(&ours);
            }
        }
    }

    /// The name by which commands know a node of this graph.
    pub(crate) fn command_name<'a>(&'a self, node: &'a str) -> &'a str {
        self.nodes.get(node).map_or(node, |node| node.name.as_str())
    }

    /// Whether `above` stands on the second node of the image below it.
    pub(crate) fn stands_on_shadow(&self, above: ImageId, below: ImageId) -> bool {
        self.child(&format_node(above), "backing") == Some(&shadow_node(below))
    }

    fn child(&self, node: &str, role: &str) -> Option<&str> {
        let children = self.below.get(node)?;
        let child = children.iter().find(|(of, _)| of == role);
        child.map(|(_, node)| node.as_str())
    }

    /// Layers from `root` down, base first.
    fn walk(&self, root: &str) -> Vec<ImageId> {
        let image = |node: &&str| match node_role(node) {
            NodeRole::Format(image) | NodeRole::Shadow(image) => Some(image),
            NodeRole::Protocol(_) | NodeRole::MergeFilter | NodeRole::Foreign => None,
        };
        self.descend(root).iter().rev().filter_map(image).collect()
    }

    /// The nodes from `root` down the chain. Bounded by their number: a hostile answer cannot make it loop.
    fn descend<'a>(&'a self, root: &'a str) -> Vec<&'a str> {
        let mut nodes = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(root);
        while let Some(node) = next.filter(|node| seen.insert((*node).to_owned())) {
            nodes.push(node);
            next = match node_role(node) {
                NodeRole::Format(_) | NodeRole::Shadow(_) => self.child(node, "backing"),
                NodeRole::Protocol(_) | NodeRole::MergeFilter | NodeRole::Foreign => {
                    self.child(node, "backing").or_else(|| self.child(node, "file"))
                }
            };
        }
        nodes
    }

    /// At rest no device says which node is a disk's: it is the node with nothing above it whose chain has the uppermost
    /// of the images that were opened for the disk. (Not the most of them: a layer that was merged away still stands on
    /// what it was merged into, and its chain can be as long.)
    fn roots_at_rest(&self, disks: &[(DiskId, Vec<ImageId>)]) -> Vec<(DiskId, String)> {
        let lower: HashSet<&str> = self.below.values().flatten().map(|(_, node)| node.as_str()).collect();
        let tops: Vec<(&str, Vec<ImageId>)> = self
            .nodes
            .keys()
            .filter(|name| !lower.contains(name.as_str()) && !matches!(node_role(name), NodeRole::Protocol(_)))
            .map(|name| (name.as_str(), self.walk(name)))
            .collect();
        let mut roots = Vec::new();
        for (disk, images) in disks {
            let uppermost = |layers: &[ImageId]| images.iter().rposition(|image| layers.contains(image));
            let best = tops.iter().max_by_key(|(_, layers)| (uppermost(layers), layers.len()));
            if let Some((root, layers)) = best
                && uppermost(layers).is_some()
            {
                roots.push((*disk, (*root).to_owned()));
            }
        }
        roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(image: ImageId) -> Node {
        Node {
            name: format_node(image),
            drv: "qcow2".into(),
            file: String::new(),
            image: NodeImage { virtual_size: 0 },
            is_read_only: false,
            bitmaps: Vec::new(),
            children: None,
        }
    }

    #[test]
    fn a_layer_of_somebody_else_is_seen_in_its_place_and_taken_for_the_image_whose_file_it_has() {
        let (disk, ours, strange) = (DiskId::fresh(), ImageId::fresh(), ImageId::fresh());
        let foreign = |name: &str, drv: &str, file: &str| Node {
            name: name.to_owned(),
            drv: drv.to_owned(),
            file: file.to_owned(),
            ..node(ours)
        };
        let edge = |role: &str, below: &str| (role.to_owned(), below.to_owned());
        let filter = foreign("#block9", "commit_top", "/images/f.qcow2");
        let top = foreign("#block1", "qcow2", "/images/f.qcow2");
        let file = foreign("#block0", "file", "/images/f.qcow2");
        let mut observed = Observed {
            nodes: by_name(vec![node(ours), filter, top, file]),
            roots: vec![(disk, "#block9".to_owned())],
            ..Observed::default()
        };
        let edges = [
            ("#block9", vec![edge("backing", "#block1")]),
            (
                "#block1",
                vec![edge("file", "#block0"), edge("backing", &format_node(ours))],
            ),
        ];
        observed
            .below
            .extend(edges.map(|(above, below)| (above.to_owned(), below)));
        let graph = observed.graph();
        assert_eq!(graph.chain(disk), Some([ours].as_slice()));
        let file = PathBuf::from("/images/f.qcow2");
        let node = "#block1".to_owned();
        let seen = StrangeLayer {
            disk,
            node,
            file: Some(file.clone()),
            depth: 1,
        };
        assert_eq!(graph.strange, vec![seen], "a filter is no layer");
        let format = stillpoint_types::ImageFormat::Cow;
        observed.adopt(&ImageRef {
            id: strange,
            format,
            path: file,
        });
        assert_eq!(observed.layers(disk), Some(vec![ours, strange]));
        assert!(observed.graph().strange.is_empty());
        assert_eq!(observed.command_name(&format_node(strange)), "#block1");
    }

    #[test]
    fn at_rest_a_layer_that_was_merged_away_is_not_taken_for_the_disk() {
        // Again and again: the order of a map's keys is another one each time.
        for _ in 0..64 {
            let (disk, images) = (DiskId::fresh(), [(); 3].map(|()| ImageId::fresh()));
            let [base, merged, active] = images;
            let mut observed = Observed {
                nodes: by_name(images.map(node).to_vec()),
                ..Observed::default()
            };
            for above in [merged, active] {
                let below = vec![("backing".to_owned(), format_node(base))];
                observed.below.insert(format_node(above), below);
            }
            observed.roots = observed.roots_at_rest(&[(disk, images.to_vec())]);
            assert_eq!(observed.layers(disk), Some(vec![base, active]));
        }
    }
}
