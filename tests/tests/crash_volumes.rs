//! The daemon is killed in every step of what the volume dialects do to volumes and their snapshots. After the restart all
//! of it has happened, or none; nothing stays on its way, and every content is a moment that was.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use stillpoint_system_tests::volume::{Volumes, holds, write};
use stillpoint_testkit::{Api, Daemon, eventually};

const SOON: Duration = Duration::from_secs(60);
const SERVER: &str = "7b3cbb4e-0000-4000-8000-00000000000a";

/// What is asked while the daemon will die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Blank,
    Snapshot,
    FromSnapshot,
    Revert,
    Delete,
    Cascade,
}

const POINTS: &[(&str, Work)] = &[
    ("disk_create:create:started", Work::Blank),
    ("disk_create:create:effect", Work::Blank),
    ("volume_snapshot:settle:started", Work::Snapshot),
    ("volume_snapshot:settle:effect", Work::Snapshot),
    ("volume_snapshot:settle:done", Work::Snapshot),
    ("volume_create:create:started", Work::FromSnapshot),
    ("volume_create:create:effect", Work::FromSnapshot),
    ("volume_create:create:done", Work::FromSnapshot),
    ("volume_revert:prepare:started", Work::Revert),
    ("volume_revert:prepare:effect", Work::Revert),
    ("volume_revert:prepare:done", Work::Revert),
    ("volume_revert:switch:started", Work::Revert),
    ("volume_revert:switch:effect", Work::Revert),
    ("volume_revert:switch:done", Work::Revert),
    ("image_merge:merge:started", Work::Delete),
    ("merge:running", Work::Delete),
    ("merge:ready", Work::Delete),
    ("merge:marked", Work::Delete),
    ("image_merge:merge:effect", Work::Delete),
    ("image_merge:merge:done", Work::Cascade),
];

struct Place {
    daemon: Daemon,
    admin: Api,
    volumes: Volumes,
}

impl Place {
    /// Nothing is on its way, and nothing failed.
    fn settled(&self) -> Result<()> {
        for kind in ["volume", "snapshot"] {
            eventually(SOON, &format!("every {kind} to be available"), || {
                let shown = self.volumes.get(&format!("{kind}s/detail"))?;
                let all = shown[format!("{kind}s")].as_array().context("no list")?;
                let failed: Vec<&Value> = all
                    .iter()
                    .filter(|item| item["status"].as_str().is_none_or(|s| s.starts_with("error")))
                    .collect();
                ensure!(failed.is_empty(), "{failed:?}");
                Ok(all.iter().all(|item| item["status"] == "available").then_some(()))
            })?;
        }
        Ok(())
    }

    /// What a snapshot holds, seen through a volume that is made from it.
    fn shows(&self, snapshot: &str, byte: u8) -> Result<()> {
        let copy = self.volumes.create("volume", &json!({"snapshot_id": snapshot}))?;
        holds(&self.daemon, &self.admin, &copy, 1, byte)?;
        self.volumes
            .ask("DELETE", &format!("volumes/{copy}"), None)?
            .expect(&[202])?;
        self.volumes.gone("volume", &copy)
    }

    /// A server that is not ours writes: it has the volume meanwhile.
    fn write(&self, volume: &str, byte: u8) -> Result<()> {
        let attach = json!({"os-attach": {"mountpoint": "/dev/vdc", "instance_uuid": SERVER}});
        self.volumes.act("volume", volume, &attach)?.expect(&[202])?;
        write(&self.daemon, &self.admin, volume, 1, byte)?;
        self.volumes
            .act("volume", volume, &json!({"os-detach": {}}))?
            .expect(&[202])
            .map(drop)
    }

