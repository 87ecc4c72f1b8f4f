//! Starting a machine and switching its disks, on a real QEMU.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
mod rig;

use rig::*;
use serde_json::json;
use std::time::Duration;
use stillpoint_engine::ports::*;
use stillpoint_types::{DiskInterface, VmId};

#[tokio::test]
async fn a_machine_starts_once_and_shows_the_chains_it_was_given() {
    let rig = Rig::new().await;
    let base = rig.base();
    let top = rig.overlay(&base);
    let raw = rig.raw_base();
    let chains = [chain(&[&base, &top]), chain(&[&raw])];
    let spec = rig.spec(&chains);
    let (record, machine) = rig.start(&spec).await;
    assert_eq!(rig.start(&spec).await.0, record, "a second start finds it");
    assert_eq!(rig.qemu.find(spec.vm).await.unwrap(), Some(record));
    assert_eq!(machine.run_state().await.unwrap(), RunState::Running);
    let graph = machine.graph().await.unwrap();
    assert_eq!(graph.chain(chains[0].disk), Some([base.id, top.id].as_slice()));
    assert_eq!(graph.chain(chains[1].disk), Some([raw.id].as_slice()));
    assert_eq!(graph.open.len(), 3);
    assert_eq!(graph.foreign, Vec::<String>::new());
    machine.kill(Duration::from_secs(10)).await.unwrap();
    assert_eq!(rig.qemu.find(spec.vm).await.unwrap(), None);
    run("qemu-img", &["check", "-q", text(&top.path)]); // fails if a lock was still held
}

#[tokio::test]
async fn disks_of_every_bus_are_found_in_the_graph() {
    let rig = Rig::new().await;
    let images: Vec<_> = (0..4).map(|_| rig.base()).collect();
    let chains: Vec<_> = images.iter().map(|image| chain(&[image])).collect();
    let mut spec = rig.spec(&chains);
    let places = [
        (DiskInterface::Virtio, 31),
        (DiskInterface::VirtioScsi, 7),
        (DiskInterface::Ide, 3),
        (DiskInterface::Sata, 5),
    ];
    for (disk, (interface, slot)) in spec.disks.iter_mut().zip(places) {
        (disk.interface, disk.slot, disk.bootable) = (interface, slot, true);
    }
    spec.nics = (20..)
        .zip(["virtio-net-pci", "e1000", "rtl8139"])
        .map(|(pci_slot, model)| NicSpec {
            id: stillpoint_types::NicId::fresh(),
            mac: format!("52:54:00:00:00:{pci_slot:02x}"),
            model: model.to_owned(),
            user_mode: model == "e1000",
            pci_slot,
        })
        .collect();
    let (_, machine) = rig.start(&spec).await;
    let graph = machine.graph().await.unwrap();
    for (chain, image) in chains.iter().zip(&images) {
        assert_eq!(graph.chain(chain.disk), Some([image.id].as_slice()));
    }
    let mut bad = rig.spec(&chains[..1]);
    bad.disks[0].slot = 3;
    assert_eq!(
        rig.qemu.start(&bad).await.unwrap_err().kind,
        DriverErrorKind::Unsupported
    );
}

#[tokio::test]
async fn a_machine_whose_image_is_locked_or_missing_is_refused_with_the_reason() {
    let rig = Rig::new().await;
    let image = rig.base();
    let first = rig.spec(&[chain(&[&image])]);
    let _running = rig.start(&first).await;
    let mut second = first.clone();
    second.vm = VmId::fresh();
    let error = rig.qemu.start(&second).await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::Busy, "{}", error.chain());
    assert_eq!(rig.qemu.find(second.vm).await.unwrap(), None);
    let gone = rig.base();
    std::fs::remove_file(&gone.path).unwrap();
    let error = rig.qemu.start(&rig.spec(&[chain(&[&gone])])).await.unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::NotFound, "{}", error.chain());
}

