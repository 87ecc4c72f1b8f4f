//! Processes outlive the daemon, are found again, and a stopped one disturbs nobody else.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
mod rig;

use rig::*;
use std::time::{Duration, Instant};
use stillpoint_engine::ports::*;
use stillpoint_types::{JobId, VmId};

/// Not a test of its own: the daemon whose death the test below looks at. Started by it with the directory to use.
#[tokio::test]
#[ignore = "run by machines_survive_the_death_of_the_daemon_and_of_its_terminal as another process"]
async fn daemon_that_dies() {
    let Ok(dir) = std::env::var("OUTLIVE_DIR") else { return };
    let dir = std::path::Path::new(&dir);
    let qemu = driver(dir, Duration::from_secs(20)).await;
    let spec: MachineSpec = serde_json::from_slice(&std::fs::read(dir.join("spec.json")).unwrap()).unwrap();
    let record = qemu.start(&spec).await.unwrap();
    std::fs::write(dir.join("record.new"), serde_json::to_vec(&record).unwrap()).unwrap();
    std::fs::rename(dir.join("record.new"), dir.join("record.json")).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn machines_survive_the_death_of_the_daemon_and_of_its_terminal() {
    let rig = Rig::new().await;
    let image = rig.base();
    let disk = chain(&[&image]);
    let spec = rig.spec(std::slice::from_ref(&disk));
    std::fs::write(rig.path().join("spec.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut daemon = std::process::Command::new("setsid")
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "daemon_that_dies"])
        .env("OUTLIVE_DIR", rig.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let file = rig.path().join("record.json");
    let end = Instant::now() + Duration::from_secs(90);
    while !file.exists() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let record: ProcessRecord = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    rig.note(record.clone());
    // All of the daemon's session and process group, as a terminal that hangs up or gets Ctrl-C.
    for name in ["HUP", "INT", "TERM", "KILL"] {
        let group = format!("-{}", daemon.id());
        let _some_are_too_late = std::process::Command::new("kill")
            .args([&format!("-{name}"), "--", &group])
            .output();
    }
    daemon.wait().unwrap();
    assert!(rig.qemu.adopt(spec.vm, &record).await.unwrap());
    let machine = rig.qemu.machine(spec.vm).unwrap();
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    assert_eq!(
        machine.graph().await.unwrap().chain(disk.disk),
        Some([image.id].as_slice())
    );
    assert_eq!(rig.qemu.find(spec.vm).await.unwrap(), Some(record));
}

#[tokio::test]
async fn a_process_that_was_never_recorded_is_found_without_its_pid_file_too() {
    let mut rig = Rig::new().await;
    let image = rig.base();
    let spec = rig.spec(&[chain(&[&image])]);
    let (record, machine) = rig.start(&spec).await;
    drop(machine);
    rig.restart_daemon().await;
    assert_eq!(rig.qemu.find(spec.vm).await.unwrap().as_ref(), Some(&record));
    std::fs::remove_file(rig.path().join(format!("run/vm/{}/pid", spec.vm))).unwrap();
    assert_eq!(rig.qemu.find(spec.vm).await.unwrap().as_ref(), Some(&record));
    assert_eq!(rig.qemu.find(VmId::fresh()).await.unwrap(), None);
    assert_eq!(
        rig.start(&spec).await.0,
        record,
        "a start finds it instead of starting a second one"
    );
}

#[tokio::test]
async fn a_stopped_qemu_is_a_timeout_and_the_others_go_on() {
    let rig = Rig::with_limit(Duration::from_secs(1)).await;
    let (image, other_image) = (rig.base(), rig.base());
    let spec = rig.spec(&[chain(&[&image])]);
    let other_spec = rig.spec(&[chain(&[&other_image])]);
    let (record, machine) = rig.start(&spec).await;
    let (_, other) = rig.start(&other_spec).await;
    assert!(signal(record.pid, "STOP"));
    let begun = Instant::now();
    let (stopped, running) = tokio::join!(machine.run_state(), other.graph());
    assert_eq!(stopped.unwrap_err().kind, DriverErrorKind::Timeout);
    assert!(running.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(10));
    // A daemon that starts meanwhile.
    drop(machine);
    let late = driver(rig.path(), Duration::from_secs(1)).await;
    let error = late.adopt(spec.vm, &record).await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::Timeout, "{}", error.chain());
    assert!(late.machine(spec.vm).is_none());
    drop(rig.qemu.machine(spec.vm));
    assert!(signal(record.pid, "CONT"));
    let mut known = rig.qemu.machine(spec.vm).unwrap();
    assert_eq!(
        known.run_state().await.unwrap(),
        RunState::Running,
        "the old connection answers again"
    );
    // SIGKILL reaches a stopped one.
    assert!(signal(record.pid, "STOP"));
    let begun = Instant::now();
    known.kill(Duration::from_millis(500)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    known = other;
    assert_eq!(known.run_state().await.unwrap(), RunState::Running);
    run("qemu-img", &["check", "-q", text(&image.path)]);
}

#[tokio::test]
async fn what_happens_to_a_machine_is_told() {
    let rig = Rig::new().await;
    let image = rig.base();
    let spec = rig.spec(&[chain(&[&image])]);
    let mut events = rig.qemu.events();
    let (_, machine) = rig.start(&spec).await;
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(60), events.recv())
            .await
            .unwrap()
            .unwrap()
    };
    tokio::time::sleep(Duration::from_millis(200)).await; // until its watcher listens: events before that only wake
    machine.pause().await.unwrap();
    assert_eq!(next().await, MachineEvent::Changed(spec.vm, RunState::Paused));
    machine.cont().await.unwrap();
    assert_eq!(next().await, MachineEvent::Changed(spec.vm, RunState::Running));
    machine.kill(Duration::from_secs(5)).await.unwrap();
    let mut last = next().await;
    while let MachineEvent::Changed(..) = last {
        last = next().await;
    }
    assert_eq!(last, MachineEvent::Exited(spec.vm));
    assert!(rig.qemu.machine(spec.vm).is_none());
}