    fn ask(&self, work: Work, volume: &str, snapshot: &str) -> Result<()> {
        let volumes = &self.volumes;
        let _broken_or_answered = match work {
            Work::Blank => volumes.ask(
                "POST",
                "volumes",
                Some(&json!({"volume": {"size": 1, "name": "blank"}})),
            ),
            Work::Snapshot => {
                let body = json!({"snapshot": {"volume_id": volume, "name": "second"}});
                volumes.ask("POST", "snapshots", Some(&body))
            }
            Work::FromSnapshot => volumes.ask(
                "POST",
                "volumes",
                Some(&json!({"volume": {"snapshot_id": snapshot, "name": "made"}})),
            ),
            Work::Revert => volumes.act("volume", volume, &json!({"revert": {"snapshot_id": snapshot}})),
            Work::Delete => volumes.ask("DELETE", &format!("snapshots/{snapshot}"), None),
            Work::Cascade => {
                volumes.ask("DELETE", &format!("snapshots/{snapshot}"), None)?;
                // Else the volume may be gone before anything of it is merged. Who does not answer has died in the merge.
                eventually(SOON, "the merge to begin", || match self.admin.get("jobs") {
                    Ok(jobs) => Ok(jobs.text().contains("Merging hidden images").then_some(())),
                    Err(_dead) => Ok(Some(())),
                })?;
                volumes.ask("DELETE", &format!("volumes/{volume}?cascade=true"), None)
            }
        };
        Ok(())
    }

    fn dies_at(&mut self, point: &str, work: Work) -> Result<()> {
        let volume = self.volumes.create("volume", &json!({"size": 1, "name": "seed"}))?;
        write(&self.daemon, &self.admin, &volume, 1, 1)?;
        let snapshot = self
            .volumes
            .create("snapshot", &json!({"volume_id": volume, "name": "first"}))?;
        self.write(&volume, 2)?;
        self.daemon.stop()?;
        self.daemon.set_env("STILLPOINT_CRASH_AT", Some(point));
        self.daemon.restart()?;
        self.ask(work, &volume, &snapshot)?;
        self.daemon
            .wait_end(SOON)
            .with_context(|| format!("the daemon does not come by {point}"))?;
        self.daemon.set_env("STILLPOINT_CRASH_AT", None);
        self.daemon.restart()?;
        self.settled()?;
        match work {
            Work::Blank => holds(&self.daemon, &self.admin, &volume, 1, 2)?,
            Work::Snapshot => {
                self.shows(&snapshot, 1)?;
                for second in self.volumes.ids("snapshots?name=second", "snapshot")? {
                    self.shows(&second, 2)?;
                }
            }
            Work::FromSnapshot => {
                self.shows(&snapshot, 1)?;
                for made in self.volumes.ids("volumes?name=made", "volume")? {
                    holds(&self.daemon, &self.admin, &made, 1, 1)?;
                }
            }
            Work::Revert => {
                self.shows(&snapshot, 1)?;
                // Answered or not, the intent was on disk: it goes forward.
                holds(&self.daemon, &self.admin, &volume, 1, 1)?;
            }
            Work::Delete => {
                self.volumes.gone("snapshot", &snapshot)?;
                holds(&self.daemon, &self.admin, &volume, 1, 2)?;
            }
            Work::Cascade => {
                self.volumes.gone("snapshot", &snapshot)?;
            }
        }
        for kind in ["snapshot", "volume"] {
            for id in self.volumes.ids(&format!("{kind}s"), kind)? {
                self.volumes
                    .ask("DELETE", &format!("{kind}s/{id}?cascade=true"), None)?
                    .expect(&[202, 404])?;
                self.volumes.gone(kind, &id)?;
            }
        }
        let left = || -> Result<usize> { Ok(std::fs::read_dir(self.daemon.images_dir())?.count()) };
        eventually(SOON, "every image file to be gone", || Ok((left()? == 0).then_some(())))
    }
}

#[test]
fn a_daemon_that_is_killed_in_any_step_leaves_no_volume_and_no_snapshot_on_its_way() -> Result<()> {
    let daemon = Daemon::start()?;
    let (admin, volumes) = (daemon.api("admin")?, Volumes::login(&daemon, "alice", "demo")?);
    let mut place = Place { daemon, admin, volumes };
    for (point, work) in POINTS {
        place
            .dies_at(point, *work)
            .with_context(|| format!("killed at {point} ({work:?})"))?;
    }
    eprintln!("{} points", POINTS.len());
    place.daemon.scan_log(&[])
}
