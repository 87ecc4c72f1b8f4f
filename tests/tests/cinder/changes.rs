//! Snapshots: what is changed of them, and what goes; volumes brought back to them.

use super::*;

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
pub(super) fn snapshot_changes(cinder: &Cinder, checks: &mut Checks) -> Result<()> {
    let volume = cinder.make("volume", &json!({"size": 1}))?;
    let snapshot = cinder.make("snapshot", &json!({"volume_id": volume}))?;
    let path = format!("snapshots/{snapshot}");
    checks.item("V97 V98", || {
        let changed = cinder.at("alice", 0, "PUT", &path, &json!({"snapshot": {"name": "new"}}))?;
        let changed = changed.expect(&[200])?.json()?;
        ensure!(
            keys(&changed["snapshot"]).len() == 9 && changed["snapshot"]["name"] == "new",
            "{changed}"
        );
        ensure!(is_instant(&changed["snapshot"]["updated_at"]), "{changed}");
        expect_each(
            [
                (json!({}), 400),
                (json!({"metadata": {}}), 400),
                (json!({"force": true}), 400),
            ],
            |body| cinder.status(0, "PUT", &path, &json!({"snapshot": body})),
        )?;
        let body = json!({"snapshot": {"name": "x"}});
        ensure!(cinder.status(0, "PUT", &format!("snapshots/{NOBODY}"), &body)? == 404);
        Ok(())
    });
    checks.item("V103 V104 V105 V106 V107", || {
        for (noun, id) in [("snapshot", &snapshot), ("volume", &volume)] {
            let of = format!("{noun}s/{id}/metadata");
            let steps = [
                (
                    "POST",
                    "",
                    json!({"metadata": {"a": "1", "b": "2"}}),
                    json!({"a": "1", "b": "2"}),
                ),
                ("POST", "", json!({"metadata": {"b": "3"}}), json!({"a": "1", "b": "3"})),
                ("PUT", "", json!({"metadata": {"c": "4"}}), json!({"c": "4"})),
                ("PUT", "/d", json!({"meta": {"d": "5"}}), json!({"c": "4", "d": "5"})),
                ("DELETE", "/c", Value::Null, json!({"d": "5"})),
                ("PUT", "", json!({"metadata": {}}), json!({})),
            ];
            for (method, item, body, wanted) in steps {
                let answer = cinder
                    .at("alice", 0, method, &format!("{of}{item}"), &body)?
                    .expect(&[200])?;
                ensure!(method != "DELETE" || answer.body.is_empty(), "{}", answer.text());
                ensure!(cinder.get(&of)?["metadata"] == wanted, "{noun} {method} {item}");
            }
            expect_each(
                [
                    (("GET", "/none", Value::Null), 404),
                    (("DELETE", "/none", Value::Null), 404),
                    (("PUT", "/a", json!({"meta": {"b": "1"}})), 400),
                    (("PUT", "/a", json!({"meta": {"a": "1", "b": "1"}})), 400),
                ],
                |(method, item, body)| cinder.status(0, method, &format!("{of}{item}"), body),
            )?;
            let is_volume = noun == "volume";
            let slash = json!({"metadata": {"a/b": "1"}});
            ensure!(cinder.status(0, "POST", &of, &slash)? == if is_volume { 200 } else { 400 });
            let more = json!({"metadata": {}, "more": 1});
            ensure!(cinder.status(0, "POST", &of, &more)? == if is_volume { 400 } else { 200 });
        }
        Ok(())
    });
    checks.item("V108 V110 V111", || {
        let reset =
            |user: &str, body: Value| cinder.act(user, 0, "snapshot", &snapshot, &json!({"os-reset_status": body}));
        ensure!(reset("alice", json!({"status": "error"}))? == 403);
        for bad in [json!({"status": "rollbacking"}), json!({})] {
            ensure!(reset("admin", bad.clone())? == 400, "{bad}");
        }
        ensure!(reset("admin", json!({"status": "creating"}))? == 202);
        let report = |status: &str| {
            let action = json!({"os-update_snapshot_status": {"status": status, "progress": "70%"}});
            cinder.act("alice", 0, "snapshot", &snapshot, &action)
        };
        ensure!(report("available")? == 202);
        let shown = cinder.wait("snapshot", &snapshot, "available")?;
        ensure!(shown["os-extended-snapshot-attributes:progress"] == "70%", "{shown}");
        cinder.reset("snapshot", &snapshot, "deleting")?;
        ensure!(report("available")? == 400);
        cinder.reset("snapshot", &snapshot, "available")?;
        ensure!(cinder.act("alice", 0, "snapshot", &snapshot, &json!({"os-bogus": {}}))? == 400);
        ensure!(cinder.act("alice", 0, "snapshot", &snapshot, &json!({}))? == 400);
        ensure!(cinder.act("admin", 0, "snapshot", NOBODY, &json!({"os-force_delete": {}}))? == 404);
        Ok(())
    });
    checks.item("V99 V100 V101 V109", || {
        let delete = |id: &str| cinder.at("alice", 0, "DELETE", &format!("snapshots/{id}"), &Value::Null);
        for status in ["creating", "deleting", "backing-up", "error_deleting"] {
            cinder.reset("snapshot", &snapshot, status)?;
            ensure!(delete(&snapshot)?.status == 400, "{status}");
        }
        cinder.reset("snapshot", &snapshot, "error")?;
        ensure!(delete(&snapshot)?.expect(&[202])?.body.is_empty());
        cinder.wait_gone("snapshot", &snapshot)?;
        for (status, value) in [("error_deleting", Value::Null), ("creating", json!({}))] {
            let id = cinder.make("snapshot", &json!({"volume_id": volume}))?;
            cinder.reset("snapshot", &id, status)?;
            ensure!(cinder.act("alice", 0, "snapshot", &id, &json!({"os-force_delete": value}))? == 403);
            ensure!(cinder.act("admin", 0, "snapshot", &id, &json!({"os-force_delete": value}))? == 202);
            cinder.wait_gone("snapshot", &id)?;
        }
        Ok(())
    });
    checks.item("V113 V114 V115 V116", || {
        let revert = |minor: u16, id: &Value| {
            cinder.act(
                "alice",
                minor,
                "volume",
                &volume,
                &json!({"revert": {"snapshot_id": id}}),
            )
        };
        ensure!(revert(40, &json!(NOBODY))? == 400, "no snapshots");
        let older = cinder.make("snapshot", &json!({"volume_id": volume}))?;
        let newest = cinder.make("snapshot", &json!({"volume_id": volume}))?;
        ensure!(revert(39, &json!(newest))? == 404);
        for bad in [json!(older), json!(NOBODY), Value::Null] {
            ensure!(revert(40, &bad)? == 400, "{bad}");
        }
        let attach = json!({"os-attach": {"instance_uuid": NOBODY, "mountpoint": "/dev/vdb"}});
        ensure!(cinder.act("alice", 0, "volume", &volume, &attach)? == 202);
        ensure!(revert(40, &json!(newest))? == 409);
        ensure!(cinder.act("alice", 0, "volume", &volume, &json!({"os-detach": {}}))? == 202);
        cinder.reset("snapshot", &newest, "restoring")?;
        ensure!(revert(40, &json!(newest))? == 409);
        ensure!(cinder.get(&format!("volumes/{volume}"))?["volume"]["status"] == "available");
        cinder.reset("snapshot", &newest, "available")?;
        ensure!(revert(40, &json!(newest))? == 202);
        cinder.wait("volume", &volume, "available")?;
        ensure!(cinder.act("alice", 0, "volume", &volume, &json!({"os-extend": {"new_size": 2}}))? == 202);
        cinder.wait("volume", &volume, "available")?;
        ensure!(revert(40, &json!(newest))? == 400, "extended since");
        Ok(())
    });
    Ok(())
}