#[tokio::test]
async fn disks_at_rest_are_switched_and_merged_and_their_bitmaps_stored() {
    let mut rig = Rig::new().await;
    let base = rig.base();
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 1M", text(&base.path)]);
    run("qemu-img", &["bitmap", "--add", text(&base.path), "cp1"]);
    let overlay = rig.overlay(&base);
    let mut disk = chain(&[&base]);
    let owner = rig.owner();
    let rest = rig.qemu.open_at_rest(owner, std::slice::from_ref(&disk)).await.unwrap();
    assert_eq!(rest.graph().await.unwrap().chain(disk.disk), Some([base.id].as_slice()));
    rest.open_overlay(&overlay).await.unwrap();
    let report = rest.switch(&switch(&[(disk.disk, &base, &overlay)])).await.unwrap();
    assert_eq!(report.frozen, Frozen::NotAsked);
    assert_eq!(
        rest.graph().await.unwrap().chain(disk.disk),
        Some([base.id, overlay.id].as_slice())
    );
    drop(rest);

    // The daemon dies; the next one finds the same storage daemon.
    rig.restart_daemon().await;
    let rest = rig.qemu.open_at_rest(owner, std::slice::from_ref(&disk)).await.unwrap();
    assert_eq!(
        rest.graph().await.unwrap().chain(disk.disk),
        Some([base.id, overlay.id].as_slice())
    );
    rig.qemu.sweep_at_rest(&[owner]).await.unwrap();
    drop(rest);
    rig.qemu.close_at_rest(owner).await.unwrap();
    rig.qemu.close_at_rest(owner).await.unwrap();
    let flags = info(&overlay.path)["format-specific"]["data"]["bitmaps"][0]["flags"].clone();
    assert_eq!(flags, serde_json::json!(["auto"]), "the bitmap is stored cleanly");

    run(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -P 2 4M 1M", text(&overlay.path)],
    );
    disk.images = vec![base.clone(), overlay.clone()];
    let owner = rig.owner();
    let rest = rig.qemu.open_at_rest(owner, std::slice::from_ref(&disk)).await.unwrap();
    let merge = merge_of(&disk, &base, &overlay);
    rest.merge(&merge, &|_, _| ()).await.unwrap();
    rest.merge(&merge, &|_, _| ()).await.unwrap();
    assert_eq!(rest.graph().await.unwrap().chain(disk.disk), Some([base.id].as_slice()));
    assert!(mark(&overlay).exists());
    drop(rest);
    rig.qemu.sweep_at_rest(&[]).await.unwrap();
    assert_content(&base, 1, 0, MIB);
    assert_content(&base, 2, 4 * MIB, MIB);
    run("qemu-img", &["check", "-q", text(&base.path)]);
}

#[tokio::test]
async fn an_image_that_another_process_has_open_is_refused_at_rest() {
    let rig = Rig::new().await;
    let image = rig.base();
    let disk = chain(&[&image]);
    let _machine = rig.start(&rig.spec(std::slice::from_ref(&disk))).await;
    let owner: JobId = rig.owner();
    let error = rig.qemu.open_at_rest(owner, &[disk]).await.err().unwrap();
    assert_eq!(error.kind, DriverErrorKind::Busy, "{}", error.chain());
    assert!(
        !rig.path().join(format!("run/rest/{owner}")).exists(),
        "nothing is left"
    );
}
