//! What is written is read back equal, in both encodings, for whatever values.

use proptest::{collection::vec, option, prelude::*};
use stillpoint_wire::{Date, Encoding, Limits, Wire, model::*, read, write};

fn text() -> impl Strategy<Value = Option<String>> {
    option::of("[ -~\t\n\réß漢😀]{0,12}")
}

/// Dates have milliseconds on the wire; the years are those of four digits.
fn date() -> impl Strategy<Value = Option<Date>> {
    option::of((-62_135_596_800_000_i64..253_402_300_800_000).prop_map(|millis| Date(millis * 1000)))
}

fn links() -> impl Strategy<Value = Vec<Link>> {
    vec((text(), text()).prop_map(|(href, rel)| Link { href, rel }), 0..3)
}

fn head() -> BoxedStrategy<Header> {
    (
        text(),
        text(),
        option::of(links()),
        text(),
        text(),
        text(),
        text(),
        links(),
    )
        .prop_map(
            |(href, id, actions, name, description, comment, creation_status, link)| Header {
                href,
                id,
                actions: actions.map(|link| Links { link }),
                name,
                description,
                comment,
                creation_status: creation_status.map(Into::into),
                link,
            },
        )
        .boxed()
}

fn disk() -> BoxedStrategy<Disk> {
    let sizes = (any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>());
    let words = (text(), text(), text(), text());
    let flags = (any::<Option<bool>>(), any::<Option<bool>>(), any::<Option<bool>>());
    (
        head(),
        sizes,
        words,
        flags,
        option::of(vec(head(), 0..3)),
        option::of(head()),
    )
        .prop_map(|(head, sizes, words, flags, domains, snapshot)| Disk {
            head,
            actual_size: sizes.0,
            provisioned_size: sizes.1,
            total_size: sizes.2,
            alias: words.0,
            format: words.1,
            image_id: words.2,
            status: words.3.map(Into::into),
            active: flags.0,
            sparse: flags.1,
            wipe_after_delete: flags.2,
            storage_domains: domains.map(|heads| {
                heads
                    .into_iter()
                    .map(|head| StorageDomain {
                        head,
                        ..StorageDomain::default()
                    })
                    .collect()
            }),
            snapshot: snapshot.map(|head| {
                Box::new(Snapshot {
                    base: Vm { head, ..Vm::default() },
                    ..Snapshot::default()
                })
            }),
            ..Disk::default()
        })
        .boxed()
}

fn attachment() -> BoxedStrategy<DiskAttachment> {
    (head(), text(), any::<Option<bool>>(), option::of(disk()))
        .prop_map(|(head, interface, bootable, disk)| DiskAttachment {
            head,
            interface,
            bootable,
            disk: disk.map(Box::new),
            ..DiskAttachment::default()
        })
        .boxed()
}

fn vm() -> BoxedStrategy<Box<Vm>> {
    let cores = option::of(
        (any::<Option<i32>>(), any::<Option<i32>>()).prop_map(|(cores, sockets)| Cpu {
            topology: Some(CpuTopology {
                cores,
                sockets,
                threads: None,
            }),
            ..Cpu::default()
        }),
    );
    let os = option::of(
        (text(), vec("[a-z]{1,4}", 0..3)).prop_map(|(cmdline, device)| OperatingSystem {
            boot: Some(Boot {
                devices: Some(BootDevices { device }),
            }),
            cmdline,
            ..OperatingSystem::default()
        }),
    );
    let ovf = option::of(text().prop_map(|data| Initialization {
        configuration: Some(Configuration {
            data,
            kind: Some("ovf".into()),
        }),
    }));
    let plain = (
        text(),
        text(),
        any::<Option<u64>>(),
        any::<Option<bool>>(),
        date(),
        date(),
    );
    let lists = (
        option::of(vec(attachment(), 0..3)),
        option::of(vec(head(), 0..3)),
        option::of(head()),
    );
    (head(), cores, os, ovf, plain, lists)
        .prop_map(|(head, cpu, os, initialization, plain, lists)| {
            Box::new(Vm {
                head,
                cpu,
                os,
                initialization,
                status: plain.0.map(Into::into),
                kind: plain.1,
                memory: plain.2,
                run_once: plain.3,
                creation_time: plain.4,
                stop_time: plain.5,
                disk_attachments: lists.0,
                nics: lists
                    .1
                    .map(|heads| heads.into_iter().map(|head| Nic { head, ..Nic::default() }).collect()),
                cluster: lists.2.map(|head| {
                    Box::new(Cluster {
                        head,
                        ..Cluster::default()
                    })
                }),
                ..Vm::default()
            })
        })
        .boxed()
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (
        vm(),
        date(),
        any::<Option<bool>>(),
        text(),
        option::of(vm()),
        option::of(vec(disk(), 0..3)),
    )
        .prop_map(|(base, date, persist_memorystate, snapshot_type, vm, disks)| Snapshot {
            base: *base,
            date,
            persist_memorystate,
            snapshot_type,
            vm,
            disks,
            ..Snapshot::default()
        })
}

fn check<T: Wire + PartialEq + std::fmt::Debug>(value: &T) -> Result<(), TestCaseError> {
    for encoding in [Encoding::Xml, Encoding::Json] {
        let text = write(value, encoding);
        let got = read::<T>(text.as_bytes(), encoding, &Limits::default());
        let got = got.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(got.unknown, 0, "{}", text);
        prop_assert_eq!(&got.value, value, "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_comes_back_equal(value in disk()) {
        check(&value)?;
    }

    #[test]
    fn a_vm_comes_back_equal(value in vm()) {
        check(&*value)?;
    }

    #[test]
    fn a_snapshot_comes_back_equal(value in snapshot()) {
        check(&value)?;
    }
}
