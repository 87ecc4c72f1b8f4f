//! The answers as JSON Schemas, for the OpenAPI document. All members are always there; what is not known is null.
//!
//! `document` writes what stands here; `tests/tests/native.rs` holds real answers against it.

use serde_json::{Map, Value, json};

/// An object with exactly these members.
fn object(members: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let members: Map<String, Value> = members
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({"type": "object", "required": names, "properties": members, "additionalProperties": false})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn id() -> Value {
    json!({"type": "string", "format": "uuid"})
}

fn moment() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn number() -> Value {
    json!({"type": "integer"})
}

fn truth() -> Value {
    json!({"type": "boolean"})
}

fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn list(of: Value) -> Value {
    Value::from_iter([("type", "array".into()), ("items", of)])
}

fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn or_null(schema: Value) -> Value {
    Value::from_iter([("anyOf", Value::Array(vec![schema, json!({"type": "null"})]))])
}

/// The schema of a route's answer, if it has one.
pub(crate) fn of_answer(route: &str) -> Option<Value> {
    match route {
        "root/get" => Some(named("Root")),
        "explain/get" => Some(named("Explanation")),
        "job/get" => Some(named("Job")),
        "healing/get" => Some(named("Healing")),
        "repair/list" => Some(named("Repairs")),
        "repair/start" => Some(named("Begun")),
        _ => None,
    }
}

/// All schemas, by name.
pub(crate) fn all() -> Value {
    let kind_and_id = object(&[("kind", text()), ("id", text())]);
    let id_and_name = object(&[("id", id()), ("name", text())]);
    let process = object(&[("pid", number()), ("start_ticks", number()), ("boot_id", text())]);
    let error = object(&[
        ("code", text()),
        ("message", text()),
        ("object", or_null(kind_and_id)),
        (
            "blocker",
            or_null(object(&[("job", id()), ("what", text()), ("since", moment())])),
        ),
        ("remedy", or_null(text())),
    ]);
    let event = object(&[
        ("index", number()),
        ("code", number()),
        ("severity", one_of(&["normal", "warning", "error", "alert"])),
        ("text", text()),
        ("at", moment()),
        ("correlation_id", or_null(text())),
        ("user", or_null(id_and_name.clone())),
        ("vm", or_null(id_and_name.clone())),
        ("disk", or_null(id_and_name)),
        ("origin", or_null(text())),
    ]);
    json!({
        "Error": object(&[("error", error)]),
        "Root": root(),
        "Event": event,
        "Job": job(),
        "Step": step(),
        "Healing": object(&[
            ("started_at", moment()),
            ("machines", list(object(&[
                ("vm", id()),
                ("name", text()),
                ("found", one_of(&["connected", "silent", "gone"])),
            ]))),
            ("jobs", list(named("Job"))),
            ("events", list(named("Event"))),
        ]),
        "Explanation": explanation(),
        "Repairs": repairs(),
        "Begun": object(&[("repair", object(&[("id", text()), ("job", id())]))]),
        "Machine": machine(&process),
        "Chain": object(&[
            ("disk", id()),
            ("alias", text()),
            ("images", list(named("Image"))),
            ("qemu", or_null(list(id()))),
        ]),
        "Image": image(),
    })
}

fn root() -> Value {
    let route = object(&[
        ("method", text()),
        ("path", text()),
        ("name", text()),
        ("access", one_of(&["public", "any_user", "read", "operate", "admin"])),
        ("about", text()),
    ]);
    object(&[
        ("name", text()),
        ("version", text()),
        ("openapi", text()),
        ("routes", list(route)),
    ])
}

fn job() -> Value {
    let waits = object(&[
        ("step", number()),
        ("tries", number()),
        ("reason", text()),
        ("at", moment()),
    ]);
    let states = ["queued", "running", "unwinding", "done", "undone", "stuck"];
    object(&[
        ("id", id()),
        ("kind", text()),
        ("description", text()),
        ("state", one_of(&states)),
        ("status", one_of(&["started", "finished", "failed"])),
        ("only_forward", truth()),
        ("progress", number()),
        ("vm", or_null(id())),
        ("owner", id()),
        ("correlation_id", text()),
        ("started_at", moment()),
        ("updated_at", moment()),
        ("ended_at", or_null(moment())),
        ("failure", or_null(text())),
        ("waits", or_null(waits)),
        ("steps", list(named("Step"))),
    ])
}

fn step() -> Value {
    object(&[
        ("id", id()),
        ("number", number()),
        ("name", text()),
        ("description", text()),
        ("state", one_of(&["pending", "started", "done", "failed", "undone"])),
        ("pivot", truth()),
        ("progress", number()),
        ("started_at", or_null(moment())),
        ("ended_at", or_null(moment())),
    ])
}

fn explanation() -> Value {
    let lock = object(&[
        ("kind", text()),
        ("id", text()),
        ("mode", one_of(&["exclusive", "shared"])),
        ("job", id()),
        ("what", text()),
        ("since", moment()),
    ]);
    let difference = object(&[
        ("kind", one_of(&["vm", "disk", "image"])),
        ("id", id()),
        ("text", text()),
        ("job_at_work", truth()),
    ]);
    let remedy = object(&[("text", text()), ("command", or_null(text()))]);
    object(&[
        ("kind", text()),
        ("id", id()),
        ("name", text()),
        ("project", id()),
        ("status", text()),
        ("why", list(text())),
        ("locks", list(lock)),
        ("jobs", list(named("Job"))),
        ("machine", or_null(named("Machine"))),
        ("chains", list(named("Chain"))),
        ("differences", list(difference)),
        ("remedies", list(remedy)),
        ("events", list(named("Event"))),
        ("at", moment()),
    ])
}

fn repairs() -> Value {
    let thing = object(&[("kind", text()), ("id", text()), ("name", text())]);
    let finding = object(&[
        ("id", text()),
        ("kind", text()),
        ("object", thing),
        ("seen", list(text())),
        ("recorded", list(text())),
        ("plan", list(text())),
        ("loses", list(text())),
        ("safe", truth()),
    ]);
    object(&[("repairs", list(finding))])
}

fn machine(process: &Value) -> Value {
    let states = [
        "running", "paused", "io_error", "crashed", "incoming", "shutdown", "other",
    ];
    let frozen = object(&[
        ("by", one_of(&["user", "unconfirmed_thaw"])),
        ("until", or_null(moment())),
    ]);
    object(&[
        ("vm", id()),
        ("recorded_process", or_null(process.clone())),
        ("process", or_null(process.clone())),
        ("alive", truth()),
        ("connected", truth()),
        ("run_state", or_null(one_of(&states))),
        ("frozen", or_null(frozen)),
        ("foreign_nodes", list(text())),
        ("trouble", or_null(text())),
    ])
}

fn image() -> Value {
    let bitmap = object(&[
        ("name", text()),
        ("granularity_bytes", number()),
        ("in_use", truth()),
        ("recording", truth()),
    ]);
    let format = one_of(&["cow", "raw"]);
    let seen = object(&[
        ("format", format.clone()),
        ("size_bytes", number()),
        ("actual_bytes", number()),
        ("backing", or_null(text())),
        ("bitmaps", list(bitmap)),
    ]);
    object(&[
        ("id", id()),
        ("file", text()),
        ("state", one_of(&["creating", "live", "doomed"])),
        ("format", format),
        ("size_bytes", number()),
        ("backing", or_null(text())),
        ("active", truth()),
        ("snapshots", list(id())),
        ("half_merged", truth()),
        ("presence", one_of(&["present", "missing", "unreadable"])),
        ("seen", or_null(seen)),
        ("trouble", or_null(text())),
    ])
}
