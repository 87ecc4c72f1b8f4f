//! The guest agent's client against guests that misbehave. The peer here stands for the guest, which is untrusted.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use stillpoint_qemu::agent::{Agent, AgentError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

const LIMIT: Duration = Duration::from_millis(600);

/// One line of the client, without its 0xFF; `None` when it went away.
async fn heard(stream: &mut UnixStream) -> Option<Value> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => return Some(serde_json::from_slice(&line).unwrap()),
            Ok(0xff) => line.clear(),
            Ok(byte) => line.push(byte),
            Err(_) => return None,
        }
    }
}

/// A guest that runs `behave` for each connection, with its number.
fn guest<F>(behave: impl Fn(u32, UnixStream) -> F + Send + Sync + 'static) -> (Agent, tempfile::TempDir)
where
    F: Future<Output = ()> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            behave(number, stream).await;
        }
    });
    (Agent::new(path), dir)
}

async fn answer(stream: &mut UnixStream, result: Value) {
    let line = format!("{}\n", json!({"return": result}));
    let _gone = stream.write_all(line.as_bytes()).await;
}

async fn answer_sync(stream: &mut UnixStream, message: &Value) {
    let _gone = stream.write_all(&[0xff]).await;
    answer(stream, message["arguments"]["id"].clone()).await;
}

/// Answers properly until the client goes away.
async fn serve(stream: &mut UnixStream) {
    while let Some(message) = heard(stream).await {
        match message["execute"].as_str().unwrap() {
            "guest-sync-delimited" => answer_sync(stream, &message).await,
            "guest-fsfreeze-freeze" => answer(stream, json!(3)).await,
            "guest-fsfreeze-thaw" => answer(stream, json!(3)).await,
            "guest-fsfreeze-status" => answer(stream, json!("thawed")).await,
            _ => answer(stream, json!({})).await,
        }
    }
}

#[tokio::test]
async fn a_proper_agent_is_understood() {
    let (agent, _dir) = guest(|_, mut stream| async move { serve(&mut stream).await });
    agent.sync(LIMIT).await.unwrap();
    agent.ping(LIMIT).await.unwrap();
    assert_eq!(agent.freeze(LIMIT).await.unwrap(), 3);
    assert_eq!(agent.thaw(LIMIT).await.unwrap(), 3);
    assert!(!agent.is_frozen(LIMIT).await.unwrap());
    agent.shutdown(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_silent_guest_costs_the_deadline_and_no_more() {
    let (agent, _dir) = guest(|_, mut stream| async move { while heard(&mut stream).await.is_some() {} });
    let begun = Instant::now();
    assert!(matches!(agent.freeze(LIMIT).await, Err(AgentError::Timeout(_))));
    assert!(begun.elapsed() < LIMIT * 2);
    let (absent, _dir) = (Agent::new("/nonexistent/agent".into()), ());
    assert!(matches!(absent.ping(LIMIT).await, Err(AgentError::Disconnected(_))));
}

#[tokio::test]
async fn a_freeze_that_is_answered_too_late_does_not_answer_the_thaw() {
    // One connection, the same guest: it sleeps over the freeze and then answers everything in order.
    let (agent, _dir) = guest(|number, mut stream| async move {
        if number == 1 {
            let sync = heard(&mut stream).await.unwrap();
            answer_sync(&mut stream, &sync).await;
            let _freeze = heard(&mut stream).await;
            return; // the client gave up; the port carries the stale answer to the next one
        }
        answer(&mut stream, json!(77)).await;
        answer(&mut stream, json!({"half": "an answer"})).await;
        let _gone = stream.write_all(b"{\"return\": 9").await;
        serve(&mut stream).await;
    });
    let frozen = agent.freeze(LIMIT).await;
    assert!(frozen.is_err());
    assert_eq!(agent.thaw(LIMIT).await.unwrap(), 3, "not the stale 77");
}

#[tokio::test]
async fn garbage_before_the_synchronisation_is_thrown_away_and_a_flood_is_not_endless() {
    let (agent, _dir) = guest(|_, mut stream| async move {
        let sync = heard(&mut stream).await.unwrap();
        let mut garbage = vec![b'x'; 3 << 20];
        garbage.extend_from_slice(b"\n\xff{\"return\": 1}\n\xff\xff[[[[\n");
        let _gone = stream.write_all(&garbage).await;
        answer_sync(&mut stream, &sync).await;
        serve(&mut stream).await;
    });
    assert_eq!(agent.thaw(Duration::from_secs(10)).await.unwrap(), 3);
    let (agent, _dir) = guest(|_, mut stream| async move {
        let garbage = vec![b'x'; 1 << 20];
        while stream.write_all(&garbage).await.is_ok() {}
    });
    let begun = Instant::now();
    assert!(agent.thaw(Duration::from_secs(30)).await.is_err());
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "given up before the deadline"
    );
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors_and_the_next_call_is_in_step_again() {
    let senseless = [
        "{}",
        "[]",
        "null",
        "{\"return\": \"three\"}",
        "{\"return\": -1}",
        "{\"error\": 5}",
        "\u{1}",
        "",
    ];
    for (i, text) in senseless.into_iter().enumerate() {
        let (agent, _dir) = guest(move |number, mut stream| async move {
            if number > 1 {
                return serve(&mut stream).await;
            }
            let mut lied = false;
            while let Some(message) = heard(&mut stream).await {
                match message["execute"].as_str().unwrap() {
                    "guest-sync-delimited" => answer_sync(&mut stream, &message).await,
                    _ if lied => answer(&mut stream, json!(3)).await,
                    _ => {
                        lied = true;
                        let _gone = stream.write_all(format!("{text}\n").as_bytes()).await;
                    }
                }
            }
        });
        assert!(agent.freeze(LIMIT).await.is_err(), "{i}");
        assert_eq!(agent.thaw(LIMIT).await.unwrap(), 3, "{i}");
    }
}
