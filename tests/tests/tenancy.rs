//! Who may do what with volumes: every route of the volume dialects, from their own table, asked by everybody who should
//! not be let in, with the project and the things of somebody else.
//!
//! The oVirt dialects have the same matrix in `authorisation/`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillpoint_api_volume::{Access, Family, Route, routes};
use stillpoint_system_tests::{tool, volume::Volumes};
use stillpoint_testkit::{Answer, Daemon};

/// What somebody else has, and nobody must hear of.
struct Theirs {
    project: String,
    volume: String,
    snapshot: String,
}

impl Theirs {
    fn furnish(of: &Volumes) -> Result<Self> {
        let metadata = json!({"unheard-key": "unheard-value"});
        let volume = json!({"size": 1, "name": "unheard-volume", "metadata": metadata});
        let volume = of.create("volume", &volume)?;
        let snapshot = json!({"volume_id": volume, "name": "unheard-snapshot", "metadata": metadata});
        Ok(Self {
            project: of.project.clone(),
            snapshot: of.create("snapshot", &snapshot)?,
            volume,
        })
    }

    /// The segment that a client gives after that fixed one.
    fn segment(&self, before: &str) -> &str {
        match before {
            "volumes" | "cloudvolumes" => &self.volume,
            "snapshots" | "cloudsnapshots" | "os-vendor-snapshots" => &self.snapshot,
            "metadata" => "unheard-key",
            "os-quota-sets" | "projects" => &self.project,
            _ => "5aa119a8-d25b-45a7-8d1b-88e127885635",
        }
    }

    fn path(&self, route: &Route, project: &str) -> String {
        let mut path = route.family.root().to_owned();
        let mut before = "";
        for part in route.pattern.split('/').filter(|part| !part.is_empty()) {
            path.push('/');
            path += match part {
                "{project}" => project,
                given if given.starts_with('{') => self.segment(before),
                fixed => fixed,
            };
            before = part;
        }
        path
    }

    fn is_silent(&self, answer: &Answer, asked: &str) -> Result<()> {
        let (text, headers) = (answer.text(), format!("{:?}", answer.headers));
        for secret in [self.project.as_str(), &self.volume, &self.snapshot, "unheard"] {
            // What the client said itself is no secret.
            let told = (text.contains(secret) || headers.contains(secret)) && !asked.contains(secret);
            ensure!(!told, "{asked} tells {secret}: {} {text}", answer.status);
        }
        Ok(())
    }
}

fn body(route: &Route) -> Option<Value> {
    (route.method == "POST" || route.method == "PUT").then(|| json!({}))
}

/// The volume dialects' routes; those of users and projects have a test of their own.
fn matrix() -> Vec<&'static Route> {
    routes()
        .filter(|route| route.family != Family::Identity && route.access != Access::Public)
        .collect()
}

fn expect(asked: &str, answer: &Answer, good: &[u16]) -> Result<()> {
    ensure!(
        good.contains(&answer.status),
        "{asked}: {good:?} expected: {} {}",
        answer.status,
        answer.text()
    );
    Ok(())
}

/// What a project has, as its own member sees it.
fn state(of: &Volumes) -> Result<[Value; 2]> {
    Ok([of.get("volumes/detail")?, of.get("snapshots/detail")?])
}

