//! What ADR 0013 stands on: once a switch is answered, the file of the layer that was written to is whole, whatever QEMU
//! had in its memory before; and QEMU's locks tell who must not be read.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod rig;

use rig::*;
use serde_json::json;
use stillpoint_engine::ports::*;
use stillpoint_qcow2::{Chain as Files, OpenError, Patience, Place};

const CLUSTER: u64 = 64 * 1024;
/// Between two places that are written to: no cluster has two.
const STEP: u64 = MIB + CLUSTER;

fn place(image: &ImageRef) -> Place {
    Place {
        path: image.path.clone(),
        is_raw: false,
    }
}

fn expect_busy(places: &[Place]) {
    let (_, why) = Files::open(places).unwrap_err();
    assert!(matches!(why, OpenError::Busy), "{why}");
}

#[tokio::test]
async fn a_layer_is_whole_in_its_file_as_soon_as_it_is_frozen() {
    let rig = Rig::new().await;
    let base = rig.base();
    let disk = chain(&[&base]);
    let spec = rig.spec(std::slice::from_ref(&disk));
    let (record, machine) = rig.start(&spec).await;
    let monitor = rig.monitor(spec.vm).await;
    let device = format!("/machine/peripheral/d{}/virtio-backend", disk.disk.base32());
    let (mut layers, mut was_behind) = (vec![base], false);
    for round in 1..=6_u8 {
        let top = layers.last().unwrap().clone();
        // Scattered, so that many tables are new. The firmware does not say that it can flush, so QEMU flushes after each
        // write; but not after what is discarded, which stays in its memory.
        let mut commands = Vec::new();
        for k in 0..48_u64 {
            let at = k * STEP + u64::from(round) * 4096;
            commands.push(format!("write -P {round} {at} 4096"));
        }
        let gone = u64::from(round) * STEP;
        commands.push(format!("discard {gone} {CLUSTER}"));
        for what in commands {
            let command = format!("qemu-io -d {device} \"{what}\"");
            let call = monitor.call("human-monitor-command", json!({"command-line": command}));
            let said: String = call.await.unwrap();
            assert!(!said.contains("rror") && !said.contains("ailed"), "{command}: {said}");
        }
        expect_busy(&layers.iter().map(place).collect::<Vec<_>>());
        let before = std::fs::read(&top.path).unwrap();
        let overlay = rig.overlay(&top);
        machine.open_overlays(std::slice::from_ref(&overlay)).await.unwrap();
        let report = machine.switch(&switch(&[(disk.disk, &top, &overlay)])).await;
        report.unwrap();
        was_behind |= std::fs::read(&top.path).unwrap() != before;
        let frozen: Vec<_> = layers.iter().map(place).collect();
        let files = Files::open(&frozen).unwrap();
        let mut buffer = vec![0; 4096];
        for k in 0..48_u64 {
            for earlier in 1..=round {
                // What was discarded in a later round, with the whole cluster, or in its own.
                let is_gone = k <= u64::from(round) && k >= u64::from(earlier);
                let wanted = if is_gone { 0 } else { earlier };
                let at = k * STEP + u64::from(earlier) * 4096;
                files.read(&mut buffer, at, Patience::Wait).unwrap();
                assert!(
                    buffer.iter().all(|byte| *byte == wanted),
                    "round {round}: no {wanted} at {at}"
                );
            }
        }
        layers.push(overlay);
        // Who has the disk open for writing has only its top.
        expect_busy(&layers.iter().map(place).collect::<Vec<_>>());
    }
    assert!(was_behind, "QEMU never kept anything back: this test proves nothing");

    // Not a byte of a frozen file changes any more, not even when its QEMU is killed.
    let frozen = &layers[..layers.len() - 1];
    let before: Vec<_> = frozen.iter().map(|image| std::fs::read(&image.path).unwrap()).collect();
    assert!(signal(record.pid, "KILL"));
    machine.kill(std::time::Duration::from_secs(10)).await.unwrap();
    for (image, before) in frozen.iter().zip(&before) {
        assert!(
            std::fs::read(&image.path).unwrap() == *before,
            "{} changed",
            image.path.display()
        );
    }
}

#[test]
fn while_a_chain_is_read_nobody_writes_to_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&path), "64M"]);
    let places = [Place {
        path: path.clone(),
        is_raw: false,
    }];
    let write = || {
        let done = std::process::Command::new("qemu-io")
            .args(["-f", "qcow2", "-c", "write -P 1 0 4096", text(&path)])
            .output();
        let done = done.unwrap();
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let (first, second) = (Files::open(&places).unwrap(), Files::open(&places).unwrap());
    let (is_written, said) = write();
    assert!(!is_written && said.contains("lock"), "{said}");
    run("qemu-io", &["-r", "-f", "qcow2", "-c", "read 0 4096", text(&path)]);
    first.unlock().unwrap();
    assert!(!write().0, "one reader is left");
    second.unlock().unwrap();
    assert!(write().0);
}
