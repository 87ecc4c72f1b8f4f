//! The Rust client crate against a real daemon, over HTTPS, with the daemon's own CA: services, faults, and bytes.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use bytes::Bytes;
use std::{
    io::{Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
    time::Duration,
};
use stillpoint_sdk::{
    CallOptions, Connection, Error, ExtentContext, GetOptions, ImageClient, ListOptions, RemoveOptions, by_id,
    types::{Disk, DiskAttachment, ImageTransfer, Snapshot, Vm},
};
use stillpoint_system_tests::sdk::{fetch_ca, images_asked};
use stillpoint_testkit::{Daemon, Password, binary};

const LONG: Duration = Duration::from_secs(180);
const SIZE: u64 = 8 << 20;

fn connect(daemon: &Daemon, ca: &Path, password: &str) -> Connection {
    let builder = Connection::builder(daemon.url()).user("admin@internal", password);
    builder.ca_file(ca).build().unwrap()
}

/// Asks again until there is an answer.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + LONG;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn id<T: stillpoint_sdk::types::Identified>(object: &T) -> String {
    object.head().id.clone().unwrap()
}

/// A VM with one disk, ready to be used.
async fn make_vm(connection: &Connection) -> (String, String) {
    let system = connection.system_service();
    let domains = system.storage_domains_service().list(ListOptions::new()).await.unwrap();
    let domain = domains
        .iter()
        .find(|domain| domain.kind.as_deref() == Some("data"))
        .unwrap();
    let mut disk = Disk {
        format: Some("cow".into()),
        provisioned_size: Some(SIZE),
        storage_domains: Some(vec![by_id(&id(domain))]),
        ..Disk::default()
    };
    disk.head.name = Some("db1_0".into());
    let disk = id(&system.disks_service().add(&disk, CallOptions::new()).await.unwrap());
    let service = system.disks_service().disk_service(&disk);
    let is_ok = async || (service.get(GetOptions::new()).await.unwrap().status.as_deref() == Some("ok")).then_some(());
    eventually("the disk", is_ok).await;
    let cluster = id(&system.clusters_service().list(ListOptions::new().max(1)).await.unwrap()[0]);
    let mut vm = Vm {
        cluster: Some(Box::new(by_id(&cluster))),
        template: Some(Box::new(by_id("00000000-0000-0000-0000-000000000000"))),
        ..Vm::default()
    };
    vm.head.name = Some("db1".into());
    let vm = id(&system.vms_service().add(&vm, CallOptions::new()).await.unwrap());
    let service = system.vms_service().vm_service(&vm);
    let is_down =
        async || (service.get(GetOptions::new()).await.unwrap().status.as_deref() == Some("down")).then_some(());
    eventually("the VM", is_down).await;
    let attachment = DiskAttachment {
        bootable: Some(true),
        interface: Some("virtio".into()),
        active: Some(true),
        disk: Some(Box::new(by_id(&disk))),
        ..DiskAttachment::default()
    };
    service
        .disk_attachments_service()
        .add(&attachment, CallOptions::new())
        .await
        .unwrap();
    (vm, disk)
}

/// Lets `work` have the bytes of a disk, through a transfer that ends well.
async fn with_image<T>(
    connection: &Connection,
    disk: &str,
    direction: &str,
    work: impl AsyncFnOnce(&ImageClient) -> T,
) -> T {
    let wanted = ImageTransfer {
        direction: Some(direction.into()),
        format: Some("raw".into()),
        disk: Some(Box::new(by_id(disk))),
        ..ImageTransfer::default()
    };
    let transfers = connection.system_service().image_transfers_service();
    let transfer = id(&transfers.add(&wanted, CallOptions::new()).await.unwrap());
    let service = transfers.image_transfer_service(&transfer);
    let url = eventually("the transfer", async || {
        let transfer = service.get(GetOptions::new()).await.unwrap();
        transfer
            .transfer_url
            .filter(|_| transfer.phase.as_deref() == Some("transferring"))
    })
    .await;
    let done = work(&connection.image_client(&url).unwrap()).await;
    service.finalize(CallOptions::new()).await.unwrap();
    eventually("the transfer's end", async || {
        let phase = service.get(GetOptions::new()).await.unwrap().phase;
        (phase.as_deref() == Some("finished_success")).then_some(())
    })
    .await;
    done
}