#[tokio::test]
async fn disks_are_switched_all_at_once_or_not_at_all_and_only_once() {
    let rig = Rig::new().await;
    for count in [1, 4] {
        let bases: Vec<_> = (0..count).map(|_| rig.base()).collect();
        let overlays: Vec<_> = bases.iter().map(|base| rig.overlay(base)).collect();
        let chains: Vec<_> = bases.iter().map(|base| chain(&[base])).collect();
        let spec = rig.spec(&chains);
        let (_, machine) = rig.start(&spec).await;
        let monitor = rig.monitor(spec.vm).await;
        for (pattern, chain) in (1..).zip(&chains) {
            guest_write(&monitor, chain.disk, pattern, 0, MIB).await;
        }
        let disks: Vec<_> = chains
            .iter()
            .zip(&bases)
            .zip(&overlays)
            .map(|((c, b), o)| (c.disk, b, o))
            .collect();
        let wanted = switch(&disks);

        // The last overlay is not open: nothing may happen to the others.
        for overlay in &overlays[..count - 1] {
            machine.open_overlay(overlay).await.unwrap();
        }
        let error = machine.switch(&wanted).await.unwrap_err();
        assert_eq!(error.kind, DriverErrorKind::NotFound, "{}", error.chain());
        // Nor if QEMU itself finds the last one bad, in the transaction.
        let last = &overlays[count - 1];
        let name = node(last);
        let void = json!({"driver": "null-co", "node-name": "void", "size": SIZE});
        monitor.run("blockdev-add", void).await.unwrap();
        let bad = json!({"driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": last.path},
                         "backing": "void"});
        monitor.run("blockdev-add", bad).await.unwrap();
        assert!(machine.switch(&wanted).await.is_err());
        let graph = machine.graph().await.unwrap();
        for (chain, base) in chains.iter().zip(&bases) {
            assert_eq!(
                graph.chain(chain.disk),
                Some([base.id].as_slice()),
                "nothing is switched"
            );
        }
        monitor.run("blockdev-del", json!({"node-name": name})).await.unwrap();

        machine.open_overlay(last).await.unwrap();
        machine.open_overlay(last).await.unwrap();
        let report = machine.switch(&wanted).await.unwrap();
        assert_eq!((report.frozen, report.thawed), (Frozen::NoAgent, true));
        let again = machine.switch(&wanted).await.unwrap();
        assert_eq!(
            (again.frozen, again.transaction_us),
            (Frozen::NotAsked, 0),
            "the second time there is nothing to do"
        );
        let graph = machine.graph().await.unwrap();
        for (pattern, (disk, base, overlay)) in (1..).zip(&disks) {
            assert_eq!(graph.chain(*disk), Some([base.id, overlay.id].as_slice()));
            guest_write(&monitor, *disk, 0xee, MIB, MIB).await;
            assert_content(base, pattern, 0, MIB);
            assert_content(base, 0, MIB, MIB);
            assert_content(overlay, 0xee, MIB, MIB);
        }
    }
}

#[tokio::test]
async fn an_overlay_of_another_size_is_refused_before_anything_happens() {
    let rig = Rig::new().await;
    let base = rig.base();
    let small = rig.overlay_of_size(&base, SIZE / 2);
    let disk = chain(&[&base]);
    let (_, machine) = rig.start(&rig.spec(std::slice::from_ref(&disk))).await;
    machine.open_overlay(&small).await.unwrap();
    let error = machine
        .switch(&switch(&[(disk.disk, &base, &small)]))
        .await
        .unwrap_err();
    assert_eq!(error.kind, DriverErrorKind::InvalidImage);
    machine.close_image(small.id).await.unwrap();
    machine.close_image(small.id).await.unwrap();
    assert_eq!(machine.graph().await.unwrap().open, [base.id]);
}

#[tokio::test]
async fn recording_bitmaps_go_on_in_the_overlay_and_the_base_keeps_what_it_knew() {
    let rig = Rig::new().await;
    let base = rig.base();
    let overlay = rig.overlay(&base);
    let disk = chain(&[&base]);
    let spec = rig.spec(std::slice::from_ref(&disk));
    let (_, machine) = rig.start(&spec).await;
    let monitor = rig.monitor(spec.vm).await;
    add_bitmap(&monitor, &base, "cp1").await;
    guest_write(&monitor, disk.disk, 1, 0, 3 * MIB).await;
    machine.open_overlay(&overlay).await.unwrap();
    machine.switch(&switch(&[(disk.disk, &base, &overlay)])).await.unwrap();
    assert_eq!(dirty(&monitor, &overlay, "cp1").await, Some(0));
    guest_write(&monitor, disk.disk, 2, 10 * MIB, 2 * MIB).await;
    assert_eq!(dirty(&monitor, &overlay, "cp1").await, Some(2 * MIB));
    assert_eq!(dirty(&monitor, &base, "cp1").await, Some(3 * MIB));
    let stored = info(&base.path)["format-specific"]["data"]["bitmaps"].clone();
    assert_eq!(
        stored[0]["flags"],
        json!(["auto"]),
        "the base's bitmap is on disk: {stored}"
    );
}

#[tokio::test]
async fn a_chain_of_150_layers_is_started_and_read_whole() {
    // QEMU's answer to `query-block` nests as deep as the chain.
    let rig = Rig::new().await;
    let mut layers = vec![rig.base()];
    while layers.len() < 150 {
        layers.push(rig.overlay(layers.last().unwrap()));
    }
    let disk = chain(&layers.iter().collect::<Vec<_>>());
    let (_, machine) = rig.start(&rig.spec(std::slice::from_ref(&disk))).await;
    let ids: Vec<_> = layers.iter().map(|image| image.id).collect();
    assert_eq!(machine.graph().await.unwrap().chain(disk.disk), Some(ids.as_slice()));
}
