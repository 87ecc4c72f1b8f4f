//! What is found in each case, and what is left alone.

use super::*;
use crate::{
    ports::{ImageFacts, StrangeLayer},
    repair::facts::{Gate, Machine},
};
use stillpoint_store::repair::{HolderRow, StrangeLayerRow, UserRow};
use stillpoint_types::{DomainId, ProjectId, VmId};

const MIB: u64 = 1 << 20;

/// A VM with one disk on three layers, base first, as it should be.
struct Scene {
    records: Records,
    seen: Seen,
    layers: [ImageId; 3],
    disk: DiskId,
    vm: VmId,
}

fn facts(backing: Option<String>) -> ImageFacts {
    ImageFacts {
        format: ImageFormat::Cow,
        size_bytes: 32 * MIB,
        actual_bytes: MIB,
        backing_name: backing,
        has_data: true,
        bitmaps: Vec::new(),
    }
}

impl Scene {
    fn new() -> Self {
        let (disk, vm, domain) = (DiskId::fresh(), VmId::fresh(), DomainId::fresh());
        let layers = [(); 3].map(|()| ImageId::fresh());
        let mut scene = Self {
            records: Records::default(),
            seen: Seen {
                directory: PathBuf::from("/images"),
                ..Seen::default()
            },
            layers,
            disk,
            vm,
        };
        for (at, id) in layers.into_iter().enumerate() {
            let parent = at.checked_sub(1).map(|below| layers[below]);
            let row = ImageRow {
                id,
                disk,
                parent,
                domain,
                format: ImageFormat::Cow,
                size_bytes: 32 * MIB,
                state: ImageState::Live,
                created_at: 0,
            };
            scene.records.images.insert(id, row);
            scene.file(&file_name(id, ImageFormat::Cow), parent);
        }
        scene.records.disks.push(DiskRow {
            id: disk,
            project: ProjectId::fresh(),
            domain,
            alias: "data".to_owned(),
            description: String::new(),
            size_bytes: 32 * MIB,
            sparse: true,
            image: layers[2],
            illegal: None,
            created_at: 0,
        });
        scene.records.users.push(UserRow {
            disk,
            vm,
            name: "db1".to_owned(),
            active: true,
            has_process: false,
        });
        scene
    }

    fn file(&mut self, name: &str, over: Option<ImageId>) {
        let backing = over.map(|id| file_name(id, ImageFormat::Cow));
        let is_known = self
            .records
            .images
            .values()
            .any(|row| file_name(row.id, row.format) == name);
        let file = File {
            path: self.seen.directory.join(name),
            written_at: 0,
            facts: Ok(facts(backing)),
            gate: (!is_known).then_some(Gate::Open(over)),
        };
        self.seen.files.insert(name.to_owned(), file);
    }

    fn runs(&mut self, chain: &[ImageId], strange: Option<&str>) {
        let strange = strange.map(|name| StrangeLayer {
            disk: self.disk,
            node: "#block1".to_owned(),
            file: Some(self.seen.directory.join(name)),
            depth: chain.len(),
        });
        let graph = BlockGraph {
            chains: vec![(self.disk, chain.to_vec())],
            strange: strange.into_iter().collect(),
            ..BlockGraph::default()
        };
        self.seen.machines.insert(self.vm, Machine::Graph(graph));
    }

    fn illegal(&mut self) {
        self.records.disks[0].illegal = Some(format!("{MISMATCH} [...]"));
    }

