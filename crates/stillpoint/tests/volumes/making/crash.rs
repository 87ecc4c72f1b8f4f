//! The daemon dies at every named moment of the making of a volume of another one: afterwards there is a whole one or none,
//! the source is as it was, and nothing stays locked.
//!
//! The daemon that dies is this very test binary, started again to run [`the_daemon_that_dies`] on the same data directory.

use super::*;
use std::{os::unix::process::ExitStatusExt, time::Duration};

const LEASE: Duration = Duration::from_secs(3600);
const SIGABRT: i32 = 6;

/// Runs one command on the directory until it dies.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the test of this file, to die"]
async fn the_daemon_that_dies() {
    let get = |name: &str| std::env::var(name).ok();
    let Some(dir) = get("CRASH_DIR") else { return };
    let mut rig = Rig::take_over(dir.as_ref(), get("CRASH_VM").unwrap().parse().unwrap(), LEASE).await;
    rig.who.home_project = get("CRASH_PROJECT").unwrap().parse().unwrap();
    let source = get("CRASH_SOURCE").unwrap().parse().unwrap();
    let _never = of_volume(&rig, source, Some(2)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
}

fn die(rig: &Rig, source: DiskId, point: &str) {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "making::crash::the_daemon_that_dies"])
        .env("STILLPOINT_CRASH_AT", point)
        .env("CRASH_DIR", rig.dir.path())
        .env("CRASH_VM", rig.vm.to_string())
        .env("CRASH_PROJECT", rig.who.home_project.to_string())
        .env("CRASH_SOURCE", source.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.signal(), Some(SIGABRT), "{point} was not reached: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_made_of_another_is_whole_wherever_the_daemon_dies() {
    let mut rig = Rig::new(&[]).await;
    let source = make(&rig, volume(&rig)).await;
    let mut before = vec![source];
    for (pattern, moment) in (1..).zip(["started", "effect", "done"]) {
        write(&rig, source, pattern, 0, MIB).await;
        let then = keep(&rig, source, "then.raw").await;
        rig.stop_daemon().await;
        die(&rig, source, &format!("volume_create:create:{moment}"));
        rig.restart(LEASE).await;
        // What was answered, or would have been, is carried on.
        let fresh = eventually("the new volume", || async {
            let all = rig.engine.volumes(&rig.who, words::all(&rig)).await.unwrap().items;
            let fresh = all.into_iter().find(|view| !before.contains(&view.id))?;
            (fresh.status == VolumeStatus::Available).then_some(fresh)
        })
        .await;
        assert_eq!((fresh.size_bytes, fresh.from_volume), (2 * GIB, Some(source)));
        prove(&rig, fresh.id, &then).await;
        prove(&rig, source, &then).await;
        assert_eq!(seen(&rig, source).await.status, VolumeStatus::Available);
        assert_eq!(rig.engine.orphaned_locks().await.unwrap(), 0);
        before.push(fresh.id);
    }
}
