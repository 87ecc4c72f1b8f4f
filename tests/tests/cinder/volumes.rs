//! Volumes, what is done to them, and what the installation says of itself.

use super::*;

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
pub(super) fn volumes(cinder: &Cinder, checks: &mut Checks) {
    let add = |minor: u16, body: &Value| cinder.status(minor, "POST", "volumes", &json!({"volume": body}));
    checks.item("V141 V142 V148 V159 V160", || {
        let made = cinder
            .at(
                "alice",
                0,
                "POST",
                "volumes",
                &json!({"volume": {"size": "1", "name": "first"}}),
            )?
            .expect(&[202])?
            .json()?;
        let made = &made["volume"];
        ensure!(
            made["bootable"] == "false" && made["status"] == "creating" && made["size"] == 1,
            "{made}"
        );
        ensure!(made["links"].as_array().is_some_and(|links| links.len() == 2), "{made}");
        let id = made["id"].as_str().context("id")?.to_owned();
        let shown = cinder.wait("volume", &id, "available")?;
        for key in ["os-vol-host-attr:host", "migration_status"] {
            ensure!(shown.get(key).is_none(), "{key}: {shown}");
        }
        ensure!(shown["os-vol-tenant-attr:tenant_id"] == DEMO, "{shown}");
        let of_admin = cinder
            .at("admin", 0, "GET", &format!("volumes/{id}"), &Value::Null)?
            .json()?;
        let host = of_admin["volume"]["os-vol-host-attr:host"].as_str().context("a host")?;
        ensure!(host.ends_with("@qcow2#default") && host.len() > 14, "{host}");
        let listed = cinder.get("volumes?name=first")?;
        ensure!(keys(&listed["volumes"][0]) == ["id", "links", "name"], "{listed}");
        let sum = |minor| cinder.at("alice", minor, "GET", "volumes/summary?name=first", &Value::Null);
        ensure!(sum(11)?.status == 404);
        ensure!(sum(12)?.json()? == json!({"volume-summary": {"total_count": 1, "total_size": 1}}));
        ensure!(sum(36)?.json()?["volume-summary"]["metadata"] == json!({}));
        expect_each(
            [
                (json!({"size": 0}), 400),
                (json!({"size": -1}), 400),
                (json!({"size": 1.5}), 400),
                (json!({"size": "x"}), 400),
                (json!({}), 400),
            ],
            |body| add(0, body),
        )?;
        ensure!(cinder.status(2, "GET", "volumes?bootable=xx", &Value::Null)? == 400);
        Ok(())
    });
    checks.item("V143 V144 V145 V146 V147", || {
        let volume = cinder.make("volume", &json!({"size": 2}))?;
        let snapshot = cinder.make("snapshot", &json!({"volume_id": volume}))?;
        for (body, size) in [
            (json!({"snapshot_id": snapshot}), 2),
            (json!({"source_volid": volume}), 2),
            (json!({"snapshot_id": snapshot, "size": 3}), 3),
        ] {
            let id = cinder.make("volume", &body)?;
            let shown = cinder.get(&format!("volumes/{id}"))?;
            ensure!(shown["volume"]["size"] == size, "{body}: {shown}");
            for key in ["snapshot_id", "source_volid"] {
                ensure!(
                    shown["volume"][key] == *body.get(key).unwrap_or(&Value::Null),
                    "{shown}"
                );
            }
        }
        expect_each(
            [
                ((0, json!({"snapshot_id": snapshot, "size": 1})), 400),
                ((0, json!({"source_volid": volume, "size": 1})), 400),
                ((0, json!({"snapshot_id": NOBODY})), 404),
                ((0, json!({"source_volid": NOBODY})), 404),
                ((0, json!({"snapshot_id": snapshot, "source_volid": volume})), 400),
                ((0, json!({"size": 1, "volume_type": "nope"})), 404),
                ((0, json!({"size": 1, "availability_zone": "nope"})), 400),
                ((0, json!({"size": 1, "multiattach": true})), 400),
                ((0, json!({"size": 1, "imageRef": NOBODY})), 400),
                ((47, json!({"size": 1, "backup_id": NOBODY})), 404),
                ((53, json!({"size": 1, "bogus": 1})), 400),
                ((52, json!({"size": 1, "bogus": 1})), 202),
                (
                    (
                        0,
                        json!({"size": 1, "backup_id": null, "snapshot_id": null, "volume_type": null}),
                    ),
                    202,
                ),
            ],
            |(minor, body)| add(*minor, body),
        )?;
        cinder.reset("snapshot", &snapshot, "error")?;
        ensure!(add(0, &json!({"snapshot_id": snapshot}))? == 400);
        cinder.reset("snapshot", &snapshot, "available")?;
        Ok(())
    });
    checks.item("V149 V150 V157", || {
        let volume = cinder.make("volume", &json!({"size": 1}))?;
        cinder.make("snapshot", &json!({"volume_id": volume}))?;
        let path = format!("volumes/{volume}");
        ensure!(cinder.status(52, "PUT", &path, &json!({"volume": {}}))? == 200);
        ensure!(cinder.status(53, "PUT", &path, &json!({"volume": {}}))? == 400);
        ensure!(cinder.status(0, "DELETE", &path, &Value::Null)? == 400);
        ensure!(cinder.status(23, "DELETE", &format!("{path}?force=true"), &Value::Null)? == 403);
        ensure!(cinder.status(22, "DELETE", &format!("{path}?force=true"), &Value::Null)? == 400);
        ensure!(cinder.status(0, "DELETE", &format!("{path}?cascade=true"), &Value::Null)? == 202);
        cinder.wait_gone("volume", &volume)?;
        ensure!(cinder.get(&format!("snapshots?volume_id={volume}"))?["snapshots"] == json!([]));
        Ok(())
    });
    checks.item("V158", || {
        let volume = cinder.make("volume", &json!({"size": 1, "metadata": {"a": "1"}}))?;
        let path = format!("volumes/{volume}/metadata");
        let tag = cinder.at("alice", 15, "GET", &path, &Value::Null)?;
        let tag = tag.header("etag").context("no tag")?.to_owned();
        let (token, project) = cinder.tokens.get("alice").context("alice")?;
        let put = |value: &str| {
            let headers = [
                ("X-Auth-Token", token.as_str()),
                ("OpenStack-API-Version", "volume 3.15"),
                ("Content-Type", "application/json"),
                ("If-Match", tag.as_str()),
            ];
            let body = json!({"metadata": {"a": value}}).to_string();
            cinder.api.send(
                "PUT",
                &format!("/volume/v3/{project}/{path}"),
                &headers,
                Some(body.as_bytes()),
            )
        };
        put("2")?.expect(&[200])?;
        ensure!(put("3")?.expect(&[412])?.body.is_empty());
        Ok(())
    });
}

