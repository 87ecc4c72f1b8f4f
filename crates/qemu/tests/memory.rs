//! A real Linux guest: its memory saved with its disks at one instant, its file systems frozen around a switch.
//!
//! The guest appends numbered lines to a file, synchronises, and says the number on its console. Number in memory and
//! lines on disk are of one instant if a resumed guest goes on with the number after the disk's last line.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
mod rig;

use rig::*;
use serde_json::json;
use std::{path::PathBuf, sync::Arc, time::Duration};
use stillpoint_engine::ports::*;
use stillpoint_types::MemoryId;

struct Guest {
    rig: Rig,
    base: ImageRef,
    disk: Chain,
    spec: MachineSpec,
    machine: Arc<dyn Machine>,
}

impl Guest {
    async fn boot() -> Self {
        let rig = Rig::new().await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rig/make-guest.sh");
        run("sh", &[script, text(rig.path())]);
        let base = rig.base();
        let disk = chain(&[&base]);
        let mut spec = rig.spec(std::slice::from_ref(&disk));
        spec.memory_bytes = 192 * MIB;
        spec.boot = Boot::Kernel {
            kernel: rig.path().join("vmlinuz"),
            initrd: Some(rig.path().join("initrd.gz")),
            cmdline: "console=ttyS0 quiet panic=-1".to_owned(),
        };
        let (_, machine) = rig.start(&spec).await;
        let guest = Self {
            rig,
            base,
            disk,
            spec,
            machine,
        };
        guest.tick_after(0).await;
        guest
    }

    fn console(&self) -> PathBuf {
        self.rig.path().join(format!("run/vm/{}/console.log", self.spec.vm))
    }

    /// Bytes that the console has said so far.
    fn said(&self) -> usize {
        std::fs::metadata(self.console()).map_or(0, |file| usize::try_from(file.len()).unwrap())
    }

