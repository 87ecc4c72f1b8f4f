//! NBD servers that lie. A server is another process, maybe taken over by its guest: whatever it sends, a client must get an
//! error in time, and never bytes that the server did not send.
#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod common;

use common::*;
use std::time::Duration;
use stillpoint_engine::ports::{DataPlane as _, DriverErrorKind, Source};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

/// Bytes that are sent once a read of 64 KiB at 0 has come, after the magic and the cookie are put in.
type Lie = fn(cookie: [u8; 8]) -> Vec<u8>;

const OPTION_REPLY: [u8; 8] = 0x0003_e889_0455_65a9_u64.to_be_bytes();

fn option_reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut reply = OPTION_REPLY.to_vec();
    reply.extend(option.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    reply.extend(data);
    reply
}

fn chunk(flags: u16, kind: u16, cookie: [u8; 8], length: u32, payload: &[u8]) -> Vec<u8> {
    let mut chunk = 0x668e_33ef_u32.to_be_bytes().to_vec();
    chunk.extend(flags.to_be_bytes());
    chunk.extend(kind.to_be_bytes());
    chunk.extend(cookie);
    chunk.extend(length.to_be_bytes());
    chunk.extend(payload);
    chunk
}

fn data(flags: u16, cookie: [u8; 8], offset: u64, length: usize) -> Vec<u8> {
    let mut payload = offset.to_be_bytes().to_vec();
    payload.extend(vec![0x77; length]);
    chunk(flags, 1, cookie, u32::try_from(payload.len()).unwrap(), &payload)
}

fn hole(flags: u16, cookie: [u8; 8], offset: u64, length: u32) -> Vec<u8> {
    let mut payload = offset.to_be_bytes().to_vec();
    payload.extend(length.to_be_bytes());
    chunk(flags, 2, cookie, 12, &payload)
}

/// An honest handshake for an export of 64 KiB, then a lie.
async fn lie(mut stream: UnixStream, lie: Lie) -> std::io::Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\x00\x03").await?;
    stream.read_u32().await?;
    loop {
        stream.read_u64().await?;
        let option = stream.read_u32().await?;
        let mut said = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut said).await?;
        if option == 7 {
            let mut info = 0_u16.to_be_bytes().to_vec();
            info.extend(65536_u64.to_be_bytes());
            info.extend(0b111_u16.to_be_bytes());
            stream.write_all(&option_reply(7, 3, &info)).await?;
            stream.write_all(&option_reply(7, 1, b"")).await?;
            break;
        }
        if option == 10 {
            let mut context = 5_u32.to_be_bytes().to_vec();
            context.extend(b"base:allocation");
            stream.write_all(&option_reply(10, 4, &context)).await?;
        }
        stream.write_all(&option_reply(option, 1, b"")).await?;
    }
    loop {
        let mut request = [0; 28];
        stream.read_exact(&mut request).await?;
        let cookie = request[8..16].try_into().unwrap();
        stream.write_all(&lie(cookie)).await?;
    }
}