pub(super) fn volume_actions(cinder: &Cinder, checks: &mut Checks) -> Result<()> {
    let volume = cinder.make("volume", &json!({"size": 1}))?;
    let act = |minor: u16, action: Value| cinder.act("alice", minor, "volume", &volume, &action);
    let status = || -> Result<Value> { Ok(cinder.get(&format!("volumes/{volume}"))?["volume"]["status"].take()) };
    checks.item("V151", || {
        let extend = |minor: u16, size: i32| act(minor, json!({"os-extend": {"new_size": size}}));
        ensure!(extend(0, 1)? == 400 && extend(0, 0)? == 400);
        ensure!(extend(0, 2)? == 202);
        cinder.wait("volume", &volume, "available")?;
        ensure!(cinder.get(&format!("volumes/{volume}"))?["volume"]["size"] == 2);
        Ok(())
    });
    checks.item("V152 V153 V154", || {
        ensure!(act(0, json!({"os-reserve": null}))? == 202 && status()? == "attaching");
        ensure!(act(0, json!({"os-reserve": {}}))? == 400);
        ensure!(act(0, json!({"os-unreserve": null}))? == 202 && status()? == "available");
        ensure!(act(0, json!({"os-unreserve": null}))? == 202);
        ensure!(act(0, json!({"os-begin_detaching": null}))? == 400);
        ensure!(act(0, json!({"os-attach": {"mountpoint": "/dev/vdb"}}))? == 400);
        ensure!(
            act(
                0,
                json!({"os-attach": {"mountpoint": "/dev/vdb", "host_name": "elsewhere"}})
            )? == 202
        );
        let shown = cinder.get(&format!("volumes/{volume}"))?;
        let shown = &shown["volume"];
        ensure!(
            shown["status"] == "in-use" && shown["metadata"]["readonly"] == "False",
            "{shown}"
        );
        let attached = &shown["attachments"][0];
        ensure!(
            attached["server_id"].is_null() && attached["host_name"].is_null(),
            "{shown}"
        );
        ensure!(
            attached["device"] == "/dev/vdb" && attached["id"] == json!(volume),
            "{shown}"
        );
        ensure!(cinder.status(0, "DELETE", &format!("volumes/{volume}"), &Value::Null)? == 400);
        ensure!(act(0, json!({"os-begin_detaching": null}))? == 202 && status()? == "detaching");
        ensure!(act(0, json!({"os-roll_detaching": null}))? == 202 && status()? == "in-use");
        ensure!(act(0, json!({"os-detach": {"attachment_id": null}}))? == 202 && status()? == "available");
        Ok(())
    });
    checks.item("V155 V156", || {
        ensure!(act(0, json!({"os-set_bootable": {"bootable": true}}))? == 200);
        ensure!(cinder.get(&format!("volumes/{volume}"))?["volume"]["bootable"] == "true");
        for bad in ["in-use", "deleting", "bogus", "reverting"] {
            let action = json!({"os-reset_status": {"status": bad}});
            ensure!(cinder.act("admin", 0, "volume", &volume, &action)? == 400, "{bad}");
        }
        ensure!(act(0, json!({"os-reset_status": {"status": "error"}}))? == 403);
        ensure!(act(0, json!({"os-bogus": {}}))? == 400 && act(0, json!({}))? == 400);
        Ok(())
    });
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
pub(super) fn installation(cinder: &Cinder, checks: &mut Checks) {
    checks.item("V170", || {
        let used = || -> Result<(Value, Value)> {
            let limits = cinder.get("limits")?["limits"]["absolute"].take();
            let quota = cinder.get(&format!("os-quota-sets/{DEMO}?usage=true"))?["quota_set"].take();
            ensure!(
                limits["totalVolumesUsed"] == quota["volumes"]["in_use"],
                "{limits} {quota}"
            );
            ensure!(
                limits["totalGigabytesUsed"] == quota["gigabytes"]["in_use"],
                "{limits} {quota}"
            );
            ensure!(
                limits["totalSnapshotsUsed"] == quota["snapshots"]["in_use"],
                "{limits} {quota}"
            );
            Ok((limits["totalVolumesUsed"].clone(), limits["totalGigabytesUsed"].clone()))
        };
        let before = used()?;
        let volume = cinder.make("volume", &json!({"size": 3}))?;
        let more = |value: &Value, by: u64| value.as_u64().map(|value| value + by);
        let after = used()?;
        ensure!(
            after.0.as_u64() == more(&before.0, 1) && after.1.as_u64() == more(&before.1, 3),
            "{before:?} {after:?}"
        );
        ensure!(cinder.status(0, "DELETE", &format!("volumes/{volume}"), &Value::Null)? == 202);
        cinder.wait_gone("volume", &volume)?;
        ensure!(used()? == before);
        ensure!(cinder.status(0, "GET", &format!("os-quota-sets/{OTHER}"), &Value::Null)? == 404);
        Ok(())
    });
    checks.item("V171", || {
        ensure!(cinder.status(0, "GET", "types/default", &Value::Null)? == 200);
        ensure!(cinder.status(0, "GET", &format!("types/{NOBODY}"), &Value::Null)? == 404);
        let body = json!({"volume_type": {"name": "gold"}});
        ensure!(cinder.status(0, "POST", "types", &body)? == 403);
        for status in [200, 409] {
            cinder.at("admin", 0, "POST", "types", &body)?.expect(&[status])?;
        }
        Ok(())
    });
    checks.item("V172", || {
        let body = json!({"volume_type": {"name": "elsewhere", "extra_specs": {"vendor_name": "another"}}});
        cinder.at("admin", 0, "POST", "types", &body)?.expect(&[200])?;
        let body = json!({"volume": {"size": 1, "volume_type": "elsewhere"}});
        let made = cinder
            .at("alice", 0, "POST", "volumes", &body)?
            .expect(&[202])?
            .json()?;
        let id = made["volume"]["id"].as_str().context("id")?.to_owned();
        cinder.wait("volume", &id, "error")?;
        let messages = cinder
            .at("alice", 3, "GET", "messages", &Value::Null)?
            .expect(&[200])?
            .json()?;
        let found = messages["messages"]
            .as_array()
            .and_then(|all| all.iter().find(|message| message["resource_uuid"] == json!(id)))
            .with_context(|| format!("no message of {id}: {messages}"))?;
        ensure!(
            found["user_message"].as_str().is_some_and(|text| !text.is_empty()),
            "{found}"
        );
        ensure!(cinder.status(2, "GET", "messages", &Value::Null)? == 404);
        Ok(())
    });
    checks.item("administrators' pages", || {
        for path in ["os-services", "os-hosts", "scheduler-stats/get_pools?detail=true"] {
            ensure!(cinder.status(0, "GET", path, &Value::Null)? == 403, "{path}");
            cinder.at("admin", 0, "GET", path, &Value::Null)?.expect(&[200])?;
        }
        let services = cinder.at("admin", 0, "GET", "os-services", &Value::Null)?.json()?;
        ensure!(!services.to_string().contains("cinder-backup"), "{services}");
        Ok(())
    });
    backups(cinder, checks);
}

/// There is no service of them: what is asked for is accepted, and has failed.
fn backups(cinder: &Cinder, checks: &mut Checks) {
    let volume = cinder.make("volume", &json!({"size": 1}));
    checks.item("V161 V162 V165", || {
        let volume = volume.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        ensure!(cinder.get("backups/detail")? == json!({"backups": []}));
        let ask = |fields: Value| cinder.at("alice", 43, "POST", "backups", &json!({ "backup": fields }));
        for (fields, status) in [
            (json!({}), 400),
            (json!({"volume_id": NOBODY}), 404),
            (json!({"volume_id": volume, "bogus": 1}), 400),
            (json!({"volume_id": volume, "incremental": true}), 400),
            (json!({"volume_id": volume, "snapshot_id": NOBODY}), 404),
        ] {
            let answer = ask(fields.clone())?;
            ensure!(answer.status == status, "{fields}: {} {}", answer.status, answer.text());
        }
        let made = ask(json!({"volume_id": volume, "name": "b", "metadata": {"a": "b"}}))?
            .expect(&[202])?
            .json()?;
        let members = keys(&made["backup"]);
        ensure!(members == ["id", "links", "metadata", "name"], "{members:?}");
        let id = made["backup"]["id"].as_str().context("an id")?;
        let shown = cinder.get(&format!("backups/{id}"))?;
        ensure!(
            shown["backup"]["status"] == "error" && shown["backup"]["volume_id"] == volume.as_str(),
            "{shown}"
        );
        ensure!(
            shown["backup"]["fail_reason"]
                .as_str()
                .is_some_and(|why| !why.is_empty()),
            "{shown}"
        );
        ensure!(
            cinder.get("backups/detail")?["backups"]
                .as_array()
                .is_some_and(|all| all.len() == 1)
        );
        ensure!(cinder.get("limits")?["limits"]["absolute"]["totalBackupsUsed"] == 1);
        Ok(())
    });
    checks.item("V168", || {
        let all = cinder.get("backups")?;
        let path = format!("backups/{}", all["backups"][0]["id"].as_str().context("an id")?);
        let body = json!({"backup": {"name": "renamed"}});
        ensure!(cinder.status(8, "PUT", &path, &body)? == 404);
        ensure!(cinder.status(9, "PUT", &path, &body)? == 200);
        ensure!(cinder.get(&path)?["backup"]["name"] == "renamed");
        ensure!(cinder.at("mallory", 0, "GET", &path, &Value::Null)?.status == 404);
        ensure!(cinder.status(0, "DELETE", &path, &Value::Null)? == 202);
        ensure!(cinder.status(0, "GET", &path, &Value::Null)? == 404);
        Ok(())
    });
}
