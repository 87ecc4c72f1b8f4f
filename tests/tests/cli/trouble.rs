//! Failures: each kind has its code, and says what, why and what to do. Lost connections, Ctrl-C, events.

use crate::rig::{Cli, said};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    sync::mpsc,
    time::Duration,
};
use stillpoint_system_tests::{Proxy, Weather, tool};
use stillpoint_testkit::{Daemon, eventually};

pub(crate) fn failures(cli: &Cli) {
    let told = cli.ends(3, &["vm", "show", "nobody"]);
    assert!(
        told.contains("there is no VM \"nobody\"") && told.contains("stillpoint vm list"),
        "{told}"
    );
    for (wrong, right) in [
        (&["vm", "show", "bd1"][..], "did you mean \"db1\"?"),
        (&["disk", "show", "db1_disk"][..], "did you mean \"db1_disk1\"?"),
        (
            &["snapshot", "show", "db1", "befor upgrade"][..],
            "did you mean \"before upgrade\"",
        ),
    ] {
        let told = cli.ends(3, wrong);
        assert!(told.contains(right), "{told}");
    }
    let told = cli.ends(5, &["snapshot", "commit", "db1"]);
    assert!(told.contains("previews no snapshot"), "{told}");
    cli.text(&["snapshot", "create", "db1", "twin"]);
    cli.text(&["snapshot", "create", "db1", "twin"]);
    let told = cli.ends(3, &["snapshot", "show", "db1", "twin"]);
    assert!(
        told.contains("2 snapshots are named so") && told.matches("Z").count() >= 2,
        "{told}"
    );
    cli.text(&["vm", "start", "db1"]);
    cli.text(&["vm", "reboot", "db1"]);
    let told = cli.ends(5, &["snapshot", "restore", "db1", "before upgrade", "--yes"]);
    assert!(told.contains("was not restored") && told.contains("up"), "{told}");
    cli.ends_with(4, &["vm", "list"], |command| command.env("STILLPOINT_PASSWORD", "no"));
}

/// What is asked for with a yes is done, and waited for.
pub(crate) fn with_a_yes(cli: &Cli) {
    cli.text(&["snapshot", "delete", "db1", "after upgrade", "--yes"]);
    assert!(!cli.text(&["snapshot", "list", "db1"]).contains("after upgrade"));
    cli.text(&["vm", "stop", "db1", "-y"]);
    cli.text(&["snapshot", "restore", "db1", "before upgrade", "--yes"]);
    assert!(!cli.text(&["snapshot", "list", "db1"]).contains("twin"));
}

/// Events are told as they happen; Ctrl-C ends that.
pub(crate) fn events(cli: &Cli) {
    let mut watch = cli.command(&["event", "watch", "--vm", "db1", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let (heard, lines) = mpsc::channel();
    let out = BufReader::new(watch.stdout.take().unwrap());
    let reader = std::thread::spawn(move || out.lines().try_for_each(|line| heard.send(line.unwrap())));
    let told = || {
        cli.text(&["snapshot", "create", "db1", "heard"]);
        let line = lines.recv_timeout(Duration::from_secs(2)).ok();
        Ok(line.map(|line| serde_json::from_str::<Value>(&line).unwrap()))
    };
    let event = eventually(Duration::from_secs(60), "an event of a snapshot", told).unwrap();
    assert!(event["description"].as_str().unwrap().contains("heard"), "{event}");
    tool("kill", &["-INT", &watch.id().to_string()]).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(130));
    cli.note(&["event", "watch"]);
    drop(lines);
    assert!(reader.join().is_ok());
}

fn interrupt(mut child: Child) -> (Option<i32>, String) {
    tool("kill", &["-INT", &child.id().to_string()]).unwrap();
    let code = child.wait().unwrap().code();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    (code, told)
}

/// Ctrl-C while something is waited for: it is said what goes on, and how it is seen. A pipe that nobody reads ends a watch.
pub(crate) fn interrupted(cli: &Cli, daemon: &Daemon) {
    cli.text(&["vm", "create", "sitter", "--memory", "64M"]);
    cli.text(&["vm", "start", "sitter"]);
    // It sits in its firmware, and listens to nobody.
    let mut shutdown = cli.command(&["vm", "shutdown", "sitter"]);
    let shutdown = shutdown.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let admin = daemon.api("admin").unwrap();
    eventually(Duration::from_secs(60), "the shutdown to be asked for", || {
        let events = admin.events(0)?;
        let is_asked = |text: &str| text.contains("sitter") && text.to_lowercase().contains("shutdown");
        let told = events.iter().filter_map(|event| event.text_at("description"));
        Ok(told.into_iter().any(is_asked).then_some(()))
    })
    .unwrap();
    let (code, told) = interrupt(shutdown);
    assert_eq!(code, Some(130), "{told}");
    assert!(told.contains("stillpoint job list --correlation"), "{told}");
    let told = cli.ends(8, &["vm", "shutdown", "sitter", "--timeout", "0"]);
    assert!(told.contains("stillpoint vm stop sitter"), "{told}");
    cli.text(&["vm", "stop", "sitter", "--yes"]);
    cli.text(&["vm", "delete", "sitter", "--yes"]);
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", "stillpoint vm list --watch=1 | head -1; exit ${PIPESTATUS[0]}"]);
    let done = cli.prepare(bash).output().unwrap();
    assert!(
        done.status.success() && said(&done).starts_with("NAME"),
        "{}",
        said(&done)
    );
}

/// An answer that is lost: reads are asked again; a change is not sent twice, and it is said how to see whether it was carried
/// out.
pub(crate) fn lost(cli: &Cli, daemon: &Daemon) {
    let proxy = Proxy::to(daemon.url().strip_prefix("http://").unwrap()).unwrap();
    let run = |arguments: &[&str], limit: u64| {
        proxy.set(Weather::Breaks(limit));
        let mut command = cli.command(arguments);
        command
            .env("STILLPOINT_URL", proxy.url())
            .env_remove("STILLPOINT_PROJECT");
        let done = command.output().unwrap();
        proxy.set(Weather::Fair);
        (done.status.code(), said(&done))
    };
    // After so many bytes the login has been answered, and what follows has not.
    let found = (1..40).map(|step| step * 100).find(|limit| {
        let (code, told) = run(&["project", "create", &format!("lost-{limit}")], *limit);
        let is_lost = told.contains("whether it was carried out is not known");
        assert!(!is_lost || code == Some(6), "{told}");
        assert!(
            !is_lost || told.contains("look before it is sent again: stillpoint project list"),
            "{told}"
        );
        is_lost
    });
    let limit = found.expect("no number of bytes breaks the answer to a change");
    let all = cli.json(&["project", "list"]);
    let name = format!("lost-{limit}");
    let made = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|project| project["name"] == name.as_str());
    assert_eq!(made.count(), 1, "it was carried out, once: {all}");
    let broken = proxy.broken();
    let (code, told) = run(&["project", "list"], limit);
    assert_eq!((code, proxy.broken() > broken), (Some(0), true), "{told}");
    assert!(told.contains(&name), "{told}");
    // What is gone stays gone: a removal may be sent again.
    let (code, told) = run(&["project", "delete", &name, "--yes"], limit);
    assert_eq!(code, Some(0), "{told}");
    assert!(!cli.text(&["project", "list"]).contains(&name));
}
