//! A guest that does its worst: an agent that is absent, hangs, half-answers or dies while the file systems are frozen,
//! and storage that fills up under its writes. The guest goes on each time, and loses no record.
//!
//! Full storage needs root (tmpfs over the storage domain's directory).

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::tool;
use stillpoint_testkit::records::Checker;
use stillpoint_testkit::{Api, Console, Daemon, Guest, VmSpec, eventually};

const LONG: Duration = Duration::from_secs(240);
/// Far above what the product promises for an agent (10 s), as the machine may be busy; far below "for ever".
const BOUNDED: Duration = Duration::from_secs(90);

/// A guest that writes records on two disks.
struct Running {
    daemon: Daemon,
    api: Api,
    vm: String,
    disks: Vec<String>,
    console: Console,
}

impl Running {
    fn boot(options: &str, prepare: impl FnOnce(&Daemon) -> Result<()>) -> Result<Self> {
        let daemon = Daemon::start()?;
        prepare(&daemon)?;
        let guest = Guest::build()?;
        guest.install(daemon.data_dir())?;
        let api = daemon.api("admin")?;
        let vm =
            api.create_vm(&VmSpec::new("db1").cmdline(&guest.cmdline(&format!("sp.disks=2 sp.every=10 {options}"))?))?;
        let mut disks = Vec::new();
        for number in 0..2 {
            let disk = api.create_disk(&format!("db1_{number}"), 256 << 20)?;
            api.attach(&vm, &disk, "virtio", number == 0)?;
            disks.push(disk);
        }
        api.start(&vm)?;
        let console = daemon.console(&vm);
        console.wait_record(50, LONG)?;
        Ok(Self {
            daemon,
            api,
            vm,
            disks,
            console,
        })
    }

    /// The guest writes on, all disks included.
    fn goes_on(&self) -> Result<u64> {
        self.console.wait_record(self.console.last_record() + 50, LONG)
    }

    /// Takes a snapshot in bounded time and returns its id and what was told of the freeze since.
    fn snapshot(&self, name: &str) -> Result<(String, Vec<(String, String)>)> {
        let before = self.newest_event()?;
        let begun = Instant::now();
        let snapshot = self.api.snapshot(&self.vm, name, false, None)?;
        ensure!(begun.elapsed() < BOUNDED, "{name} took {:?}", begun.elapsed());
        Ok((snapshot, self.freeze_events(before)?))
    }

    fn newest_event(&self) -> Result<u64> {
        let events = self.api.events(0)?;
        Ok(events.last().context("no event")?.id()?.parse()?)
    }

    /// Code and text of the events about freezing after an index.
    fn freeze_events(&self, after: u64) -> Result<Vec<(String, String)>> {
        let told = self.api.events(after)?.into_iter().filter_map(|event| {
            let code = event.text_at("code")?.to_owned();
            let text = event.text_at("description")?.to_owned();
            code.starts_with("1076").then_some((code, text))
        });
        Ok(told.collect())
    }

    /// Backs the VM up with or without the demand for frozen file systems, which this guest cannot freeze; waits for what
    /// becomes of it.
    fn backup_asks_for(&self, require_consistency: &str, phase: &str) -> Result<()> {
        let place = format!("vms/{}/backups", self.vm);
        let body = format!("<backup><disks><disk id=\"{}\"/></disks></backup>", self.disks[0]);
        let made = self
            .api
            .post(&format!("{place}?require_consistency={require_consistency}"), &body)?
            .expect(&[201])?;
        let path = format!("{place}/{}", made.xml()?.id()?);
        self.api.wait_status(&path, "phase", phase, LONG)?;
        if phase == "ready" {
            self.api
                .post(&format!("{path}/finalize"), "<action/>")?
                .expect(&[200])?;
            self.api.wait_status(&path, "phase", "succeeded", LONG)?;
        }
        Ok(())
    }

    /// The images that a snapshot holds, in the guest's disk order.
    fn images(&self, snapshot: &str) -> Result<Vec<PathBuf>> {
        let list = self
            .api
            .get(&format!("vms/{}/snapshots/{snapshot}/disks", self.vm))?
            .expect(&[200])?
            .xml()?;
        let of = |disk: &String| -> Result<PathBuf> {
            let found = list.children.iter().find(|item| item.id().ok() == Some(disk));
            let image = found
                .and_then(|item| item.text_at("image_id"))
                .context("a disk without image")?;
            Ok(self.daemon.images_dir().join(format!("{image}.qcow2")))
        };
        self.disks.iter().map(of).collect()
    }

    /// Ends with every record that the guest reported.
    fn end(&self) -> Result<()> {
        self.console.fail_on_trouble()?;
        self.api.stop(&self.vm)?;
        let last = self.console.last_record();
        let list = self
            .api
            .get(&format!("vms/{}/snapshots", self.vm))?
            .expect(&[200])?
            .xml()?;
        let active = list
            .all("snapshot")
            .find(|item| item.text_at("snapshot_type") == Some("active"));
        let active = active.context("no active snapshot")?.id()?.to_owned();
        Checker::new().at_least(last).check(&self.images(&active)?)?;
        Ok(())
    }
}

fn codes(events: &[(String, String)]) -> Vec<&str> {
    events.iter().map(|(code, _)| code.as_str()).collect()
}