/// Ends every token that there is, as twelve hours do.
fn age(daemon: &mut Daemon) -> Result<()> {
    daemon.stop()?;
    let database = daemon.data_dir().join("stillpoint.db");
    let script = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as db:\n    \
                  assert db.execute('UPDATE scoped_token SET expires_at = 1').rowcount > 0";
    tool("python3", &["-c", script, database.to_str().context("a path")?])?;
    daemon.restart()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one daemon, and everybody who asks it")]
fn no_route_of_the_volume_dialects_lets_anybody_in_who_should_not_be() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let (alice, bob) = (
        Volumes::login(&daemon, "alice", "demo")?,
        Volumes::login(&daemon, "bob", "demo")?,
    );
    let (mallory, revoked) = (
        Volumes::login(&daemon, "mallory", "other")?,
        Volumes::login(&daemon, "alice", "demo")?,
    );
    let theirs = Theirs::furnish(&alice)?;
    let before = state(&alice)?;
    let headers = [
        ("X-Auth-Token", revoked.token.as_str()),
        ("X-Subject-Token", revoked.token.as_str()),
    ];
    let api = stillpoint_testkit::Api::anonymous(daemon.url());
    api.send("DELETE", "/identity/v3/auth/tokens", &headers, None)?
        .expect(&[204])?;
    let nobody = Volumes {
        token: "x".repeat(43),
        ..Volumes::login(&daemon, "alice", "demo")?
    };

    let mut failed = Vec::new();
    let mut asked = 0;
    let mut check = |result: Result<()>| {
        asked += 1;
        failed.extend(result.err().map(|error| format!("{error:#}")));
    };
    for route in matrix() {
        let method = route.method.as_str();
        let (own, foreign) = (
            theirs.path(route, &theirs.project),
            theirs.path(route, &mallory.project),
        );
        let has_project = route.pattern.contains("{project}");
        let is_given = foreign.contains(&theirs.volume) || foreign.contains(&theirs.snapshot);
        let ask = |who: &Volumes, whom: &str, path: &str, good: &[u16]| -> Result<()> {
            let what = format!("{whom}: {method} {path} ({})", route.name);
            let answer = who.send(method, path, body(route).as_ref())?;
            expect(&what, &answer, good)?;
            theirs.is_silent(&answer, path)
        };
        check(ask(&nobody, "nobody", &own, &[401]));
        check(ask(&revoked, "a revoked token", &own, &[401]));
        if has_project {
            check(ask(&mallory, "a stranger", &own, &[400]));
        }
        let refusals: &[u16] = match (route.access, method) {
            (Access::Admin, _) => &[403],
            // The same for a project that there is not.
            _ if route.name.starts_with("quota") => &[403, 404],
            // A body that makes no sense may be told before a thing that is not there.
            (_, "POST" | "PUT") => &[400, 404],
            _ if is_given => &[404],
            _ => &[200, 202, 204, 400, 404],
        };
        check(ask(&mallory, "a stranger at home", &foreign, refusals));
        let reader = bob.send(method, &own, body(route).as_ref())?;
        let is_refused = reader.status == 403;
        let must = matches!(route.access, Access::Operate | Access::Admin);
        check(if is_refused == must && reader.status != 401 {
            Ok(())
        } else {
            Err(anyhow::anyhow!(
                "a reader: {method} {own} ({}): {} {}",
                route.name,
                reader.status,
                reader.text()
            ))
        });
        if route.access == Access::Admin {
            check(expect(
                &format!("a member: {method} {own}"),
                &alice.send(method, &own, body(route).as_ref())?,
                &[403],
            ));
        }
    }
    // Filters, markers and order tell nothing of what cannot be seen.
    let (volume, snapshot) = (&theirs.volume, &theirs.snapshot);
    for (path, good) in [
        ("volumes/detail?all_tenants=1".to_owned(), 200),
        ("snapshots/detail?all_tenants=1".to_owned(), 200),
        ("snapshots?name=unheard-snapshot".to_owned(), 200),
        (
            "volumes?metadata=%7B%27unheard-key%27%3A%27unheard-value%27%7D".to_owned(),
            200,
        ),
        (format!("snapshots/detail?volume_id={volume}&with_count=true"), 200),
        (format!("snapshots?marker={snapshot}"), 404),
        (format!("volumes?marker={volume}"), 404),
    ] {
        let answer = mallory.ask("GET", &path, None)?;
        check(expect(&path, &answer, &[good]).and_then(|()| theirs.is_silent(&answer, &path)));
        let is_empty = |kind: &str| {
            answer
                .json()
                .is_ok_and(|body| body[kind].as_array().is_none_or(Vec::is_empty))
        };
        check(if is_empty("volumes") && is_empty("snapshots") {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{path}: {}", answer.text()))
        });
    }
    for source in [
        json!({"snapshot_id": snapshot, "size": 1}),
        json!({"source_volid": volume, "size": 1}),
    ] {
        let answer = mallory.ask("POST", "volumes", Some(&json!({ "volume": source })))?;
        check(
            expect("a foreign source", &answer, &[404]).and_then(|()| theirs.is_silent(&answer, &source.to_string())),
        );
    }
    let foreign = json!({"snapshot": {"volume_id": volume}});
    check(expect(
        "a foreign volume",
        &mallory.ask("POST", "snapshots", Some(&foreign))?,
        &[404],
    ));
    check(if state(&alice)? == before {
        Ok(())
    } else {
        Err(anyhow::anyhow!("something was changed: {before:?}"))
    });

    age(&mut daemon)?;
    let aged = Volumes {
        token: alice.token.clone(),
        ..Volumes::login(&daemon, "alice", "demo")?
    };
    for route in matrix() {
        let path = theirs.path(route, &theirs.project);
        let answer = aged.send(route.method.as_str(), &path, body(route).as_ref())?;
        check(expect(
            &format!("an expired token: {} {path}", route.method),
            &answer,
            &[401],
        ));
    }
    assert!(
        failed.is_empty(),
        "{} of {asked} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    eprintln!("{asked} questions over {} routes", matrix().len());
    daemon.scan_log(&[])
}
