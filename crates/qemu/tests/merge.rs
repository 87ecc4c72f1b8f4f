//! Merging layers of a running machine, and what is left when QEMU or the daemon dies in the middle of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
mod rig;

use rig::*;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use stillpoint_engine::ports::*;
use stillpoint_qemu::qmp::Qmp;

/// How far a merge had come. `Dismissed`: only the nodes are left. `Stale`: a mark, but no merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Nothing,
    Stale,
    Running,
    Ready,
    Pending,
    Marked,
    Finalized,
    Dismissed,
}

/// A machine whose disk has layers; every layer holds 6 MiB of its own pattern (1, 2, ...) at its own place, and
/// the bitmaps `cp1` (since the base) and `cpN` (born in layer N).
struct Story {
    rig: Rig,
    layers: Vec<ImageRef>,
    chain: Chain,
    spec: MachineSpec,
    record: ProcessRecord,
    machine: Option<Arc<dyn Machine>>,
    monitor: Qmp,
    /// Bytes beyond the patterns in the active layer: see [`BALLAST`].
    ballast: AtomicU64,
}

const PART: u64 = 6 * MIB;
/// What keeps a merge of the active layer running: QEMU's mirror puts 16 MiB in flight before it first looks at its
/// speed.
const BALLAST: u64 = 32 * MIB;

impl Story {
    async fn new(depth: usize) -> Self {
        let rig = Rig::new().await;
        let layers = vec![rig.base()];
        let chain = chain(&[&layers[0]]);
        let spec = rig.spec(std::slice::from_ref(&chain));
        let (record, machine) = rig.start(&spec).await;
        let monitor = rig.monitor(spec.vm).await;
        let machine = Some(machine);
        let mut story = Self {
            rig,
            layers,
            chain,
            spec,
            record,
            machine,
            monitor,
            ballast: AtomicU64::new(0),
        };
        story.fill().await;
        while story.layers.len() < depth {
            story.grow().await;
        }
        story
    }

    async fn grow(&mut self) {
        let base = self.layers.last().unwrap();
        let overlay = self.rig.overlay(base);
        self.machine().open_overlay(&overlay).await.unwrap();
        self.machine()
            .switch(&switch(&[(self.chain.disk, base, &overlay)]))
            .await
            .unwrap();
        self.layers.push(overlay);
        self.chain.images = self.layers.clone();
        self.fill().await;
    }

    async fn fill(&self) {
        let level = self.layers.len();
        add_bitmap(&self.monitor, self.layers.last().unwrap(), &format!("cp{level}")).await;
        let pattern = u8::try_from(level).unwrap();
        guest_write(&self.monitor, self.chain.disk, pattern, place(level - 1), PART).await;
    }

    fn machine(&self) -> &Arc<dyn Machine> {
        self.machine.as_ref().unwrap()
    }

    fn merge(&self, base: usize) -> Merge {
        merge_of(&self.chain, &self.layers[base], &self.layers[base + 1])
    }