#[test]
fn without_an_agent_a_snapshot_is_quick_and_says_that_nothing_was_frozen() -> Result<()> {
    let guest = Running::boot("sp.agent=0", |_| Ok(()))?;
    let (snapshot, events) = guest.snapshot("no agent")?;
    ensure!(codes(&events) == ["10764"], "{events:?}");
    ensure!(
        events[0].1.contains("db1") && events[0].1.contains("no guest agent"),
        "{events:?}"
    );
    guest.goes_on()?;
    Checker::new().check(&guest.images(&snapshot)?)?;
    guest.api.delete_snapshot(&guest.vm, &snapshot)?;
    guest.goes_on()?;
    guest.backup_asks_for("false", "ready")?;
    guest.backup_asks_for("true", "failed")?;
    guest.goes_on()?;
    guest.end()?;
    guest.daemon.scan_log(&[])
}

#[test]
fn an_agent_that_hangs_or_half_answers_costs_bounded_time_and_never_the_guest() -> Result<()> {
    for (options, reason) in [("sp.agent=2", "did not answer"), ("sp.agent=3", "did not answer")] {
        let guest = Running::boot(options, |_| Ok(()))?;
        let mut kept = Vec::new();
        for name in ["first", "second"] {
            let (snapshot, events) = guest.snapshot(name)?;
            ensure!(
                events.first().is_some_and(|(code, _)| code == "10764"),
                "{options}: {events:?}"
            );
            ensure!(events[0].1.contains(reason), "{options}: {events:?}");
            ensure!(
                !codes(&events).contains(&"10768"),
                "{options}: thawed, it says: {events:?}"
            );
            guest.goes_on()?;
            Checker::new().check(&guest.images(&snapshot)?)?;
            kept.push(snapshot);
        }
        for snapshot in kept {
            guest.api.delete_snapshot(&guest.vm, &snapshot)?;
        }
        guest.end()?;
        guest.daemon.scan_log(&["thaw failed"])?;
    }
    Ok(())
}

#[test]
fn a_guest_whose_agent_dies_while_frozen_is_thawed_as_soon_as_an_agent_is_back() -> Result<()> {
    let mut guest = Running::boot("sp.agent=4", |_| Ok(()))?;
    let begun = guest.newest_event()?;
    let (snapshot, events) = guest.snapshot("agent dies")?;
    ensure!(codes(&events) == ["10767", "10765"], "{events:?}");
    // A daemon that dies now must not forget the guest.
    guest.daemon.kill9()?;
    guest.daemon.restart()?;
    let told = eventually(LONG, "the thaw to be told", || {
        let events = guest.freeze_events(begun)?;
        Ok(codes(&events).contains(&"10768").then_some(events))
    })?;
    ensure!(codes(&told) == ["10767", "10765", "10768"], "{told:?}");
    guest.goes_on()?;
    Checker::new().check(&guest.images(&snapshot)?)?;
    let (later, events) = guest.snapshot("with the real agent")?;
    ensure!(codes(&events) == ["10767", "10768"], "{events:?}");
    guest.goes_on()?;
    Checker::new().check(&guest.images(&later)?)?;
    for snapshot in [later, snapshot] {
        guest.api.delete_snapshot(&guest.vm, &snapshot)?;
    }
    guest.end()?;
    guest.daemon.scan_log(&["thaw failed"])
}

/// Takes the small file system away whatever happens.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        if let Err(error) = tool("umount", &["-l", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

#[test]
fn a_guest_whose_storage_fills_up_is_paused_and_goes_on_without_loss_once_there_is_room() -> Result<()> {
    let mut mounted = None;
    let guest = Running::boot("sp.pause=1000", |daemon| {
        let path = daemon.images_dir();
        tool(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "size=700m,mode=700",
                "tmpfs",
                &path.to_string_lossy(),
            ],
        )
        .context("this test needs root")?;
        mounted = Some(Unmount(path));
        Ok(())
    })?;
    let (snapshot, _) = guest.snapshot("before")?;
    let filler = guest.daemon.images_dir().join("filler");
    // All that is left, to the last block; `fallocate` takes nothing when it cannot take all.
    let mut file = fs::File::create(&filler)?;
    let full = std::io::copy(&mut std::io::repeat(1), &mut file);
    ensure!(full.is_err(), "the storage has no end");
    drop(file);
    guest
        .api
        .wait_status(&format!("vms/{}", guest.vm), "status", "paused", LONG)?;
    let told = eventually(LONG, "event 145", || {
        let events = guest.api.events(0)?;
        Ok(events
            .into_iter()
            .rev()
            .find(|event| event.text_at("code") == Some("145")))
    })?;
    let text = told.text_at("description").unwrap_or_default();
    ensure!(text.contains("db1") && text.contains("Make room"), "{text}");
    let before = guest.daemon.estate(&guest.api)?;
    let body = "<snapshot><description>s</description></snapshot>";
    let refused = guest
        .api
        .post(&format!("vms/{}/snapshots", guest.vm), body)?
        .refusal()?;
    refused.expect(409, "Operation Failed", &["MiB free", "MiB are needed"])?;
    ensure!(
        guest.daemon.estate(&guest.api)? == before,
        "the refused snapshot changed something"
    );

    fs::remove_file(&filler)?;
    guest.api.start(&guest.vm)?;
    guest.goes_on()?;
    Checker::new().check(&guest.images(&snapshot)?)?;
    guest.api.delete_snapshot(&guest.vm, &snapshot)?;
    guest.goes_on()?;
    guest.end()?;
    drop(mounted);
    guest.daemon.scan_log(&[])
}
