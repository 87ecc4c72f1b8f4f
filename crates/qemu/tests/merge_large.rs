//! Merging a middle layer of a large sparse disk: as quickly as its data needs, and whole whoever dies meanwhile.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
mod rig;

use rig::*;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use stillpoint_engine::ports::*;
use stillpoint_qemu::qmp::Qmp;

const LARGE: u64 = 1 << 40;
const PART: u64 = 2 * MIB;

/// How far a merge had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The layer above stands on the shadow.
    Aside,
    Running,
    Ready,
    Pending,
    Concluded,
    /// The layer above stands on the base, and its header names the top.
    Relinked,
    /// The header, too.
    Named,
    /// Only nodes are left.
    Dismissed,
}

use Phase::*;

/// A machine whose disk of 1 TiB has layers: every one holds its own pattern (1, 2, ...) at its own place, and at two that
/// all write to, at the beginning and at the end.
struct Story {
    rig: Rig,
    layers: Vec<ImageRef>,
    chain: Chain,
    spec: MachineSpec,
    record: ProcessRecord,
    machine: Option<Arc<dyn Machine>>,
    monitor: Qmp,
}

impl Story {
    async fn new(depth: usize) -> Self {
        let rig = Rig::new().await;
        let layers = vec![rig.base_of_size(LARGE)];
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
        };
        story.fill().await;
        while story.layers.len() < depth {
            story.grow().await;
        }
        story
    }

    async fn grow(&mut self) {
        let base = self.layers.last().unwrap();
        let overlay = self.rig.overlay_of_size(base, LARGE);
        self.machine().open_overlay(&overlay).await.unwrap();
        let mut switch = switch(&[(self.chain.disk, base, &overlay)]);
        switch.disks[0].size_bytes = LARGE;
        self.machine().switch(&switch).await.unwrap();
        self.layers.push(overlay);
        self.chain.images = self.layers.clone();
        self.fill().await;
    }

    async fn fill(&self) {
        let level = self.layers.len();
        for at in [place(level - 1), 0, LARGE - PART] {
            self.write(level, at).await;
        }
    }

    async fn write(&self, pattern: usize, at: u64) {
        let pattern = u8::try_from(pattern).unwrap();
        guest_write(&self.monitor, self.chain.disk, pattern, at, PART).await;
    }

    fn machine(&self) -> &Arc<dyn Machine> {
        self.machine.as_ref().unwrap()
    }

    fn merge(&self) -> Merge {
        merge_of(&self.chain, &self.layers[0], &self.layers[1])
    }

    async fn tell(&self, command: &str, arguments: Value) {
        self.monitor.run(command, arguments).await.unwrap();
    }

    async fn until(&self, wanted: &str) {
        let wait = async {
            loop {
                let jobs: Value = self.monitor.call("query-jobs", json!({})).await.unwrap();
                if jobs[0]["status"] == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    }

    /// The layer above (the third) with that node below it.
    fn above_on(&self, below: &str) -> Value {
        let above = &self.layers[2];
        json!({"driver": "qcow2", "node-name": node(above), "file": format!("f{}", above.id.base32()), "backing": below,
               "read-only": self.layers.len() > 3, "discard": "unmap"})
    }

    /// Brings the merge of the second layer into the first to a phase, with the driver's own commands.
    async fn drive(&self, phase: Phase) {
        let (base, top, above) = (&self.layers[0], &self.layers[1], &self.layers[2]);
        let id = top.id.base32();
        let (job, shadow) = (json!({"id": format!("m{id}")}), format!("s{id}"));
        let file =
            json!({"driver": "file", "node-name": format!("p{id}"), "filename": text(&top.path), "read-only": true});
        let add = json!({"driver": "qcow2", "node-name": shadow, "read-only": true, "force-share": true,
                         "backing": node(base), "file": file});
        self.tell("blockdev-add", add).await;
        self.tell("blockdev-reopen", json!({"options": [self.above_on(&shadow)]}))
            .await;
        if phase == Aside {
            return;
        }
        let commit = json!({"job-id": job["id"], "filter-node-name": job["id"], "device": node(top), "top-node": node(top),
            "base-node": node(base), "auto-finalize": false, "auto-dismiss": false,
            "speed": if phase == Running { PART } else { 0 }});
        self.tell("block-commit", commit).await;
        if phase == Running {
            self.until("running").await;
            return;
        }
        self.until("ready").await;
        if phase == Ready {
            return;
        }
        self.tell("job-complete", job.clone()).await;
        self.until("pending").await;
        if phase == Pending {
            return;
        }
        self.tell("job-finalize", job.clone()).await;
        self.until("concluded").await;
        if phase == Concluded {
            return;
        }
        let base_again = json!({"driver": "qcow2", "node-name": node(base), "file": format!("f{}", base.id.base32()),
            "backing": null, "read-only": true, "discard": "unmap"});
        let both = json!({"options": [base_again, self.above_on(&node(base))]});
        self.tell("blockdev-reopen", both).await;
        if phase == Relinked {
            return;
        }
        let name = json!({"device": node(self.layers.last().unwrap()), "image-node-name": node(above),
                          "backing-file": base.path.file_name().unwrap().to_str().unwrap()});
        self.tell("change-backing-file", name).await;
        if phase == Dismissed {
            self.tell("job-dismiss", job).await;
        }
    }

    fn assert_contents(&self) {
        let (start, last) = (self.layers.last().unwrap(), self.layers.len());
        for level in 0..last {
            assert_content(start, u8::try_from(level + 1).unwrap(), place(level), PART);
        }
        for at in [0, LARGE - PART] {
            assert_content(start, u8::try_from(last).unwrap(), at, PART);
        }
        assert_content(start, 0, place(last), PART);
    }

    /// What the daemon decides by when QEMU is dead.
    fn is_merged(&self) -> bool {
        let named = info(&self.layers[2].path)["backing-filename"]
            .as_str()
            .unwrap()
            .to_owned();
        named == self.layers[0].path.file_name().unwrap().to_str().unwrap()
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

    /// The top is gone, the guest goes on, and all is there for whoever opens the files when QEMU has been killed.
    async fn assert_merged(&self) {
        let left: Vec<_> = self.layers.iter().map(|image| image.id).collect();
        let without: Vec<_> = left.iter().copied().filter(|id| *id != self.layers[1].id).collect();
        let graph = self.machine().graph().await.unwrap();
        assert_eq!(graph.chain(self.chain.disk), Some(without.as_slice()));
        assert!(!graph.open.contains(&self.layers[1].id), "its nodes are closed");
        assert_eq!(graph.foreign, Vec::<String>::new());
        let nodes: Value = self
            .monitor
            .call("query-named-block-nodes", json!({"flat": true}))
            .await
            .unwrap();
        assert_eq!(nodes.as_array().unwrap().len(), 2 * without.len(), "{nodes}");
        let is_read_only = |image| {
            nodes
                .as_array()
                .unwrap()
                .iter()
                .any(|n| n["node-name"] == node(image) && n["ro"] == true)
        };
        assert!(is_read_only(&self.layers[0]));
        assert!(self.is_merged());
        self.write(9, LARGE / 2).await;
        std::fs::remove_file(&self.layers[1].path).unwrap();
        self.kill().await;
        run("qemu-img", &["check", "-q", text(&self.layers[0].path)]);
        assert_content(self.layers.last().unwrap(), 9, LARGE / 2, PART);
        self.assert_contents();
    }
}

fn place(level: usize) -> u64 {
    (LARGE / 16 + 3 * MIB) * u64::try_from(level + 1).unwrap()
}

fn ignore(_done: u64, _total: u64) {}

#[tokio::test]
async fn a_large_middle_layer_is_merged_at_the_cost_of_its_data_below_the_active_layer_and_deeper() {
    for depth in [3, 4] {
        let story = Story::new(depth).await;
        let told = Mutex::new(0);
        let progress = |_done: u64, total: u64| {
            let mut most = told.lock().unwrap();
            *most = total.max(*most);
        };
        story.machine().merge(&story.merge(), &progress).await.unwrap();
        let most = *told.lock().unwrap();
        assert!(most <= 3 * PART, "QEMU went through {most} bytes");
        story.machine().merge(&story.merge(), &ignore).await.unwrap(); // again: nothing to do
        story.assert_merged().await;
    }
}

#[tokio::test]
async fn a_restarted_daemon_finishes_the_merge_of_a_large_middle_layer_from_every_phase() {
    for phase in [Aside, Running, Ready, Pending, Concluded, Relinked, Named, Dismissed] {
        println!("{phase:?}");
        let mut story = Story::new(if phase == Relinked { 4 } else { 3 }).await;
        story.drive(phase).await;
        let (vm, record) = (story.spec.vm, story.record.clone());
        story.machine = None; // Its connection ends with it, as with the daemon's process.
        story.rig.restart_daemon().await;
        assert!(story.rig.qemu.adopt(vm, &record).await.unwrap());
        story.machine = story.rig.qemu.machine(vm);
        assert_eq!(story.is_merged(), matches!(phase, Named | Dismissed));
        let merged = story.machine().merge(&story.merge(), &ignore).await;
        merged.unwrap_or_else(|e| panic!("{phase:?}: {}", e.chain()));
        story.assert_merged().await;
    }
}

#[tokio::test]
async fn after_kill_9_both_chains_of_a_large_disk_have_every_write() {
    for phase in [Aside, Running, Ready, Pending, Concluded, Relinked, Named] {
        let story = Story::new(3).await;
        story.drive(phase).await;
        story.write(9, LARGE / 2).await;
        story.kill().await;
        assert_eq!(story.is_merged(), phase == Named, "{phase:?}");
        run("qemu-img", &["check", "-q", text(&story.layers[2].path)]);
        assert_content(&story.layers[2], 9, LARGE / 2, PART);
        story.assert_contents();
    }
}

#[tokio::test]
async fn a_cancelled_merge_of_a_large_layer_leaves_the_chain_as_it_was_and_can_be_done_later() {
    for phase in [Aside, Running, Ready, Pending] {
        let mut story = Story::new(3).await;
        story.drive(phase).await;
        story.machine().cancel_merge(&story.merge()).await.unwrap();
        let nodes: Value = story
            .monitor
            .call("query-named-block-nodes", json!({"flat": true}))
            .await
            .unwrap();
        assert_eq!(nodes.as_array().unwrap().len(), 6, "{phase:?}: {nodes}");
        assert!(!story.is_merged());
        story.assert_contents();
        // Whatever comes before the next try: here one more snapshot.
        story.grow().await;
        story.machine().merge(&story.merge(), &ignore).await.unwrap();
        story.assert_merged().await;
    }
}

#[tokio::test]
async fn what_a_dead_daemon_left_does_not_stand_in_the_way_of_other_merges_of_the_disk() {
    let story = Story::new(3).await;
    story.drive(Aside).await;
    let (top, active) = (&story.layers[1], &story.layers[2]);
    story
        .machine()
        .merge(&merge_of(&story.chain, top, active), &ignore)
        .await
        .unwrap();
    let graph = story.machine().graph().await.unwrap();
    assert_eq!(
        graph.chain(story.chain.disk),
        Some([story.layers[0].id, top.id].as_slice())
    );
    assert!(mark(active).exists());
    story.kill().await;
    assert_content(top, 3, 0, PART);
    assert_content(top, 1, place(0), PART);
}

#[tokio::test]
async fn a_large_middle_layer_is_merged_at_the_cost_of_its_data_at_rest_and_into_a_smaller_base() {
    for base_bytes in [LARGE, LARGE / 2] {
        at_rest(base_bytes).await;
    }
}

/// The base may be smaller: the disk was extended since.
async fn at_rest(base_bytes: u64) {
    let rig = Rig::new().await;
    let base = rig.base_of_size(base_bytes);
    let top = rig.overlay_of_size(&base, LARGE);
    let above = rig.overlay_of_size(&top, LARGE);
    let disk = chain(&[&base, &top, &above]);
    let write = |image: &ImageRef, pattern: u8, at: u64| {
        let write = format!("write -q -P {pattern} {at} {PART}");
        run("qemu-io", &["-f", "qcow2", "-c", &write, text(&image.path)]);
    };
    for (pattern, image) in (1_u8..).zip([&base, &top, &above]) {
        write(image, pattern, place(usize::from(pattern)));
        write(image, pattern, 0);
    }
    write(&top, 2, LARGE - PART);
    let owner = rig.owner();
    let rest = rig.qemu.open_at_rest(owner, std::slice::from_ref(&disk)).await.unwrap();
    let told = Mutex::new(0);
    let progress = |_done: u64, total: u64| {
        let mut most = told.lock().unwrap();
        *most = total.max(*most);
    };
    let merge = merge_of(&disk, &base, &top);
    rest.merge(&merge, &progress).await.unwrap();
    let graph = rest.graph().await.unwrap();
    assert_eq!(graph.chain(disk.disk), Some([base.id, above.id].as_slice()));
    rest.merge(&merge, &ignore).await.unwrap(); // again: nothing to do
    drop(rest);
    rig.qemu.close_at_rest(owner).await.unwrap();
    let most = *told.lock().unwrap();
    assert!(most <= 3 * PART, "QEMU went through {most} bytes");
    std::fs::remove_file(&top.path).unwrap();
    assert_eq!(info(&base.path)["virtual-size"], LARGE);
    run("qemu-img", &["check", "-q", text(&above.path)]);
    let expected = [
        (1, place(1)),
        (2, place(2)),
        (3, place(3)),
        (3, 0),
        (2, LARGE - PART),
        (0, LARGE / 2),
    ];
    for (pattern, at) in expected {
        assert_content(&above, pattern, at, PART);
    }
}