async fn read(image: &ImageClient, offset: u64, length: u64) -> Vec<u8> {
    let (mut body, mut read) = (image.read(offset, length).await.unwrap(), Vec::new());
    while let Some(bytes) = body.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_in_and_come_out_and_what_is_zero_is_known() {
    let daemon = tokio::task::spawn_blocking(|| Daemon::builder().args(["--tls", "auto"]).start().unwrap());
    let daemon = daemon.await.unwrap();
    let ca = fetch_ca(&daemon).unwrap();
    let connection = connect(&daemon, &ca, Password::of("admin").unwrap().0);
    let (vm, disk) = make_vm(&connection).await;
    with_image(&connection, &disk, "upload", async |image| {
        let features = image.features().await.unwrap();
        assert!(features.has("zero") && features.max_writers > 1, "{features:?}");
        image.write(1 << 20, Bytes::from(vec![7; 3 << 20])).await.unwrap();
        let pieces = (0..16).map(|number| Ok(Bytes::from(vec![number; 65_536])));
        let stream = futures_util::stream::iter(pieces.collect::<Vec<_>>());
        image.write_stream(5 << 20, 1 << 20, stream).await.unwrap();
        image.zero(2 << 20, 1 << 20).await.unwrap();
        image.flush().await.unwrap();
        // What is not within the disk is refused, and nothing of it is written.
        let refused = image.write(SIZE - 1, Bytes::from_static(b"xx")).await.unwrap_err();
        assert_eq!(refused.status(), Some(416), "{refused:?}");
    })
    .await;
    with_image(&connection, &disk, "download", async |image| {
        let mut expected = vec![0; usize::try_from(SIZE).unwrap()];
        expected[1 << 20..4 << 20].fill(7);
        expected[2 << 20..3 << 20].fill(0);
        for (number, piece) in (0..16).zip(expected[5 << 20..6 << 20].chunks_exact_mut(65_536)) {
            piece.fill(number);
        }
        let (one, two, three) = tokio::join!(
            read(image, 0, SIZE),
            read(image, (2 << 20) - 1, 2),
            read(image, SIZE - 512, 512),
        );
        assert!(one == expected && two == [7, 0] && three == [0; 512]);
        let (mut extents, mut data) = (image.extents(ExtentContext::Zero).await.unwrap(), Vec::new());
        while let Some(extent) = extents.next().await.unwrap() {
            data.extend((!extent.is_zero).then_some((extent.start >> 20, extent.length >> 20)));
        }
        assert_eq!(data, [(1, 1), (3, 1), (5, 1)], "in MiB");
        // This is no backup: what changed is not known, and is said so.
        let refused = image.extents(ExtentContext::Dirty).await.unwrap_err();
        assert!(matches!(refused, Error::NotFound(_)), "{refused:?}");
        let refused = image.read(0, SIZE + 1).await.unwrap_err();
        assert_eq!(refused.status(), Some(416));
    })
    .await;

    // The commands trust the same CA.
    let points = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary().unwrap());
    command
        .args(["backup", "run", &vm, "--at-rest", "--to"])
        .arg(points.path());
    command
        .env("STILLPOINT_URL", daemon.url())
        .env("STILLPOINT_PASSWORD", Password::of("admin").unwrap().0);
    let untrusted = command.output().unwrap();
    let said = String::from_utf8_lossy(&untrusted.stderr).into_owned();
    assert!(!untrusted.status.success() && said.contains("--ca-file"), "{said}");
    let done = command.env("STILLPOINT_CA", &ca).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    connection.close().await.unwrap();
    daemon.scan_log(&[]).unwrap();
}