    fn only(&self) -> Finding {
        let mut found = find(&self.records, &self.seen);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    fn nothing(&self) {
        assert_eq!(find(&self.records, &self.seen), vec![]);
    }
}

#[test]
fn what_is_as_recorded_is_no_finding_live_and_at_rest() {
    let mut scene = Scene::new();
    scene.nothing();
    scene.runs(&scene.layers.clone(), None);
    scene.nothing();
}

#[test]
fn a_layer_of_somebody_else_on_top_is_merged_where_qemu_proves_that_it_is_the_top_and_copied_where_nobody_knows() {
    let mut scene = Scene::new();
    let top = scene.layers[2];
    scene.file("foreign.qcow2", Some(top));
    // At rest, never seen in use: it may be older than what the disk holds.
    let found = scene.only();
    assert_eq!((found.kind, found.safe), (FindingKind::OrphanImage, true));
    let copy = Act::Copy {
        file: "foreign.qcow2".to_owned(),
        below: top,
        size_bytes: 32 * MIB,
    };
    assert_eq!(found.act, copy);
    // QEMU runs on it.
    scene.runs(&scene.layers.clone(), Some("foreign.qcow2"));
    let live = scene.only();
    let merge = Act::MergeOverlay {
        disk: scene.disk,
        base: top,
        file: "/images/foreign.qcow2".into(),
    };
    assert_eq!(
        (live.kind, &live.act, live.loses.len()),
        (FindingKind::OrphanOverlay, &merge, 0)
    );
    // It ran on it, that was seen, and the disk could not be started since.
    scene.seen.machines.clear();
    scene.illegal();
    scene.records.strange.push(StrangeLayerRow {
        disk: scene.disk,
        image: top,
        file: "/images/foreign.qcow2".into(),
        seen_at: 0,
    });
    assert_eq!(scene.only().act, merge);
    // Two at once: neither is merged into what the other stands on.
    scene.file("second.qcow2", Some(top));
    let found = find(&scene.records, &scene.seen);
    assert!(
        found.iter().all(|found| !matches!(found.act, Act::MergeOverlay { .. })),
        "{found:#?}"
    );
}

#[test]
fn what_a_job_holds_and_a_machine_that_does_not_answer_are_left_alone() {
    let mut scene = Scene::new();
    scene.file("foreign.qcow2", Some(scene.layers[2]));
    scene.illegal();
    scene.records.held.insert(scene.disk);
    assert!(find(&scene.records, &scene.seen).iter().all(|found| !found.safe));
    scene.records.held.clear();
    scene.seen.machines.insert(scene.vm, Machine::Silent);
    assert!(find(&scene.records, &scene.seen).iter().all(|found| !found.safe));
    let mut scene = Scene::new();
    let fresh = ImageId::fresh();
    scene.file(&format!("{fresh}.qcow2"), None);
    assert!(matches!(scene.only().act, Act::Adopt { parent: None, .. }));
    scene.records.spoken_of.push(format!("{{\"image\":\"{fresh}\"}}"));
    scene.nothing();
}

#[test]
fn a_merge_that_rows_do_not_know_is_recorded_only_where_something_proves_it() {
    // The active layer, by its mark.
    let mut scene = Scene::new();
    let [_, middle, top] = scene.layers;
    let file = scene.seen.files.remove(&file_name(top, ImageFormat::Cow)).unwrap();
    scene.seen.files.insert(format!("{top}.qcow2.merged"), file);
    let found = scene.only();
    let record = |base, top, stale, leaves| Act::Record {
        disk: scene.disk,
        base,
        top,
        leaves,
        stale,
    };
    assert_eq!(
        (found.kind, &found.act),
        (FindingKind::HalfMerge, &record(middle, top, None, vec![]))
    );
    // A snapshot that held the base has lost it already, and that is said.
    let snapshot = SnapshotId::fresh();
    scene.records.holders.push(HolderRow {
        image: middle,
        disk: scene.disk,
        snapshot: Some(snapshot),
        name: "monday".to_owned(),
    });
    let found = scene.only();
    assert!(
        found.safe && found.loses.iter().any(|line| line.contains("'monday'")),
        "{found:#?}"
    );

    // The middle one: by the header above, if the base holds all of it.
    let mut scene = Scene::new();
    let [base, middle, top] = scene.layers;
    scene.file(&file_name(top, ImageFormat::Cow), Some(base));
    assert!(!scene.only().safe, "nothing was compared");
    scene.seen.contained.insert((base, middle), false);
    assert!(!scene.only().safe, "the base lacks what the middle has");
    scene.seen.contained.insert((base, middle), true);
    let wanted = Act::Record {
        disk: scene.disk,
        base,
        top: middle,
        leaves: vec![],
        stale: Some(file_name(middle, ImageFormat::Cow)),
    };
    assert_eq!(scene.only().act, wanted);
    scene.runs(&[base, top], None);
    assert_eq!(scene.only().act, wanted);
}

#[test]
fn a_mark_goes_only_when_its_cause_has_gone() {
    let mut scene = Scene::new();
    scene.illegal();
    assert_eq!(scene.only().act, Act::Clear { disk: scene.disk });
    scene.runs(&scene.layers.clone(), None);
    assert_eq!(scene.only().act, Act::Clear { disk: scene.disk });
    scene.runs(&scene.layers.clone()[..1], None);
    let found = scene.only();
    assert_eq!((found.kind, found.safe), (FindingKind::BrokenChain, false));
    // A mark for something else, such as an upload that failed, is not ours.
    scene.seen.machines.clear();
    scene.records.disks[0].illegal = Some("the upload was cancelled".to_owned());
    scene.nothing();
}

#[test]
fn a_lost_map_is_made_anew_where_the_layers_prove_it_and_given_up_elsewhere() {
    let mut scene = Scene::new();
    let claim = |moved| CheckpointDiskRow {
        checkpoint: CheckpointId::fresh(),
        disk: scene.disk,
        image: scene.layers[1],
        size_bytes: 32 * MIB,
        map: true,
        moved,
    };
    let (older, newer) = (claim(false), claim(false));
    scene.records.claims = vec![older.clone(), newer.clone()];
    scene.nothing();
    scene
        .seen
        .lost_maps
        .insert((newer.checkpoint, newer.disk), "damaged".to_owned());
    let rebuild = |older| Act::Rebuild {
        checkpoint: newer.checkpoint,
        disk: newer.disk,
        older,
    };
    assert_eq!(scene.only().act, rebuild(Some(older.checkpoint)));
    scene.records.claims[0].moved = true;
    assert_eq!(scene.only().act, rebuild(None));
    scene.records.claims[1].moved = true;
    let found = scene.only();
    assert_eq!(
        found.act,
        Act::Drop {
            checkpoint: newer.checkpoint,
            disk: newer.disk
        }
    );
    assert_eq!(found.loses.len(), 1);
}

#[test]
fn an_id_is_the_same_as_long_as_nothing_changes_and_tells_what_it_is_about_when_something_does() {
    let mut scene = Scene::new();
    scene.illegal();
    let (first, again) = (scene.only(), scene.only());
    assert_eq!(first.id, again.id);
    scene.records.disks[0].illegal = Some(format!("{MISMATCH} [other]"));
    let changed = scene.only();
    assert_ne!(first.id, changed.id);
    assert_eq!(first.id[..ABOUT_DIGITS], changed.id[..ABOUT_DIGITS]);
    assert_eq!(first.id.len(), 2 * ABOUT_DIGITS);
}
