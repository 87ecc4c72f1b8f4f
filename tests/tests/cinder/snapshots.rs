//! Snapshots: their bodies, their lists.

use super::*;

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
pub(super) fn snapshot_bodies(cinder: &Cinder, checks: &mut Checks) -> Result<()> {
    let volume = cinder.make("volume", &json!({"size": 1}))?;
    let asked = |body: Value| cinder.at("alice", 0, "POST", "snapshots", &json!({"snapshot": body}));
    let drop_all = || -> Result<()> {
        let all = cinder.get(&format!("snapshots?volume_id={volume}"))?;
        for id in ids(&all["snapshots"]) {
            cinder.wait("snapshot", id, "available")?;
            ensure!(cinder.status(0, "DELETE", &format!("snapshots/{id}"), &Value::Null)? == 202);
        }
        for id in ids(&all["snapshots"]) {
            cinder.wait_gone("snapshot", id)?;
        }
        Ok(())
    };
    checks.item("V41 V42 V43 V76 V95", || {
        let body = json!({"volume_id": volume, "name": "n", "description": "d", "metadata": {"a": "b"}});
        let made = asked(body)?.expect(&[202])?.json()?;
        let made = &made["snapshot"];
        let nine = [
            "created_at",
            "description",
            "id",
            "metadata",
            "name",
            "size",
            "status",
            "updated_at",
            "volume_id",
        ];
        ensure!(keys(made) == nine, "{made}");
        ensure!(made["status"] == "creating" && made["updated_at"].is_null(), "{made}");
        ensure!(
            made["name"] == "n" && made["description"] == "d" && made["metadata"] == json!({"a": "b"}),
            "{made}"
        );
        ensure!(made["size"] == 1 && is_instant(&made["created_at"]), "{made}");
        let shown = cinder.wait("snapshot", made["id"].as_str().context("id")?, "available")?;
        ensure!(keys(&shown).len() == 11, "{shown}");
        ensure!(shown["os-extended-snapshot-attributes:progress"] == "100%", "{shown}");
        ensure!(shown["os-extended-snapshot-attributes:project_id"] == DEMO, "{shown}");
        Ok(())
    });
    checks.item("V44 V45 V46 V47 V48 V49 V50 V56 V58", || {
        let long = "\u{fc}".repeat(255);
        for (body, field, wanted) in [
            (
                json!({"force": false, "name": null, "description": null, "metadata": {}}),
                "name",
                json!(null),
            ),
            (json!({"metadata": null}), "metadata", json!({})),
            (json!({"name": "  a  "}), "name", json!("a")),
            (json!({"name": ""}), "name", json!("")),
            (json!({"name": long}), "name", json!(long)),
            (json!({"description": long}), "description", json!(long)),
            (json!({"display_name": "x"}), "name", json!("x")),
            (json!({"force": "on"}), "name", json!(null)),
            (
                json!({"force": "f", "metadata": {"a/b": "1"}}),
                "metadata",
                json!({"a/b": "1"}),
            ),
        ] {
            let mut given = body.clone();
            given["volume_id"] = json!(volume);
            let made = asked(given)?.expect(&[202])?.json()?;
            ensure!(made["snapshot"][field] == wanted, "{body}: {made}");
        }
        drop_all()
    });
    checks.item("V51 V52 V53 V54 V55 V57 V59", || {
        let with = |more: Value| {
            let mut body = json!({"volume_id": volume});
            for (key, value) in more.as_object().into_iter().flatten() {
                body[key] = value.clone();
            }
            json!({"snapshot": body})
        };
        let long = "a".repeat(256);
        let mut beside = with(json!({}));
        beside["more"] = json!(1);
        expect_each(
            [
                (json!({}), 400),
                (json!([]), 400),
                (json!({"snapshot": null}), 400),
                (json!({"snapshot": {}}), 400),
                (with(json!({"size": 1})), 400),
                (beside, 400),
                (with(json!({"volume_id": "zzz"})), 400),
                (with(json!({"volume_id": NOBODY})), 404),
                (with(json!({"volume_id": null})), 404),
                (with(json!({"name": long})), 400),
                (with(json!({"name": 1})), 400),
                (with(json!({"description": long})), 400),
                (with(json!({"description": "a\nb"})), 400),
                (with(json!({"force": "maybe"})), 400),
                (with(json!({"force": 1})), 400),
                (with(json!({"force": null})), 400),
                (with(json!({"metadata": {"a": 1}})), 400),
                (with(json!({"metadata": {"a": null}})), 400),
                (with(json!({"metadata": {"": "1"}})), 400),
                (with(json!({"metadata": {long.as_str(): "1"}})), 400),
                (with(json!({"metadata": {"a": long}})), 400),
            ],
            |body| cinder.status(0, "POST", "snapshots", body),
        )?;
        let text = with(json!({})).to_string();
        expect_each(
            [
                (("application/json", "{bad"), 400),
                (("application/json", ""), 400),
                (("application/xml", text.as_str()), 415),
                (("text/plain", text.as_str()), 415),
                (("application/json; charset=utf-8", text.as_str()), 202),
            ],
            |(kind, body)| {
                Ok(cinder
                    .raw("alice", "", "POST", "snapshots", Some((kind, body.as_bytes())))?
                    .status)
            },
        )?;
        // Of another project.
        let foreign = cinder.at("mallory", 0, "POST", "snapshots", &with(json!({})))?;
        ensure!(foreign.status == 404, "{}", foreign.text());
        drop_all()
    });
    checks.item("V60 V61 V62 V63 V64 V65 V68", || {
        let snap = |minor: u16, force: Option<bool>| {
            let mut body = json!({"volume_id": volume});
            if let Some(force) = force {
                body["force"] = json!(force);
            }
            cinder.status(minor, "POST", "snapshots", &json!({"snapshot": body}))
        };
        ensure!(snap(66, Some(false))? == 400);
        let attach = json!({"os-attach": {"instance_uuid": NOBODY, "mountpoint": "/dev/vdb"}});
        ensure!(cinder.act("alice", 0, "volume", &volume, &attach)? == 202);
        expect_each(
            [
                ((0, None), 400),
                ((0, Some(true)), 202),
                ((65, None), 400),
                ((66, None), 202),
                ((66, Some(true)), 202),
                ((66, Some(false)), 400),
            ],
            |(minor, force)| snap(*minor, *force),
        )?;
        drop_all()?;
        ensure!(
            cinder.act(
                "alice",
                0,
                "volume",
                &volume,
                &json!({"os-detach": {"attachment_id": null}})
            )? == 202
        );
        for status in [
            "attaching",
            "creating",
            "extending",
            "error",
            "backing-up",
            "awaiting-transfer",
            "reserved",
            "maintenance",
        ] {
            cinder.reset("volume", &volume, status)?;
            expect_each([((0, Some(true)), 400), ((66, None), 400)], |(minor, force)| {
                snap(*minor, *force)
            })
            .with_context(|| status.to_owned())?;
        }
        cinder.reset("volume", &volume, "available")
    });
    checks.item("V69 V70", || {
        for (resource, limit) in [("snapshots", 0), ("gigabytes", 1)] {
            let limits = json!({"quota_set": {resource: limit}});
            cinder
                .at("admin", 0, "PUT", &format!("os-quota-sets/{DEMO}"), &limits)?
                .expect(&[200])?;
            let refused = asked(json!({"volume_id": volume}))?.expect(&[413])?;
            ensure!(refused.header("retry-after") == Some("0"));
            ensure!(refused.json()?["overLimit"]["retryAfter"] == "0", "{}", refused.text());
            ensure!(cinder.get("snapshots")?["snapshots"] == json!([]));
            cinder
                .at("admin", 0, "DELETE", &format!("os-quota-sets/{DEMO}"), &Value::Null)?
                .expect(&[200])?;
        }
        Ok(())
    });
    checks.item("V71", || {
        std::thread::scope(|scope| {
            let begun: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| asked(json!({"volume_id": volume}))?.expect(&[202])?.json()))
                .collect();
            for made in begun {
                let made = made.join().map_err(|_panic| anyhow::anyhow!("a thread"))??;
                cinder.wait("snapshot", made["snapshot"]["id"].as_str().context("id")?, "available")?;
            }
            Ok(())
        })
    });
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
pub(super) fn snapshot_lists(cinder: &Cinder, checks: &mut Checks) -> Result<()> {
    let volume = cinder.make("volume", &json!({"size": 1}))?;
    let made: Vec<String> = (1..=3)
        .map(|at| {
            let body = json!({"volume_id": volume, "name": format!("s{at}"), "metadata": {"a": at.to_string()}});
            cinder.make("snapshot", &body)
        })
        .collect::<Result<_>>()?;
    let newest_first: Vec<&str> = made.iter().rev().map(String::as_str).collect();
    let list = |user: &str, minor: u16, query: &str| {
        let path = format!("snapshots?volume_id={volume}&{query}");
        cinder.at(user, minor, "GET", &path, &Value::Null)
    };
    let listed = |minor: u16, query: &str| -> Result<Vec<String>> {
        let all = list("alice", minor, query)?.expect(&[200])?.json()?;
        Ok(ids(&all["snapshots"]).into_iter().map(str::to_owned).collect())
    };
    let statuses = |cases: &[(u16, &str, u16)]| {
        expect_each(
            cases.iter().map(|(minor, query, status)| ((*minor, *query), *status)),
            |(minor, query)| Ok(list("alice", *minor, query)?.status),
        )
    };
    checks.item("V74 V75 V84", || {
        for id in [NOBODY, "nope"] {
            let refused = cinder.at("alice", 0, "GET", &format!("snapshots/{id}"), &Value::Null)?;
            ensure!(refused.status == 404 && refused.json()?["itemNotFound"]["code"] == 404);
        }
        let all = list("alice", 0, "")?.expect(&[200])?.json()?;
        ensure!(ids(&all["snapshots"]) == newest_first, "{all}");
        ensure!(
            keys(&all["snapshots"][0]).len() == 9 && keys(&all) == ["snapshots"],
            "{all}"
        );
        Ok(())
    });
    checks.item("V77", || {
        for (minor, key) in [(14, "group_snapshot_id"), (41, "user_id"), (65, "consumes_quota")] {
            let path = format!("snapshots/{}", made[0]);
            let shown = |minor| -> Result<Value> {
                Ok(cinder.at("alice", minor, "GET", &path, &Value::Null)?.json()?["snapshot"].take())
            };
            ensure!(shown(minor)?.get(key).is_some(), "{key} at 3.{minor}");
            ensure!(shown(minor - 1)?.get(key).is_none(), "{key} before 3.{minor}");
        }
        Ok(())
    });
    checks.item("V78 V79", || {
        let mut seen = Vec::new();
        let mut path = format!("snapshots?volume_id={volume}&limit=1&offset=0");
        loop {
            let page = cinder.get(&path)?;
            seen.extend(ids(&page["snapshots"]).into_iter().map(str::to_owned));
            let Some(next) = page["snapshots_links"][0]["href"].as_str() else {
                break;
            };
            ensure!(next.contains("limit=1") && next.contains("marker="), "{next}");
            path = next
                .strip_prefix(&cinder.url)
                .context("a link to another place")?
                .to_owned();
        }
        ensure!(seen == newest_first, "{seen:?}");
        Ok(())
    });
    checks.item("V80 V81 V82 V83 V86 V87 V91 V93", || {
        ensure!(listed(0, "limit=0")?.is_empty());
        ensure!(listed(0, "offset=1")? == newest_first[1..]);
        statuses(&[
            (0, "limit=-1", 400),
            (0, "limit=x", 400),
            (0, "limit=5000", 200),
            (0, "offset=-1", 400),
            (0, "offset=x", 400),
            (0, "marker=nope", 404),
            (0, &format!("marker={NOBODY}"), 404),
            (0, "sort=id:asc&sort_key=id", 400),
            (0, "sort=created_at:up", 400),
            (0, "sort_key=bogus", 400),
            (0, "sort_key=status,id", 400),
            (29, "sort=name:asc", 400),
            (30, "sort=name:asc", 200),
            (0, "sort_key=display_name", 200),
            (30, "bogus=1", 200),
            (31, "bogus=1", 400),
            (45, "with_count=banana", 400),
        ])?;
        let of_admin = list("admin", 31, "bogus=1")?.expect(&[200])?.json()?;
        ensure!(of_admin["snapshots"] == json!([]), "{of_admin}");
        Ok(())
    });
    checks.item("V85 V88 V89 V90 V92", || {
        let oldest_first: Vec<&str> = made.iter().map(String::as_str).collect();
        ensure!(listed(0, "sort_key=created_at&sort_dir=asc")? == oldest_first);
        ensure!(listed(0, "sort=created_at:asc")? == oldest_first);
        ensure!(listed(0, "status=available")?.len() == 3 && listed(0, "status=error")?.is_empty());
        ensure!(listed(0, "name=s2")? == made[1..2] && listed(0, "name=s")?.is_empty());
        ensure!(listed(34, "name~=s")?.len() == 3 && listed(34, "name~=2")? == made[1..2]);
        statuses(&[(33, "name~=s", 400)])?;
        ensure!(listed(30, "name~=2")?.len() == 3);
        ensure!(listed(22, "metadata=%7B'a':%20'2'%7D")? == made[1..2]);
        ensure!(listed(21, "metadata=%7B'a':%20'2'%7D")?.len() == 3);
        let counted = list("alice", 45, "with_count=true&limit=1")?.json()?;
        ensure!(counted["count"] == 3, "{counted}");
        ensure!(list("alice", 44, "with_count=true")?.json()?.get("count").is_none());
        Ok(())
    });
    checks.item("V94", || {
        let asked = cinder
            .at(
                "mallory",
                0,
                "POST",
                "volumes",
                &json!({"volume": {"size": 1, "name": "foreign"}}),
            )?
            .expect(&[202])?;
        let id = asked.json()?["volume"]["id"].as_str().context("id")?.to_owned();
        let sees = |user: &str| -> Result<bool> {
            let all = cinder
                .at(user, 0, "GET", "volumes?all_tenants=1", &Value::Null)?
                .expect(&[200])?
                .json()?;
            Ok(ids(&all["volumes"]).contains(&id.as_str()))
        };
        ensure!(sees("admin")? && sees("mallory")? && !sees("alice")?);
        // Not there for others, whatever they want.
        for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/metadata")] {
            ensure!(
                cinder.status(0, method, &format!("volumes/{id}{path}"), &Value::Null)? == 404,
                "{method} {path}"
            );
        }
        Ok(())
    });
    Ok(())
}
