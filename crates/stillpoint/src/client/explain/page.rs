//! The server's explanation as a page for people.

use crate::client::{
    shown::{Shown, lines, or_dash},
    size,
    table::Table,
};
use serde_json::Value;

/// Shows an explanation.
pub(super) fn shown(document: Value) -> Shown {
    let mut text = lines(&[
        (
            "what",
            Some(format!("{} {}", word(&document["kind"]), word(&document["name"]))),
        ),
        ("id", Some(word(&document["id"]))),
        ("status", Some(word(&document["status"]))),
        ("why", Some(texts(&document["why"]).join("\n        "))),
    ]);
    let mut part = |title: &str, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("\n\n{title}\n{body}"));
        }
    };
    part("differs from what is recorded", differences(&document));
    part("helps", remedies(&document));
    part("locked", locks(&document));
    for job in items(&document["jobs"]) {
        let since = moment(&job["started_at"]);
        let title = format!(
            "job {} ({}), {} since {since}",
            word(&job["id"]),
            word(&job["description"]),
            word(&job["state"])
        );
        part(&title, steps(job));
    }
    part("process", machine(&document["machine"]));
    for chain in items(&document["chains"]) {
        let title = format!("images of disk {}, base first", word(&chain["alias"]));
        part(&title, images(chain));
    }
    part("lately", events(&document));
    Shown::new(text, document)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn cell(value: &Value) -> String {
    or_dash(Some(&word(value)))
}

fn texts(value: &Value) -> Vec<String> {
    items(value).iter().map(word).collect()
}

/// An instant to the second.
fn moment(value: &Value) -> String {
    let Some(text) = value.as_str() else {
        return "-".to_owned();
    };
    text.parse::<jiff::Timestamp>().map_or_else(
        |_no_moment| text.to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

fn differences(document: &Value) -> String {
    let line = |difference: &Value| {
        let work = if difference["job_at_work"] == true {
            " (a job is at work on it)"
        } else {
            ""
        };
        let (kind, id) = (word(&difference["kind"]), word(&difference["id"]));
        format!("  {kind} {id}: {}{work}", word(&difference["text"]))
    };
    items(&document["differences"])
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

fn remedies(document: &Value) -> String {
    let line = |remedy: &Value| match remedy["command"].as_str() {
        Some(command) => format!("  {}\n    {command}", word(&remedy["text"])),
        None => format!("  {}", word(&remedy["text"])),
    };
    items(&document["remedies"])
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

fn locks(document: &Value) -> String {
    let locks = items(&document["locks"]);
    if locks.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["KIND", "ID", "MODE", "SINCE", "BY JOB"]);
    for lock in locks {
        table.row(vec![
            cell(&lock["kind"]),
            cell(&lock["id"]),
            cell(&lock["mode"]),
            moment(&lock["since"]),
            cell(&lock["job"]),
        ]);
    }
    table.text()
}

fn steps(job: &Value) -> String {
    let mut table = Table::new(&["STEP", "STATE", "PERCENT", "STARTED", "ENDED"]);
    for step in items(&job["steps"]) {
        table.row(vec![
            cell(&step["description"]),
            cell(&step["state"]),
            cell(&step["progress"]),
            moment(&step["started_at"]),
            moment(&step["ended_at"]),
        ]);
    }
    let mut text = table.text();
    if let Some(why) = job["failure"].as_str() {
        text.push_str(&format!("\nfailed: {why}"));
    }
    if let Some(reason) = job["waits"]["reason"].as_str() {
        text.push_str(&format!(
            "\ntried {} times in vain, last {}: {reason}",
            word(&job["waits"]["tries"]),
            moment(&job["waits"]["at"])
        ));
    }
    text
}

fn machine(machine: &Value) -> String {
    if machine.is_null() {
        return String::new();
    }
    let frozen = &machine["frozen"];
    lines(&[
        ("pid", Some(cell(&machine["process"]["pid"]))),
        (
            "monitor",
            Some(if machine["connected"] == true { "connected" } else { "-" }.to_owned()),
        ),
        ("doing", machine["run_state"].as_str().map(str::to_owned)),
        (
            "frozen",
            frozen["by"]
                .as_str()
                .map(|by| format!("{by}, until {}", moment(&frozen["until"]))),
        ),
        ("foreign", Some(texts(&machine["foreign_nodes"]).join(", "))),
        ("trouble", machine["trouble"].as_str().map(str::to_owned)),
    ])
}

fn images(chain: &Value) -> String {
    let mut table = Table::new(&["FILE", "SEEN", "FORMAT", "SIZE", "ON DISK", "STANDS ON", "HELD BY"]);
    for image in items(&chain["images"]) {
        let seen = &image["seen"];
        let bytes = |value: &Value| size::shown(value.as_u64());
        let mut held = texts(&image["snapshots"]).join(", ");
        if image["active"] == true {
            held = if held.is_empty() {
                "the disk".to_owned()
            } else {
                format!("the disk, {held}")
            };
        }
        table.row(vec![
            cell(&image["file"]),
            cell(&image["presence"]),
            cell(if seen.is_null() {
                &image["format"]
            } else {
                &seen["format"]
            }),
            bytes(if seen.is_null() {
                &image["size_bytes"]
            } else {
                &seen["size_bytes"]
            }),
            bytes(&seen["actual_bytes"]),
            cell(if seen.is_null() {
                &image["backing"]
            } else {
                &seen["backing"]
            }),
            or_dash(Some(&held)),
        ]);
    }
    let mut text = table.text();
    let recorded: Vec<String> = items(&chain["images"]).iter().map(|image| word(&image["id"])).collect();
    if chain["qemu"].is_array() {
        let is_same = texts(&chain["qemu"]) == recorded;
        text.push_str(if is_same {
            "\nQEMU has the same layers"
        } else {
            "\nQEMU has other layers: see above"
        });
    }
    text
}

fn events(document: &Value) -> String {
    let events = items(&document["events"]);
    if events.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["TIME", "SEVERITY", "CODE", "WHAT"]);
    for event in events.iter().rev() {
        table.row(vec![
            moment(&event["at"]),
            cell(&event["severity"]),
            cell(&event["code"]),
            cell(&event["text"]),
        ]);
    }
    table.text()
}