    async fn status(&self, job: &str) -> Option<String> {
        let jobs: Value = self.monitor.call("query-jobs", json!({})).await.unwrap();
        let jobs = jobs.as_array().unwrap();
        Some(
            jobs.iter().find(|j| j["id"] == job)?["status"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    }

    async fn until(&self, job: &str, wanted: &str) {
        let wait = async {
            while self.status(job).await.as_deref() != Some(wanted) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    }

    async fn tell(&self, command: &str, arguments: Value) {
        self.monitor.run(command, arguments).await.unwrap();
    }

    /// Brings the merge of layer `base + 1` into `base` to a phase, with the driver's own commands.
    async fn drive(&self, base: usize, phase: Phase) {
        let merge = self.merge(base);
        let (top, below) = (&merge.top, &merge.base);
        let job = format!("m{}", top.id.base32());
        if phase == Phase::Stale {
            std::fs::rename(&top.path, mark(top)).unwrap();
        }
        if matches!(phase, Phase::Nothing | Phase::Stale) {
            return;
        }
        if phase == Phase::Running && merge.is_active() {
            guest_write(&self.monitor, self.chain.disk, 9, SIZE - BALLAST, BALLAST).await;
            self.ballast.store(BALLAST, Ordering::Relaxed);
        }
        let mut commit = json!({"job-id": job, "device": node(self.layers.last().unwrap()), "top-node": node(top),
            "base-node": node(below), "auto-finalize": false, "auto-dismiss": false, "filter-node-name": job,
            "speed": if phase == Phase::Running { 8 * MIB } else { 0 }});
        if !merge.is_active() {
            commit["backing-file"] = json!(below.path.file_name().unwrap().to_str().unwrap());
        }
        self.tell("block-commit", commit).await;
        if phase == Phase::Running {
            assert_eq!(self.status(&job).await.as_deref(), Some("running"));
            return;
        }
        let id = json!({"id": job});
        if merge.is_active() {
            self.until(&job, "ready").await;
            if phase == Phase::Ready {
                return;
            }
        } else {
            self.until(&job, "pending").await;
        }
        let name = format!("cp{}", base + 2);
        let bitmaps = json!({"actions": [
            {"type": "block-dirty-bitmap-add", "data": {"node": node(below), "name": name, "persistent": true}},
            {"type": "block-dirty-bitmap-merge", "data": {"node": node(below), "target": name,
                "bitmaps": [{"node": node(top), "name": name}]}},
            {"type": "block-dirty-bitmap-merge", "data": {"node": node(below), "target": "cp1",
                "bitmaps": [{"node": node(top), "name": "cp1"}]}}]});
        self.tell("transaction", bitmaps).await;
        if merge.is_active() {
            self.tell("job-complete", id.clone()).await;
            self.until(&job, "pending").await;
        }
        if phase == Phase::Pending {
            return;
        }
        if merge.is_active() {
            std::fs::rename(&top.path, mark(top)).unwrap();
        }
        if phase == Phase::Marked {
            return;
        }
        self.tell("job-finalize", id.clone()).await;
        self.until(&job, "concluded").await;
        if phase == Phase::Dismissed {
            self.tell("job-dismiss", id).await;
        }
    }

    fn assert_contents(&self, start: &ImageRef) {
        for level in 0..self.layers.len() {
            assert_content(start, u8::try_from(level + 1).unwrap(), place(level), PART);
        }
        assert_content(start, 0, place(self.layers.len()), PART);
    }

    /// What the daemon decides by when QEMU is dead.
    fn is_merged(&self, base: usize) -> bool {
        let merge = self.merge(base);
        match merge.above() {
            None => mark(&merge.top).exists(),
            Some(above) => {
                let named = info(&above.path)["backing-filename"].as_str().unwrap().to_owned();
                named == merge.base.path.file_name().unwrap().to_str().unwrap()
            }
        }
    }

    async fn kill(&self) {
        assert!(signal(self.record.pid, "KILL"));
        let gone = async {
            while self.rig.qemu.find(self.spec.vm).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    }

    async fn assert_merged(&self, base: usize) {
        let merge = self.merge(base);
        let left: Vec<_> = self
            .layers
            .iter()
            .filter(|image| image.id != merge.top.id)
            .map(|image| image.id)
            .collect();
        let graph = self.rig.qemu.machine(self.spec.vm).unwrap().graph().await.unwrap();
        assert_eq!(graph.chain(self.chain.disk), Some(left.as_slice()));
        assert!(!graph.open.contains(&merge.top.id), "its nodes are closed");
        assert_eq!(graph.foreign, Vec::<String>::new());
        assert!(self.is_merged(base));
        assert_eq!(mark(&merge.top).exists(), merge.is_active());
        let (below, ballast) = (&merge.base, self.ballast.load(Ordering::Relaxed));
        assert_eq!(
            dirty(&self.monitor, below, "cp1").await,
            Some(PART * u64::try_from(base + 2).unwrap() + ballast)
        );
        assert_eq!(
            dirty(&self.monitor, below, &format!("cp{}", base + 2)).await,
            Some(PART + ballast)
        );
        let top = if merge.is_active() {
            below
        } else {
            self.layers.last().unwrap()
        };
        self.assert_contents(top);
    }
}

fn place(level: usize) -> u64 {
    8 * MIB * u64::try_from(level).unwrap()
}

fn ignore(_done: u64, _total: u64) {}

#[tokio::test]
async fn the_active_layer_is_merged_and_the_guest_goes_on_in_the_base() {
    let story = Story::new(2).await;
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |done, total| told.lock().unwrap().push((done, total));
    story.machine().merge(&story.merge(0), &progress).await.unwrap();
    story.assert_merged(0).await;
    assert!(told.lock().unwrap().iter().all(|(done, total)| done <= total));
    guest_write(&story.monitor, story.chain.disk, 9, 32 * MIB, MIB).await;
    assert_content(&story.layers[0], 9, 32 * MIB, MIB);
    assert_eq!(
        dirty(&story.monitor, &story.layers[0], "cp2").await,
        Some(PART + MIB),
        "both go on recording"
    );
    assert_eq!(
        dirty(&story.monitor, &story.layers[0], "cp1").await,
        Some(2 * PART + MIB)
    );
    story.machine().merge(&story.merge(0), &ignore).await.unwrap(); // again: nothing to do
    story.machine().kill(Duration::from_secs(10)).await.unwrap();
    run("qemu-img", &["check", "-q", text(&story.layers[0].path)]);
    let stored = info(&story.layers[0].path)["format-specific"]["data"]["bitmaps"].clone();
    assert!(
        stored.as_array().unwrap().iter().all(|b| b["flags"] == json!(["auto"])),
        "stored cleanly: {stored}"
    );
}

#[tokio::test]
async fn a_middle_layer_is_merged_and_the_one_above_stands_on_the_base() {
    let story = Story::new(3).await;
    story.machine().merge(&story.merge(0), &ignore).await.unwrap();
    story.assert_merged(0).await;
    story.machine().merge(&story.merge(0), &ignore).await.unwrap();
    story.kill().await;
    run("qemu-img", &["check", "-q", text(&story.layers[0].path)]);
    story.assert_contents(&story.layers[2]);
}

#[tokio::test]
async fn a_restarted_daemon_finishes_an_active_merge_from_every_phase() {
    use Phase::*;
    for phase in [Nothing, Stale, Running, Ready, Pending, Marked, Finalized, Dismissed] {
        println!("{phase:?}");
        resume(2, 0, phase).await;
    }
}

#[tokio::test]
async fn a_restarted_daemon_finishes_a_middle_merge_from_every_phase() {
    for phase in [
        Phase::Nothing,
        Phase::Running,
        Phase::Pending,
        Phase::Finalized,
        Phase::Dismissed,
    ] {
        println!("{phase:?}");
        resume(4, 1, phase).await;
    }
}

async fn resume(depth: usize, base: usize, phase: Phase) {
    let mut story = Story::new(depth).await;
    story.drive(base, phase).await;
    let (vm, record) = (story.spec.vm, story.record.clone());
    story.machine = None; // Its connection ends with it, as with the daemon's process.
    story.rig.restart_daemon().await;
    assert!(story.rig.qemu.adopt(vm, &record).await.unwrap());
    story.machine = story.rig.qemu.machine(vm);
    assert_eq!(
        story.is_merged(base),
        matches!(
            phase,
            Phase::Stale | Phase::Marked | Phase::Finalized | Phase::Dismissed
        )
    );
    story
        .machine()
        .merge(&story.merge(base), &ignore)
        .await
        .unwrap_or_else(|e| panic!("{phase:?}: {}", e.chain()));
    if base == 0 {
        story.assert_merged(base).await;
    } else {
        assert!(story.is_merged(base));
        let below = &story.layers[base];
        assert_eq!(dirty(&story.monitor, below, "cp1").await, Some(2 * PART), "{phase:?}");
        assert_eq!(dirty(&story.monitor, below, "cp3").await, Some(PART), "{phase:?}");
        story.assert_contents(story.layers.last().unwrap());
    }
}

#[tokio::test]
async fn after_kill_9_the_disk_says_which_image_has_every_write() {
    use Phase::*;
    for phase in [Running, Ready, Pending, Marked, Finalized] {
        let story = Story::new(2).await;
        story.drive(0, phase).await;
        story.kill().await;
        assert_eq!(story.is_merged(0), matches!(phase, Marked | Finalized), "{phase:?}");
        let start = if story.is_merged(0) {
            &story.layers[0]
        } else {
            &story.layers[1]
        };
        story.assert_contents(start);
    }
    for phase in [Running, Pending, Finalized] {
        let story = Story::new(3).await;
        story.drive(0, phase).await;
        story.kill().await;
        assert_eq!(story.is_merged(0), phase == Finalized, "{phase:?}");
        story.assert_contents(&story.layers[2]);
    }
}

#[tokio::test]
async fn a_merge_whose_qemu_dies_fails_at_once_as_disconnected() {
    let story = Story::new(2).await;
    let mut exits = story.rig.qemu.events();
    story.drive(0, Phase::Running).await;
    let (machine, merge) = (Arc::clone(story.machine()), story.merge(0));
    let task = tokio::spawn(async move { machine.merge(&merge, &ignore).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    if task.is_finished() {
        panic!("it does not follow the job: {:?}", task.await);
    }
    story.kill().await;
    let error = tokio::time::timeout(Duration::from_secs(10), task)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::Disconnected, "{}", error.chain());
    let event = tokio::time::timeout(Duration::from_secs(10), exits.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(event, MachineEvent::Exited(story.spec.vm));
    assert!(story.rig.qemu.machine(story.spec.vm).is_none());
    assert!(!story.rig.qemu.adopt(story.spec.vm, &story.record).await.unwrap());
}

#[tokio::test]
async fn a_cancelled_merge_leaves_the_chain_as_it_was_and_can_be_done_later() {
    for phase in [
        Phase::Nothing,
        Phase::Running,
        Phase::Ready,
        Phase::Pending,
        Phase::Marked,
    ] {
        let story = Story::new(2).await;
        story.drive(0, phase).await;
        story.machine().cancel_merge(&story.merge(0)).await.unwrap();
        let graph = story.machine().graph().await.unwrap();
        assert_eq!(
            graph.chain(story.chain.disk),
            Some([story.layers[0].id, story.layers[1].id].as_slice())
        );
        assert!(story.layers[1].path.exists() && !story.is_merged(0), "{phase:?}");
        story.assert_contents(&story.layers[1]);
        story.machine().merge(&story.merge(0), &ignore).await.unwrap();
        story.assert_merged(0).await;
    }
}

#[tokio::test]
async fn a_full_base_fails_the_merge_and_it_works_once_there_is_room() {
    let mut story = Story::new(1).await;
    let base = story.layers[0].clone();
    let file = format!("f{}", base.id.base32());
    // QEMU's own error for a bitmap that cannot be written is another one: here only data meets the full disk.
    story
        .tell("block-dirty-bitmap-remove", json!({"node": node(&base), "name": "cp1"}))
        .await;
    story.grow().await;
    let full = json!({"driver": "blkdebug", "node-name": "full", "image": file,
        "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "once": true}]});
    story.tell("blockdev-add", full).await;
    let reopen = json!({"options": [{"driver": "qcow2", "node-name": node(&base), "file": "full", "backing": null,
        "read-only": true, "discard": "unmap"}]});
    story.tell("blockdev-reopen", reopen).await;
    let error = story.machine().merge(&story.merge(0), &ignore).await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::NoSpace, "{}", error.chain());
    let graph = story.machine().graph().await.unwrap();
    assert_eq!(
        graph.chain(story.chain.disk),
        Some([base.id, story.layers[1].id].as_slice())
    );
    assert!(!story.is_merged(0));
    story.assert_contents(&story.layers[1]);
    story.machine().merge(&story.merge(0), &ignore).await.unwrap();
    assert!(story.is_merged(0));
    assert_eq!(dirty(&story.monitor, &base, "cp2").await, Some(PART));
    story.assert_contents(&base);
}

#[tokio::test]
async fn a_bitmap_that_was_disabled_in_the_base_misses_no_committed_write() {
    let story = Story::new(2).await;
    let off = json!({"node": node(&story.layers[0]), "name": "cp1"});
    story.tell("block-dirty-bitmap-disable", off).await;
    story.machine().merge(&story.merge(0), &ignore).await.unwrap();
    story.assert_merged(0).await;
}

#[tokio::test]
async fn a_bitmap_that_a_crash_lost_is_not_invented_and_the_bases_still_misses_nothing() {
    let mut story = Story::new(2).await;
    story.spec.disks[0].chain = story.chain.clone();
    story.machine().kill(Duration::from_secs(10)).await.unwrap(); // Stores all bitmaps,
    for _ in 0..2 {
        story.machine = None;
        let (record, machine) = story.rig.start(&story.spec).await;
        (story.record, story.machine) = (record, Some(machine));
        if story.rig.path().join("killed").exists() {
            break;
        }
        std::fs::write(story.rig.path().join("killed"), "").unwrap();
        story.kill().await; // but those of the open top are lost here.
    }
    story.monitor = story.rig.monitor(story.spec.vm).await;
    story.machine().merge(&story.merge(0), &ignore).await.unwrap();
    assert_eq!(dirty(&story.monitor, &story.layers[0], "cp1").await, Some(2 * PART));
    assert_eq!(dirty(&story.monitor, &story.layers[0], "cp2").await, None);
    story.assert_contents(&story.layers[0]);
}

#[tokio::test]
async fn cancelling_ends_the_call_that_follows_the_merge_and_it_does_not_begin_anew() {
    let story = Story::new(2).await;
    story.drive(0, Phase::Running).await;
    let (machine, merge) = (Arc::clone(story.machine()), story.merge(0));
    let following = tokio::spawn(async move { machine.merge(&merge, &ignore).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    story.machine().cancel_merge(&story.merge(0)).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), following)
        .await
        .unwrap()
        .unwrap();
    assert!(ended.is_err(), "{ended:?}");
    let job = format!("m{}", story.layers[1].id.base32());
    assert_eq!(story.status(&job).await, None);
    assert!(!story.is_merged(0));
}

#[tokio::test]
async fn a_recorded_chain_that_is_not_qemus_is_refused() {
    let story = Story::new(3).await;
    let mut merge = story.merge(1);
    merge.chain.remove(0);
    let error = story.machine().merge(&merge, &ignore).await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::Protocol);
}