/// What a unix socket answers, up to its end: status, and body.
fn ask_socket(name: &str, path: &str) -> (u16, String) {
    let address = SocketAddr::from_abstract_name(name.strip_prefix('\0').unwrap()).unwrap();
    let mut stream = UnixStream::connect_addr(&address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_for_this_host_go_over_the_unix_socket_and_over_tls_when_it_is_gone_or_somebody_elses() {
    let daemon = tokio::task::spawn_blocking(|| Daemon::builder().args(["--tls", "auto"]).start().unwrap());
    let mut daemon = daemon.await.unwrap();
    let connection = connect(&daemon, &fetch_ca(&daemon).unwrap(), Password::of("admin").unwrap().0);
    let (_, disk) = make_vm(&connection).await;
    with_image(&connection, &disk, "download", async |image| {
        let zeroes = vec![0; usize::try_from(SIZE).unwrap()];
        // Of the first answer it learns that the server is here; then it asks for the socket.
        for _ in 0..3 {
            assert!(read(image, 0, SIZE).await == zeroes);
        }
        let asked = || tokio::task::block_in_place(|| images_asked(&daemon).unwrap());
        assert_eq!(
            asked(),
            (2, 3),
            "a read and OPTIONS over TLS; OPTIONS and two reads over the socket"
        );
        let name = image.features().await.unwrap().unix_socket.unwrap();

        // Nothing but images is served there, and a ticket is asked for as anywhere.
        for path in [
            "/ovirt-engine/api",
            "/stillpoint/v1/healing",
            "/console/",
            "/health/ready",
            "/metrics",
            "/",
        ] {
            assert_eq!(ask_socket(&name, path), (404, String::new()), "{path}");
        }
        let nobodys = "/images/00000000-0000-4000-8000-000000000000";
        let nobody = connection.image_client(&format!("{}{nobodys}", daemon.url())).unwrap();
        let Error::Auth(refusal) = nobody.read(0, 1).await.unwrap_err() else {
            unreachable!("a ticket that nobody made")
        };
        assert_eq!(
            ask_socket(&name, nobodys),
            (refusal.status, refusal.detail.unwrap()),
            "as over TLS"
        );

        // The daemon dies, and another program takes the name that is free now.
        daemon.kill9().unwrap();
        let address = SocketAddr::from_abstract_name(name.strip_prefix('\0').unwrap()).unwrap();
        let squatter = UnixListener::bind_addr(&address).unwrap();
        tokio::task::block_in_place(|| daemon.restart().unwrap());
        for _ in 0..3 {
            assert!(read(image, 0, SIZE).await == zeroes);
        }
        let (mut visitor, _) = squatter.accept().unwrap();
        let mut heard = Vec::new();
        visitor.read_to_end(&mut heard).unwrap();
        assert!(
            heard.is_empty(),
            "the stranger heard {}",
            String::from_utf8_lossy(&heard)
        );
        let asked = tokio::task::block_in_place(|| images_asked(&daemon).unwrap());
        assert_eq!(
            asked,
            (3, 2),
            "two reads and OPTIONS over TLS; then OPTIONS and a read over the new socket"
        );
        let features = image.features().await.unwrap();
        assert_ne!(features.unix_socket.as_ref(), Some(&name));
    })
    .await;
    daemon.scan_log(&[]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_carries_status_reason_and_detail_and_what_never_got_there_is_told_apart() {
    let daemon = tokio::task::spawn_blocking(|| Daemon::builder().args(["--tls", "auto"]).start().unwrap());
    let daemon = daemon.await.unwrap();
    let ca = fetch_ca(&daemon).unwrap();
    let wrong = connect(&daemon, &ca, "wrong")
        .system_service()
        .get(GetOptions::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&wrong, Error::Auth(refusal) if refusal.reason.as_deref() == Some("access_denied")),
        "{wrong:?}"
    );
    let builder = Connection::builder(daemon.url()).user("admin@internal", "x");
    let stranger = builder
        .build()
        .unwrap()
        .system_service()
        .get(GetOptions::new())
        .await
        .unwrap_err();
    assert!(
        matches!(stranger, Error::Transport { .. }),
        "a CA that nobody knows: {stranger:?}"
    );

    let connection = connect(&daemon, &ca, Password::of("admin").unwrap().0);
    let (vm, _) = make_vm(&connection).await;
    let service = connection.system_service().vms_service().vm_service(&vm);
    let gone = service
        .snapshots_service()
        .snapshot_service("00000000-0000-4000-8000-000000000000");
    let Error::NotFound(refusal) = gone.get(GetOptions::new()).await.unwrap_err() else {
        unreachable!("a snapshot that nobody made")
    };
    assert_eq!(refusal.status, 404);
    assert!(refusal.reason.is_some() && refusal.detail.is_some(), "{refusal:?}");
    let nameless = service
        .snapshots_service()
        .add(&Snapshot::default(), CallOptions::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&nameless, Error::Refused(refusal) if refusal.status == 400 && refusal.detail.is_some()),
        "{nameless:?}"
    );

    // It takes connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let late = Connection::builder(format!("http://{}", silent.local_addr().unwrap()))
        .token("a token")
        .build()
        .unwrap()
        .system_service()
        .get(GetOptions::new().timeout(Duration::from_millis(50)))
        .await
        .unwrap_err();
    assert!(matches!(late, Error::Timeout { .. }) && late.is_transient(), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_sent_when_it_is_awaited_or_at_once_and_then_carried_out_unheard() {
    let daemon = tokio::task::spawn_blocking(|| Daemon::builder().args(["--tls", "auto"]).start().unwrap());
    let daemon = daemon.await.unwrap();
    let connection = connect(&daemon, &fetch_ca(&daemon).unwrap(), Password::of("admin").unwrap().0);
    let (vm, _) = make_vm(&connection).await;
    let service = connection.system_service().vms_service().vm_service(&vm);
    let mut snapshot = Snapshot::default();
    snapshot.base.head.description = Some("sent, and not waited for".into());
    drop(
        service
            .snapshots_service()
            .add(&snapshot, CallOptions::new().wait(false)),
    );
    let made = eventually("the snapshot that nobody waited for", async || {
        let list = service.snapshots_service().list(ListOptions::new()).await.unwrap();
        list.into_iter().find(|one| {
            one.base.head.description == snapshot.base.head.description && one.snapshot_status.as_deref() == Some("ok")
        })
    })
    .await;
    let href = made.base.head.href.clone().unwrap();
    assert!(matches!(
        connection.follow_href(&href),
        Ok(stillpoint_sdk::Service::Snapshot(_))
    ));
    // Sent when it is awaited, and not before.
    drop(service.remove(RemoveOptions::new()));
    let options = GetOptions::new()
        .follow("disk_attachments.disk")
        .header("Correlation-Id", "c1");
    let shown = service.get(options).await.unwrap();
    let disk = shown.disk_attachments.unwrap().remove(0).disk.unwrap();
    assert_eq!(disk.provisioned_size, Some(SIZE), "followed");
}
