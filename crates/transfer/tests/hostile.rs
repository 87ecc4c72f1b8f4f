//! Clients and servers that do what they should not: nobody gets bytes without a right, nothing hangs, and what was not
//! done is never called done.
#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod common;

use common::*;
use std::time::{Duration, Instant};
use stillpoint_engine::ports::{DataPlane as _, DriverErrorKind, Source};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn raw_disk(directory: &tempfile::TempDir, length: usize) -> (Source, Vec<u8>) {
    let (file, data) = (directory.path().join("disk.raw"), noise(3, length));
    tokio::fs::write(&file, &data).await.unwrap();
    (Source::Raw(file), data)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ranges_that_make_no_sense_are_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (source, _) = raw_disk(&directory, 8192).await;
    let plane = Plane::start().await;
    let id = plane.add(source, 8192, READ).await;
    let too_many = serde_json::json!({ "ranges": (0..4097).map(|n| (n, 1)).collect::<Vec<_>>() }).to_string();
    let (huge, endless) = (u64::MAX.to_string(), " ".repeat(300_000));
    for (message, status) in [
        ("", 400),
        ("[]", 400),
        ("{}", 400),
        (r#"{"ranges": []}"#, 400),
        (r#"{"ranges": [[0]]}"#, 400),
        (r#"{"ranges": [[-1, 1]]}"#, 400),
        (r#"{"ranges": [[0, 1]], "more": 1}"#, 400),
        (r#"{"ranges": [[0, 1], [0, 1]]}"#, 400),
        (r#"{"ranges": [[4096, 1], [0, 1]]}"#, 400),
        (r#"{"ranges": [[0, 100], [99, 1]]}"#, 400),
        (&too_many, 400),
        (&endless, 413),
        (r#"{"ranges": [[0, 0]]}"#, 416),
        (r#"{"ranges": [[0, 1], [8192, 1]]}"#, 416),
        (r#"{"ranges": [[8191, 2]]}"#, 416),
        (&format!("{{\"ranges\": [[{huge}, {huge}]]}}"), 416),
    ] {
        let refused = plane.ask("POST", &many(&id), &[], message.as_bytes()).await;
        let told: String = message.chars().take(60).collect();
        assert_eq!(refused.status, status, "{told}: {}", refused.text());
    }
    let good = br#"{"ranges": [[0, 1]]}"#;
    let other = stillpoint_engine::ports::TicketId(uuid::Uuid::new_v4());
    assert_eq!(plane.ask("POST", &many(&other), &[], good).await.status, 403);
    assert_eq!(plane.ask("GET", &many(&id), &[], b"").await.status, 405);
    for odd in [
        "/stillpoint/v1/images/x",
        "/stillpoint/v1/images/x/more",
        "/stillpoint/v1/images/a/b/read",
    ] {
        let refused = plane.ask("POST", odd, &[], good).await;
        assert!([403, 404].contains(&refused.status), "{odd}: {}", refused.status);
    }
    assert_eq!(plane.ask("POST", &many(&id), &[], good).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_ticket_and_the_right_there_is_nothing_to_get() {
    let directory = tempfile::tempdir().unwrap();
    let (source, _) = raw_disk(&directory, 8192).await;
    let plane = Plane::start().await;
    let read = plane.add(source.clone(), 8192, READ).await;
    let brief = plane
        .add_valid_for(source.clone(), 8192, READ, Duration::from_millis(300))
        .await;
    let other = stillpoint_engine::ports::TicketId(uuid::Uuid::new_v4());

    for method in ["GET", "OPTIONS"] {
        let refused = plane.ask(method, &path(&other), &[], b"").await;
        assert_eq!((refused.status, refused.headers["connection"].as_str()), (403, "close"));
        assert_eq!(refused.headers["content-type"], "text/plain; charset=UTF-8");
        assert!(refused.text().ends_with("No such ticket\n"), "{}", refused.text());
    }
    for wrong in ["PUT", "PATCH"] {
        let refused = plane.ask(wrong, &path(&read), &[], br#"{"op":"flush"}"#).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    // Other spellings of a ticket are not tickets; what is no ticket is told without a guess.
    let upper = path(&read).to_uppercase().replace("/IMAGES/", "/images/");
    assert_eq!(plane.ask("GET", &upper, &[], b"").await.status, 403);
    for odd in ["/images/..%2f..%2fetc%2fpasswd", "/images/%00", "/images/x"] {
        assert_eq!(plane.ask("GET", odd, &[], b"").await.status, 403, "{odd}");
    }
    assert_eq!(plane.ask("GET", "/images/", &[], b"").await.status, 400);
    assert_eq!(
        plane
            .ask("GET", &format!("{}/more", path(&read)), &[], b"")
            .await
            .status,
        404
    );

    tokio::time::sleep(Duration::from_millis(400)).await;
    let refused = plane.ask("GET", &path(&brief), &[], b"").await;
    assert_eq!((refused.status, refused.text().contains("expired")), (403, true));
    assert!(plane.transfer.status(&brief).await.unwrap().unwrap().expired);
    plane.transfer.extend(&brief, Duration::from_secs(60)).await.unwrap();
    assert_eq!(plane.ask("GET", &path(&brief), &[], b"").await.status, 200);
    plane.transfer.remove(&brief, Duration::from_secs(5)).await.unwrap();
    assert_eq!(plane.ask("GET", &path(&brief), &[], b"").await.status, 403);
    plane.transfer.remove(&brief, Duration::from_secs(5)).await.unwrap();
    assert_eq!(
        plane
            .transfer
            .extend(&brief, Duration::from_secs(1))
            .await
            .unwrap_err()
            .kind,
        DriverErrorKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_not_on_the_disk_is_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (source, data) = raw_disk(&directory, 10000).await;
    let plane = Plane::start().await;
    // The file is longer than what the ticket shows.
    let id = plane.add(source.clone(), 8192, READ).await;
    let max = u64::MAX.to_string();
    let ranges = [
        "bytes=8192-8192",
        "bytes=0-8192",
        "bytes=8192-",
        "bytes=-1",
        "bytes=0-0,2-3",
        "bytes=5-4",
        "bytes=x",
        &format!("bytes=0-{max}"),
        &format!("bytes={max}-{max}"),
        &format!("bytes={max}-"),
        &format!("bytes=0-{max}9"),
    ];
    for range in ranges {
        let refused = plane.ask("GET", &path(&id), &[("Range", range)], b"").await;
        assert_eq!(refused.status, 416, "{range}: {}", refused.text());
    }
    assert_eq!(plane.transferred(&id).await, 0);
    assert_eq!(plane.ask("GET", &path(&id), &[], b"").await.body, data[..8192]);

    let id = plane.add(source, 8192, WRITE).await;
    for (range, body, status) in [
        ("bytes 8190-8193/*", 4, 416),
        (&format!("bytes {max}-*/*"), 4, 416),
        ("bytes 0-9/*", 4, 400),
        ("bytes 0-2/*", 4, 400),
        ("bytes */8192", 4, 400),
        ("bytes 3-2/*", 4, 400),
    ] {
        let refused = plane
            .ask("PUT", &path(&id), &[("Content-Range", range)], &vec![1; body])
            .await;
        assert_eq!(refused.status, status, "{range}: {}", refused.text());
    }
    let messages = [
        r#"{"op":"zero","size":8193}"#.to_owned(),
        format!(r#"{{"op":"zero","size":1,"offset":{max}}}"#),
        format!(r#"{{"op":"zero","size":{max},"offset":{max}}}"#),
    ];
    for message in messages {
        assert_eq!(
            plane.ask("PATCH", &path(&id), &[], message.as_bytes()).await.status,
            416,
            "{message}"
        );
    }
    let long = vec![b' '; 100_000];
    assert_eq!(plane.ask("PATCH", &path(&id), &[], &long).await.status, 413);
    let chunked = [("Transfer-Encoding", "chunked")];
    let refused = plane.ask("PUT", &path(&id), &chunked, b"").await;
    assert_eq!((refused.status, refused.text().contains("Content-Length")), (400, true));
    assert_eq!(
        tokio::fs::read(directory.path().join("disk.raw")).await.unwrap(),
        data,
        "nothing was written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_not_called_written() {
    let directory = tempfile::tempdir().unwrap();
    let (source, _) = raw_disk(&directory, 8 << 20).await;
    let plane = Plane::start().await;
    let id = plane.add(source, 8 << 20, WRITE).await;
    let length = [("Content-Length", "5000000")];
    let mut stream = plane.send("PUT", &path(&id), &length, &vec![1; 2_000_000]).await;
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    drop(stream.read_to_end(&mut said).await);
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains(" 200 "), "{said}");
    assert!(said.is_empty() || said.contains(" 400 "), "{said}");
    // It ends by itself, and the ticket is still good.
    let begin = Instant::now();
    while plane.transfer.status(&id).await.unwrap().unwrap().running > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "the operation does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(plane.transferred(&id).await <= 2_000_000);
    assert_eq!(plane.put_range(&id, 0, &[7; 100]).await.status, 200);
    // What comes after a body is no part of it.
    let length = [("Content-Length", "4")];
    let answer = plane.ask("PUT", &path(&id), &length, &vec![9; 4096]).await;
    assert_eq!(answer.status, 200);
    let file = tokio::fs::read(directory.path().join("disk.raw")).await.unwrap();
    assert_eq!(file[..6], [9, 9, 9, 9, 7, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_or_reads_nothing_holds_no_ticket() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.qcow2");
    make_qcow2(&image, 256 * MIB);
    let nbd = Nbd::start(directory.path(), &image, &["--read-only"]).await;
    let plane = Plane::start().await;
    let id = plane.add(nbd.source(None), 256 * MIB, READ).await;
    let mut stream = plane.send("GET", &path(&id), &[], b"").await;
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    assert_eq!(plane.transfer.status(&id).await.unwrap().unwrap().running, 1);
    drop(stream);
    let begin = Instant::now();
    while plane.transfer.status(&id).await.unwrap().unwrap().running > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "the operation does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // This one stays, and does not read.
    let mut stuck = plane.send("GET", &path(&id), &[], b"").await;
    stuck.read_exact(&mut [0; 1000]).await.unwrap();
    let begin = Instant::now();
    plane.transfer.remove(&id, Duration::from_millis(500)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(500), "it gets its time");
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(plane.transfer.status(&id).await.unwrap(), None);
    let mut rest = Vec::new();
    drop(stuck.read_to_end(&mut rest).await);
    assert!(rest.len() < 200 << 20, "the answer breaks off: {} bytes", rest.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_removal_nothing_is_written_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (source, _) = raw_disk(&directory, 8 << 20).await;
    let plane = Plane::start().await;
    let id = plane.add(source, 8 << 20, WRITE).await;
    let length = [("Content-Length", "8388608")];
    let mut stream = plane.send("PUT", &path(&id), &length, &vec![1; 3 << 20]).await;
    let begin = Instant::now();
    while plane.transferred(&id).await < 2 << 20 {
        assert!(begin.elapsed() < Duration::from_secs(30), "it does not begin");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (transfer, other) = (plane.transfer.clone(), id.clone());
    let removing = tokio::spawn(async move { transfer.remove(&other, Duration::from_millis(500)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        plane.put_range(&id, 0, b"x").await.status,
        403,
        "refused while one is still running"
    );
    tokio::time::timeout(Duration::from_secs(30), removing)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let before = tokio::fs::read(directory.path().join("disk.raw")).await.unwrap();
    drop(stream.write_all(&vec![2; 5 << 20]).await);
    drop(stream.shutdown().await);
    drop(stream.read_to_end(&mut Vec::new()).await);
    assert!(
        tokio::fs::read(directory.path().join("disk.raw")).await.unwrap() == before,
        "the file changed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_server_died_unflushed_never_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.qcow2");
    make_qcow2(&image, 64 * MIB);
    let mut nbd = Nbd::start(directory.path(), &image, &[]).await;
    let plane = Plane::start().await;
    let id = plane.add(nbd.source(None), 64 * MIB, WRITE).await;
    let url = format!("{}?flush=n", path(&id));
    assert_eq!(plane.ask("PUT", &url, &[], &noise(1, 1 << 20)).await.status, 200);
    nbd.kill();
    let refused = plane.ask("PUT", &url, &[], &noise(1, 1 << 20)).await;
    assert_eq!(refused.status, 500, "{}", refused.text());
    assert!(plane.transfer.status(&id).await.unwrap().unwrap().failure.is_some());
    // The server is back, under the same name, but without what it had not flushed.
    tokio::fs::remove_file(&nbd.socket).await.unwrap();
    let again = Nbd::start(directory.path(), &image, &[]).await;
    tokio::fs::rename(&again.socket, &nbd.socket).await.unwrap();
    assert_eq!(plane.ask("PUT", &url, &[], &noise(1, 4096)).await.status, 200);
    assert_eq!(
        plane.ask("PATCH", &path(&id), &[], br#"{"op":"flush"}"#).await.status,
        500
    );
    for _ in 0..2 {
        assert_eq!(
            plane
                .transfer
                .remove(&id, Duration::from_secs(1))
                .await
                .unwrap_err()
                .kind,
            DriverErrorKind::Io
        );
    }
    assert_eq!(plane.ask("PUT", &url, &[], b"x").await.status, 403);
    // Whoever has given the upload up can be rid of it.
    plane.transfer.forget(&id).await.unwrap();
    assert_eq!(plane.transfer.status(&id).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_whose_server_died_breaks_off() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.qcow2");
    make_qcow2(&image, 256 * MIB);
    let mut nbd = Nbd::start(directory.path(), &image, &["--read-only"]).await;
    let plane = Plane::start().await;
    let id = plane.add(nbd.source(None), 256 * MIB, READ).await;
    let mut stream = plane.send("GET", &path(&id), &[], b"").await;
    stream.read_exact(&mut [0; 10]).await.unwrap();
    nbd.kill();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.len() < 256 << 20, "{} bytes", rest.len());
    let refused = plane.ask("GET", &path(&id), &[], b"").await;
    assert_eq!(refused.status, 500);
    assert!(
        !refused.text().contains(text(directory.path())),
        "no paths for clients: {}",
        refused.text()
    );
    plane.transfer.remove(&id, Duration::from_secs(1)).await.unwrap();
}