    /// The first whole tick that the console says behind its first `said` bytes.
    async fn tick_after(&self, said: usize) -> u64 {
        let wait = async {
            loop {
                let text = std::fs::read(self.console()).unwrap_or_default();
                let text = String::from_utf8_lossy(text.get(said..).unwrap_or_default()).into_owned();
                assert!(!text.contains("NO FILE SYSTEM"), "{text}");
                let tick = |line: &str| line.strip_suffix('\n')?.trim().strip_prefix("TICK ")?.parse().ok();
                if let Some(first) = text.split_inclusive('\n').find_map(tick) {
                    return first;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(180), wait)
            .await
            .expect("the guest does not tick")
    }

    fn memory(&self) -> MemoryRef {
        let id = MemoryId::fresh();
        // A name that a shell would stumble over.
        let directory = self.rig.path().join("it's $(here)");
        std::fs::create_dir_all(&directory).unwrap();
        MemoryRef {
            id,
            path: directory.join(format!("{id}.memory")),
        }
    }

    async fn prepared_overlay(&self) -> (ImageRef, Switch) {
        let overlay = self.rig.overlay(&self.base);
        self.machine.open_overlay(&overlay).await.unwrap();
        let switch = switch(&[(self.disk.disk, &self.base, &overlay)]);
        (overlay, switch)
    }

    /// The last number on the disk, by the file's content somewhere in the image.
    fn last_line(&self, image: &ImageRef) -> u64 {
        let raw = self.rig.path().join("look.raw");
        run(
            "qemu-img",
            &["convert", "-U", "-O", "raw", text(&image.path), text(&raw)],
        );
        let bytes = std::fs::read(&raw).unwrap();
        let said = String::from_utf8_lossy(&bytes);
        said.match_indices("tick ")
            .filter_map(|(at, _)| {
                let digits: String = said[at + 5..].chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            })
            .max()
            .unwrap()
    }

    /// Ends the guest, resumes it from the memory over the frozen base, and sees that it goes on where both stood.
    async fn assert_resumes(self, memory: MemoryRef) {
        let last = self.last_line(&self.base);
        self.machine.kill(Duration::from_secs(10)).await.unwrap();
        let seen = self.said();
        let over = self.rig.overlay(&self.base);
        let mut spec = self.spec.clone();
        spec.disks[0].chain.images = vec![self.base.clone(), over];
        spec.resume = Some(memory);
        let (_, machine) = self.rig.start(&spec).await;
        assert_eq!(machine.run_state().await.unwrap(), RunState::Paused, "left stopped");
        assert_eq!(
            machine.memory_save().await.unwrap(),
            MemorySave::None,
            "loading is no saving"
        );
        assert_eq!(self.said(), seen);
        machine.cont().await.unwrap();
        let next = self.tick_after(seen).await;
        assert!((last..=last + 1).contains(&next), "disk {last}, memory {next}");
        assert_eq!(
            machine.thaw().await.unwrap(),
            Some(0),
            "the agent is there and nothing is frozen"
        );
    }

    async fn save(&self, memory: &MemoryRef, expected: MemoryMethod) {
        let (_, wanted) = self.prepared_overlay().await;
        let (report, method, failure) = self.machine.switch_and_save(&wanted, memory).await.unwrap();
        assert_eq!((report.frozen, method, failure), (Frozen::NotAsked, expected, None));
        if method == MemoryMethod::Background {
            assert_eq!(self.machine.run_state().await.unwrap(), RunState::Running);
        }
        let told = std::sync::Mutex::new(0);
        let end = self
            .machine
            .finish_save(memory, &|done, _| *told.lock().unwrap() = done)
            .await
            .unwrap();
        assert_eq!(end, MemorySave::Completed);
        assert_eq!(
            self.machine.finish_save(memory, &|_, _| ()).await.unwrap(),
            MemorySave::Completed
        );
        assert!(memory.path.metadata().unwrap().len() > MIB);
        let beside = std::fs::read_dir(memory.path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "no part is left");
        let seen = self.said();
        self.tick_after(seen).await;
    }
}

#[tokio::test]
async fn memory_and_disks_of_one_instant_come_back_together_after_a_background_save() {
    let guest = Guest::boot().await;
    let memory = guest.memory();
    guest.save(&memory, MemoryMethod::Background).await;
    guest.assert_resumes(memory).await;
}

#[tokio::test]
async fn a_restarted_daemon_finishes_a_save_but_never_begins_one_after_its_instant() {
    let mut guest = Guest::boot().await;
    let memory = guest.memory();
    let (_, wanted) = guest.prepared_overlay().await;
    guest.machine.switch_and_save(&wanted, &memory).await.unwrap();
    let record = guest.rig.qemu.find(guest.spec.vm).await.unwrap().unwrap();
    guest.machine = guest.rig.start(&guest.rig.spec(&[])).await.1; // so that the old connection ends
    guest.rig.restart_daemon().await;
    assert!(guest.rig.qemu.adopt(guest.spec.vm, &record).await.unwrap());
    guest.machine = guest.rig.qemu.machine(guest.spec.vm).unwrap();
    let (_, _, failure) = guest.machine.switch_and_save(&wanted, &memory).await.unwrap();
    assert_eq!(failure, None, "it is under way");
    let other = guest.memory();
    let (_, _, failure) = guest.machine.switch_and_save(&wanted, &other).await.unwrap();
    assert!(failure.is_some(), "the disks' instant is over");
    assert_eq!(
        guest.machine.finish_save(&memory, &|_, _| ()).await.unwrap(),
        MemorySave::Completed
    );
    guest.assert_resumes(memory).await;
}

#[tokio::test]
async fn they_do_too_where_the_guest_must_be_stopped_for_it() {
    let guest = Guest::boot().await;
    let monitor = guest.rig.monitor(guest.spec.vm).await;
    // QEMU refuses background snapshots beside this one, as it does on hosts without userfaultfd.
    let other = json!({"capabilities": [{"capability": "auto-converge", "state": true}]});
    monitor.run("migrate-set-capabilities", other).await.unwrap();
    let memory = guest.memory();
    guest.save(&memory, MemoryMethod::Stopped).await;
    guest.assert_resumes(memory).await;
}

#[tokio::test]
async fn a_save_that_is_cancelled_or_cannot_be_written_leaves_the_guest_running_and_no_file() {
    let guest = Guest::boot().await;
    let memory = guest.memory();
    let (first, wanted) = guest.prepared_overlay().await;
    guest.machine.switch_and_save(&wanted, &memory).await.unwrap();
    guest.machine.cancel_save().await.unwrap();
    let end = guest.machine.finish_save(&memory, &|_, _| ()).await.unwrap();
    assert!(matches!(end, MemorySave::Failed(_)), "{end:?}");
    let said = guest.said();
    guest.tick_after(said).await;
    assert_eq!(std::fs::read_dir(memory.path.parent().unwrap()).unwrap().count(), 0);

    let nowhere = MemoryRef {
        id: memory.id,
        path: guest.rig.path().join("missing/dir/x.memory"),
    };
    let overlay = guest.rig.overlay(&first);
    guest.machine.open_overlay(&overlay).await.unwrap();
    let wanted = switch(&[(guest.disk.disk, &first, &overlay)]);
    let (_, _, failure) = guest.machine.switch_and_save(&wanted, &nowhere).await.unwrap();
    let end = guest.machine.finish_save(&nowhere, &|_, _| ()).await.unwrap();
    assert!(matches!(end, MemorySave::Failed(_)), "{failure:?} {end:?}");
    assert_eq!(guest.machine.run_state().await.unwrap(), RunState::Running);
    let seen = guest.said();
    guest.tick_after(seen).await;
    let graph = guest.machine.graph().await.unwrap();
    assert_eq!(
        graph.chain(guest.disk.disk).unwrap().last(),
        Some(&overlay.id),
        "the disks are switched all the same"
    );
}

#[tokio::test]
async fn a_memory_that_is_no_memory_starts_nothing() {
    let guest = Guest::boot().await;
    guest.machine.kill(Duration::from_secs(10)).await.unwrap();
    let memory = guest.memory();
    let mut spec = guest.spec.clone();
    spec.resume = Some(memory.clone());
    assert_eq!(
        guest.rig.qemu.start(&spec).await.unwrap_err().kind,
        DriverErrorKind::NotFound
    );
    std::fs::write(&memory.path, vec![0x5a; 100_000]).unwrap();
    let error = guest.rig.qemu.start(&spec).await.unwrap_err();
    assert!(!matches!(error.kind, DriverErrorKind::Timeout), "{}", error.chain());
    assert_eq!(guest.rig.qemu.find(spec.vm).await.unwrap(), None);
    assert!(guest.rig.qemu.machine(spec.vm).is_none());
}

#[tokio::test]
async fn a_guest_that_writes_all_the_time_goes_on_through_a_merge_and_loses_nothing() {
    let guest = Guest::boot().await;
    let (overlay, wanted) = guest.prepared_overlay().await;
    guest.machine.switch(&wanted).await.unwrap();
    let mut merge = merge_of(&guest.disk, &guest.base, &overlay);
    merge.chain = vec![guest.base.clone(), overlay.clone()];
    let said = guest.said();
    guest.tick_after(said).await;
    guest.machine.merge(&merge, &|_, _| ()).await.unwrap();
    let said = guest.said();
    let synchronised = guest.tick_after(said).await;
    guest.machine.kill(Duration::from_secs(10)).await.unwrap();
    assert!(mark(&overlay).exists());
    let last = guest.last_line(&guest.base);
    assert!(last >= synchronised, "disk {last}, synchronised {synchronised}");
}

#[tokio::test]
async fn a_frozen_guest_is_thawed_whatever_happens_to_the_caller() {
    let guest = Guest::boot().await;
    let agent_is_up = async {
        while guest.machine.thaw().await.ok().flatten().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), agent_is_up)
        .await
        .unwrap();
    let (first, wanted) = guest.prepared_overlay().await;
    let report = guest.machine.switch(&wanted).await.unwrap();
    assert_eq!((report.frozen, report.thawed), (Frozen::Yes(1), true));
    assert!(report.window_us >= report.transaction_us && report.transaction_us > 0);
    assert_eq!(guest.machine.thaw().await.unwrap(), Some(0));

    // The caller goes away in the middle of the window, at many moments.
    let mut base = first;
    for wait in [1, 3, 8, 20, 40] {
        let overlay = guest.rig.overlay(&base);
        guest.machine.open_overlay(&overlay).await.unwrap();
        let wanted = switch(&[(guest.disk.disk, &base, &overlay)]);
        let call = guest.machine.switch(&wanted);
        let _dropped = tokio::time::timeout(Duration::from_millis(wait), call).await;
        guest.machine.switch(&wanted).await.unwrap();
        let seen = guest.said();
        guest.tick_after(seen).await;
        assert_eq!(guest.machine.thaw().await.unwrap(), Some(0), "{wait} ms");
        base = overlay;
    }
    // A freeze that is not answered in time may have frozen the guest all the same.
    let overlay = guest.rig.overlay(&base);
    guest.machine.open_overlay(&overlay).await.unwrap();
    let mut hasty = switch(&[(guest.disk.disk, &base, &overlay)]);
    hasty.freeze_limit = Duration::from_millis(1);
    let report = guest.machine.switch(&hasty).await.unwrap();
    assert!(
        matches!(report.frozen, Frozen::Failed(_)) && report.thawed,
        "{report:?}"
    );
    assert_eq!(guest.machine.thaw().await.unwrap(), Some(0));
    let said = guest.said();
    guest.tick_after(said).await;
    base = overlay;

    // A paused guest's agent never answers: nobody waits for it.
    guest.machine.pause().await.unwrap();
    let overlay = guest.rig.overlay(&base);
    guest.machine.open_overlay(&overlay).await.unwrap();
    let report = guest
        .machine
        .switch(&switch(&[(guest.disk.disk, &base, &overlay)]))
        .await
        .unwrap();
    assert_eq!((report.frozen, report.window_us), (Frozen::NotAsked, 0));
    guest.machine.cont().await.unwrap();
    guest.machine.shutdown().await.unwrap();
}