async fn liar(directory: &tempfile::TempDir, how: Lie) -> Source {
    let socket = directory.path().join(format!("{}.sock", uuid::Uuid::new_v4().simple()));
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(lie(stream, how));
        }
    });
    Source::Nbd {
        socket,
        export: "disk".into(),
        dirty_context: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_a_server_did_not_send_whole_are_never_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start().await;
    let honest: Lie = |cookie| [data(0, cookie, 4096, 61440), hole(1, cookie, 0, 4096)].concat();
    let id = plane.add(liar(&directory, honest).await, 65536, READ).await;
    let answer = plane.get_range(&id, 0, 65536).await;
    assert_eq!(answer.status, 206, "the liar can be honest");
    assert!(answer.body[..4096].iter().all(|byte| *byte == 0) && answer.body[4096..].iter().all(|byte| *byte == 0x77));

    let lies: [(&str, Lie); 14] = [
        ("a gap", |cookie| data(1, cookie, 0, 65535)),
        ("no data", |cookie| chunk(1, 0, cookie, 0, b"")),
        ("twice", |cookie| {
            [data(0, cookie, 0, 65536), data(1, cookie, 0, 65536)].concat()
        }),
        ("overlap", |cookie| {
            [data(0, cookie, 0, 40000), hole(1, cookie, 30000, 35536)].concat()
        }),
        ("beyond", |cookie| data(1, cookie, 1, 65536)),
        ("far beyond", |cookie| hole(1, cookie, u64::MAX, u32::MAX)),
        ("an empty hole", |cookie| {
            [hole(0, cookie, 0, 0), data(1, cookie, 0, 65536)].concat()
        }),
        ("a huge length", |cookie| chunk(1, 1, cookie, u32::MAX, &[0; 8])),
        ("half a head", |cookie| chunk(1, 1, cookie, 3, b"abc")),
        ("another's cookie", |_| data(1, [9; 8], 0, 65536)),
        ("a huge error", |cookie| chunk(1, 0x8001, cookie, u32::MAX, b"")),
        ("an error without one", |cookie| chunk(1, 0x8001, cookie, 6, &[0; 6])),
        ("an error in short", |cookie| {
            chunk(1, 0x8001, cookie, 6, &[0, 0, 0, 5, 255, 255])
        }),
        ("noise", |_| vec![0x55; 100]),
    ];
    for (name, how) in lies {
        let id = plane.add(liar(&directory, how).await, 65536, READ).await;
        let asking = plane.get_range(&id, 0, 65536);
        let answer = tokio::time::timeout(Duration::from_secs(30), asking).await.expect(name);
        assert_eq!(answer.status, 500, "{name}");
        plane.transfer.remove(&id, Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extents_that_make_no_sense_end_in_an_error() {
    fn status(cookie: [u8; 8], context: u32, extents: &[(u32, u32)]) -> Vec<u8> {
        let mut payload = context.to_be_bytes().to_vec();
        for (length, flags) in extents {
            payload.extend(length.to_be_bytes());
            payload.extend(flags.to_be_bytes());
        }
        chunk(1, 5, cookie, u32::try_from(payload.len()).unwrap(), &payload)
    }
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start().await;
    // Longer than the disk: cut, as the protocol allows it for the last one.
    let id = plane
        .add(
            liar(&directory, |cookie| status(cookie, 5, &[(u32::MAX, 3)])).await,
            65536,
            READ,
        )
        .await;
    let extents = plane.extents(&id, "zero").await;
    assert_eq!((extents.len(), &extents[0]["length"]), (1, &65536.into()));

    let lies: [(&str, Lie); 5] = [
        ("an empty extent", |cookie| status(cookie, 5, &[(0, 0)])),
        ("none", |cookie| status(cookie, 5, &[])),
        ("another context", |cookie| status(cookie, 6, &[(65536, 0)])),
        ("half an extent", |cookie| {
            chunk(1, 5, cookie, 7, &[0, 0, 0, 5, 1, 2, 3])
        }),
        ("nothing", |cookie| chunk(1, 0, cookie, 0, b"")),
    ];
    for (name, how) in lies {
        let id = plane.add(liar(&directory, how).await, 65536, READ).await;
        let answer = plane.ask("GET", &format!("{}/extents", path(&id)), &[], b"").await;
        assert_eq!(answer.status, 500, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_none_gets_no_ticket() {
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start().await;
    let greetings: [&'static [u8]; 5] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n0123456789",
        b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\x00\x00",
        b"NBDMAGICIHAVEOPT\x00\x00",
        b"NBDMAGICIHAVEOPT\x00\x03\x00\x03\xe8\x89\x04\x55\x65\xa9\x00\x00\x00\x08\x00\x00\x00\x01\xff\xff\xff\xff",
    ];
    for (n, greeting) in greetings.into_iter().enumerate() {
        let socket = directory.path().join(format!("{n}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                drop(stream.write_all(greeting).await);
                // Read what comes, so that only the greeting is at fault.
                drop(stream.read(&mut [0; 100]).await);
            }
        });
        let source = Source::Nbd {
            socket,
            export: "disk".into(),
            dirty_context: None,
        };
        let refused = plane
            .transfer
            .add(ticket(source, 1, READ, Duration::from_secs(60)))
            .await
            .unwrap_err();
        // Silence ends after the time that opening may take.
        let kinds = [
            DriverErrorKind::Protocol,
            DriverErrorKind::Disconnected,
            DriverErrorKind::Timeout,
        ];
        assert!(kinds.contains(&refused.kind), "{n}: {refused:?}");
    }
}
