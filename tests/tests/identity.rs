//! The identity service with plain HTTP: logins, scopes, tokens, and the administration that clients' test suites ask for.
//!
//! Numbers with a K are those of the volume contract's checklist.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stillpoint_system_tests::Checks;
use stillpoint_testkit::{Answer, Api, Daemon};

const TOKENS: &str = "/identity/v3/auth/tokens";
const DEMO: &str = "d0000000000000000000000000000001";
const OTHER: &str = "d0000000000000000000000000000002";

/// Everybody of the other tests, and somebody with roles on two projects.
const USERS: &str = r#"
[[project]]
name = "demo"
id = "d0000000000000000000000000000001"
[[project]]
name = "other"
id = "d0000000000000000000000000000002"
[[user]]
name = "admin"
password = "admin-password"
admin = true
[[user]]
name = "alice"
password = "alice-password"
  [[user.role]]
  project = "demo"
  role = "member"
  [[user.role]]
  project = "other"
  role = "reader"
  [[user.access_key]]
  access = "ALICEKEY"
  secret = "alice-secret"
[[user]]
name = "bob"
password = "bob-password"
  [[user.role]]
  project = "demo"
  role = "reader"
[[user]]
name = "chief"
password = "chief-password"
  [[user.role]]
  project = "other"
  role = "admin"
"#;

/// One client of the daemon.
struct Keystone(Api);

impl Keystone {
    fn send(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<Answer> {
        self.with(method, path, token, body, &[])
    }

    fn with(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
        more: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut headers: Vec<(&str, &str)> = token.map(|token| ("X-Auth-Token", token)).into_iter().collect();
        if body.is_some() {
            headers.push(("Content-Type", "application/json;charset=utf8"));
        }
        headers.extend_from_slice(more);
        let body = body.map(Value::to_string);
        self.0.send(method, path, &headers, body.as_deref().map(str::as_bytes))
    }

    fn get(&self, path: &str, token: &str) -> Result<Answer> {
        self.send("GET", path, Some(token), None)
    }

    fn login(&self, auth: &Value) -> Result<Answer> {
        self.send("POST", TOKENS, None, Some(auth))
    }

    /// A token of `user` in the project of that name.
    fn token(&self, user: &str, project: &str) -> Result<String> {
        token_of(&self.login(&password(user, &format!("{user}-password"), &in_project(project)))?)
    }

    /// Whether the token is good for anything.
    fn is_good(&self, token: &str) -> Result<bool> {
        Ok(self.get("/identity/v3/auth/projects", token)?.status == 200)
    }
}

fn in_project(name: &str) -> Value {
    json!({"project": {"name": name, "domain": {"name": "Default"}}})
}

fn password(user: &str, password: &str, scope: &Value) -> Value {
    json!({"auth": {
        "identity": {
            "methods": ["password"],
            "password": {"user": {"name": user, "password": password, "domain": {"id": "default"}}},
        },
        "scope": scope,
    }})
}

fn token_of(answer: &Answer) -> Result<String> {
    ensure!(answer.status == 201, "{} {}", answer.status, answer.text());
    Ok(answer.header("x-subject-token").context("X-Subject-Token")?.to_owned())
}

fn names(list: &Value) -> Vec<&str> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["name"].as_str()).collect()
}

fn start() -> (Daemon, Keystone) {
    let daemon = Daemon::builder().bootstrap(USERS).start().expect("the daemon starts");
    let keystone = Keystone(Api::anonymous(daemon.url()));
    (daemon, keystone)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn logins_scopes_and_tokens_are_as_keystones_clients_expect() {
    let (daemon, keystone) = start();
    let mut checks = Checks::default();
    let wrong = |user: &str, word: &str, scope: &Value| -> Result<(String, String)> {
        let answer = keystone.login(&password(user, word, scope))?.expect(&[401])?;
        let place = answer
            .header("www-authenticate")
            .context("WWW-Authenticate")?
            .to_owned();
        Ok((place, answer.text()))
    };
    checks.item("K15 K25", || {
        let answer = keystone.login(&password("alice", "alice-password", &in_project("demo")))?;
        token_of(&answer)?;
        let token = &answer.json()?["token"];
        for kind in ["block-storage", "volumev3", "volume", "identity", "evs", "volumev2"] {
            let entry = token["catalog"]
                .as_array()
                .and_then(|catalog| catalog.iter().find(|entry| entry["type"] == kind))
                .with_context(|| format!("no {kind} in {token}"))?;
            let endpoints = entry["endpoints"].as_array().context("endpoints")?;
            ensure!(endpoints.len() == 3, "{entry}");
            let url = endpoints[0]["url"].as_str().context("url")?;
            ensure!(url.starts_with(daemon.url()), "{url}");
            if kind == "block-storage" {
                ensure!(url.ends_with(&format!("/volume/v3/{DEMO}")), "{url}");
            }
        }
        ensure!(token["project"]["id"] == DEMO && token["is_domain"] == false, "{token}");
        ensure!(names(&token["roles"]) == ["member", "reader"], "{token}");
        ensure!(token["user"]["id"].as_str().is_some_and(|id| id.len() == 32), "{token}");
        for at in [&token["issued_at"], &token["expires_at"]] {
            let at = at.as_str().context("an instant")?;
            ensure!(at.len() == 27 && at.ends_with('Z') && at.as_bytes()[19] == b'.', "{at}");
        }
        Ok(())
    });
    checks.item("K16 K17", || {
        let (place, said) = wrong("alice", "wrong", &in_project("demo"))?;
        ensure!(place.starts_with("Keystone uri=\""), "{place}");
        // Nothing tells one reason from another.
        for (user, word, scope) in [
            ("bob", "bob-password", in_project("other")),
            ("alice", "alice-password", in_project("nowhere")),
            ("nobody", "alice-password", in_project("demo")),
            ("alice", "alice-password", json!({"system": {"all": true}})),
            ("alice", "alice-password", json!({"domain": {"id": "default"}})),
            ("alice", "alice-password", json!({"project": {"id": "prod"}})),
        ] {
            ensure!(
                wrong(user, word, &scope)? == (place.clone(), said.clone()),
                "{user} {scope}"
            );
        }
        let totp = json!({"auth": {"identity": {"methods": ["totp"], "totp": {}}}});
        ensure!(keystone.login(&totp)?.expect(&[401])?.text() == said);
        Ok(())
    });
    checks.item("K18", || {
        let first = keystone.login(&password("alice", "alice-password", &in_project("demo")))?;
        let auth = json!({"auth": {
            "identity": {"methods": ["token"], "token": {"id": token_of(&first)?}},
            "scope": in_project("other"),
        }});
        let second = keystone.login(&auth)?;
        token_of(&second)?;
        let (first, second) = (first.json()?, second.json()?);
        let methods = second["token"]["methods"].as_array().context("methods")?.clone();
        ensure!(
            methods.contains(&json!("token")) && methods.contains(&json!("password")),
            "{second}"
        );
        ensure!(second["token"]["project"]["id"] == OTHER, "{second}");
        ensure!(names(&second["token"]["roles"]) == ["reader"], "{second}");
        ensure!(
            second["token"]["expires_at"] == first["token"]["expires_at"],
            "a longer life"
        );
        Ok(())
    });
    checks.item("K20", || {
        for scope in [Value::Null, json!("unscoped")] {
            let answer = keystone.login(&password("alice", "alice-password", &scope))?;
            token_of(&answer)?;
            let token = &answer.json()?["token"];
            ensure!(
                token.get("catalog").is_none() && token.get("project").is_none(),
                "{token}"
            );
            let unscoped = token_of(&answer)?;
            ensure!(keystone.is_good(&unscoped)?);
        }
        Ok(())
    });
    checks.item("K21", || {
        let auth = password("alice", "alice-password", &in_project("demo"));
        let answer = keystone.send("POST", &format!("{TOKENS}?nocatalog"), None, Some(&auth))?;
        ensure!(answer.status == 201 && answer.json()?["token"].get("catalog").is_none());
        Ok(())
    });
    checks.item("K22 K23 K24", || {
        let issued = keystone.login(&password("alice", "alice-password", &in_project("demo")))?;
        let (mine, asking) = (token_of(&issued)?, keystone.token("alice", "demo")?);
        let subject = |method: &str, who: &str, subject: &str| {
            keystone.with(method, TOKENS, Some(who), None, &[("X-Subject-Token", subject)])
        };
        let shown = subject("GET", &mine, &mine)?.expect(&[200])?;
        ensure!(shown.header("x-subject-token") == Some(mine.as_str()));
        ensure!(shown.json()? == issued.json()?, "{}", shown.text());
        ensure!(subject("HEAD", &asking, &mine)?.expect(&[200])?.body.is_empty());
        subject("GET", &keystone.token("bob", "demo")?, &mine)?.expect(&[403])?;
        subject("GET", &keystone.token("admin", "other")?, &mine)?.expect(&[200])?;
        ensure!(keystone.is_good(&mine)?);
        subject("DELETE", &asking, &mine)?.expect(&[204])?;
        ensure!(!keystone.is_good(&mine)?, "a revoked token is good for something");
        let again = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": mine}}}});
        keystone.login(&again)?.expect(&[401])?;
        subject("GET", &mine, &asking)?.expect(&[401])?;
        subject("GET", &asking, &mine)?.expect(&[404])?;
        subject("GET", &asking, "never-issued")?.expect(&[404])?;
        keystone.get(TOKENS, &asking)?.expect(&[400])?;
        Ok(())
    });
    checks.item("K26", || {
        let version = keystone
            .send("GET", "/identity/v3", None, None)?
            .expect(&[200])?
            .json()?;
        let place = version["version"]["links"][0]["href"]
            .as_str()
            .context("a link")?
            .to_owned();
        ensure!(place.ends_with("/identity/v3/"), "{version}");
        let path = place.strip_prefix(daemon.url()).context("a link to another place")?;
        keystone.send("GET", path, None, None)?.expect(&[200])?;
        for path in ["/identity", "/identity/"] {
            let choice = keystone.send("GET", path, None, None)?.expect(&[300])?.json()?;
            ensure!(choice["versions"]["values"][0]["id"] == "v3.14", "{choice}");
        }
        Ok(())
    });
    checks.item("K27 K29", || {
        let alice = keystone.token("alice", "other")?;
        for path in ["/identity/v3/projects", "/v3/projects"] {
            let all = keystone.get(path, &alice)?.expect(&[200])?.json()?;
            ensure!(names(&all["projects"]) == ["demo", "other"], "{all}");
            ensure!(
                all["links"]["self"].is_string() && all["links"]["next"].is_null(),
                "{all}"
            );
            let one = keystone.get(&format!("{path}?name=demo"), &alice)?.json()?;
            ensure!(names(&one["projects"]) == ["demo"], "{one}");
        }
        let bob = keystone.token("bob", "demo")?;
        let none = keystone.get("/v3/projects?name=other", &bob)?.expect(&[200])?.json()?;
        ensure!(none["projects"] == json!([]), "{none}");
        keystone
            .get(&format!("/identity/v3/projects/{OTHER}"), &bob)?
            .expect(&[404])?;
        let roles = keystone.get("/identity/v3/roles", &bob)?.expect(&[200])?.json()?;
        ensure!(names(&roles["roles"]) == ["admin", "member", "reader"], "{roles}");
        let domains = keystone.get("/identity/v3/domains?name=Default", &bob)?.json()?;
        ensure!(domains["domains"][0]["id"] == "default", "{domains}");
        Ok(())
    });
    checks.item("one token is not another's", || {
        let ovirt = Api::login(daemon.url(), "alice@internal", "alice-password")?;
        ovirt.get_json("vms")?.expect(&[200])?;
        let form = "grant_type=password&scope=ovirt-app-api&username=alice%40internal&password=alice-password";
        let headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "application/json"),
        ];
        let answer = keystone
            .0
            .send("POST", "/ovirt-engine/sso/oauth/token", &headers, Some(form.as_bytes()))?;
        let bearer = answer.json()?["access_token"].as_str().context("a token")?.to_owned();
        ensure!(!keystone.is_good(&bearer)?, "a token of oVirt's API came in");
        let scoped = format!("Bearer {}", keystone.token("alice", "demo")?);
        keystone
            .0
            .send("GET", "vms", &[("Authorization", &scoped)], None)?
            .expect(&[401])?;
        Ok(())
    });
    checks.item("IAM's login with an access key", || {
        let auth = |secret: &str| {
            json!({"auth": {
                "identity": {"methods": ["hw_ak_sk"], "hw_ak_sk": {
                    "access": {"key": "ALICEKEY"}, "secret": {"key": secret},
                }},
                "scope": {"project": {"name": "demo"}},
            }})
        };
        let answer = keystone.send("POST", "/v3/auth/tokens", None, Some(&auth("alice-secret")))?;
        ensure!(answer.json()?["token"]["project"]["id"] == DEMO, "{}", answer.text());
        keystone
            .send("POST", "/v3/auth/tokens", None, Some(&auth("x")))?
            .expect(&[401])?;
        Ok(())
    });
    checks.item("bad bodies", || {
        let identity = |methods: Value| json!({"auth": {"identity": {"methods": methods}}});
        for body in [
            json!({}),
            json!([]),
            json!({"auth": []}),
            identity(json!("password")),
            identity(json!([])),
            identity(json!([1])),
            identity(json!(["password"])),
            json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "alice"}}}}}),
            password("alice", "alice-password", &json!({"project": 1})),
        ] {
            let answer = keystone.login(&body)?.expect(&[400])?;
            ensure!(answer.json()?["error"]["code"] == 400, "{}", answer.text());
        }
        keystone.0.send("POST", TOKENS, &[], Some(b"{bad"))?.expect(&[400])?;
        keystone.0.send("POST", TOKENS, &[], None)?.expect(&[400])?;
        let deep = "[".repeat(60_000);
        keystone
            .0
            .send("POST", TOKENS, &[], Some(deep.as_bytes()))?
            .expect(&[400])?;
        let long = "[".repeat(70_000);
        keystone
            .0
            .send("POST", TOKENS, &[], Some(long.as_bytes()))?
            .expect(&[413])?;
        keystone
            .0
            .send("POST", TOKENS, &[("Content-Type", "application/xml")], Some(b"<a/>"))?
            .expect(&[415])?;
        Ok(())
    });
    checks.finish();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn administrators_administer_and_what_they_change_counts_at_once() {
    let (mut daemon, keystone) = start();
    let mut checks = Checks::default();
    let admin = keystone.token("admin", "demo").unwrap();
    let as_admin = |method: &str, path: &str, body: Option<&Value>| {
        keystone.send(method, &format!("/identity/v3/{path}"), Some(&admin), body)
    };
    let role = |name: &str| -> Result<String> {
        let found = as_admin("GET", &format!("roles?name={name}"), None)?.json()?;
        Ok(found["roles"][0]["id"].as_str().context("a role")?.to_owned())
    };
    checks.item("K28", || {
        let asked = json!({"project": {"name": "tempest-1", "description": "d", "domain_id": "default", "enabled": true}});
        let made = as_admin("POST", "projects", Some(&asked))?.expect(&[201])?.json()?;
        let project = made["project"]["id"].as_str().context("an id")?.to_owned();
        let asked = json!({"user": {
            "name": "carol", "password": "carol-password", "email": "c@example.com", "domain_id": "default", "enabled": true,
        }});
        let made = as_admin("POST", "users", Some(&asked))?.expect(&[201])?.json()?;
        ensure!(made["user"].get("password").is_none(), "{made}");
        let user = made["user"]["id"].as_str().context("an id")?.to_owned();
        as_admin("POST", "users", Some(&asked))?.expect(&[409])?;
        let grant = format!("projects/{project}/users/{user}/roles/{}", role("member")?);
        as_admin("HEAD", &grant, None)?.expect(&[404])?;
        as_admin("PUT", &grant, None)?.expect(&[204])?;
        as_admin("HEAD", &grant, None)?.expect(&[204])?;
        let carol = keystone.token("carol", "tempest-1")?;
        // Several roles; the highest counts, for tokens that are there, too.
        let higher = format!("projects/{project}/users/{user}/roles/{}", role("admin")?);
        keystone.get("/identity/v3/users", &carol)?.expect(&[403])?;
        as_admin("PUT", &higher, None)?.expect(&[204])?;
        keystone.get("/identity/v3/users", &carol)?.expect(&[200])?;
        as_admin("DELETE", &higher, None)?.expect(&[204])?;
        keystone.get("/identity/v3/users", &carol)?.expect(&[403])?;
        // A disabled project takes its tokens along.
        let patch = |enabled: bool| json!({"project": {"enabled": enabled}});
        as_admin("PATCH", &format!("projects/{project}"), Some(&patch(false)))?.expect(&[200])?;
        ensure!(!keystone.is_good(&carol)?);
        ensure!(keystone.token("carol", "tempest-1").is_err());
        as_admin("PATCH", &format!("projects/{project}"), Some(&patch(true)))?.expect(&[200])?;
        let carol = keystone.token("carol", "tempest-1")?;
        // His own password, and only with the one that was.
        let change = |original: &str| json!({"user": {"original_password": original, "password": "carol-password-2"}});
        let path = format!("/identity/v3/users/{user}/password");
        keystone.send("POST", &path, Some(&carol), Some(&change("wrong")))?.expect(&[401])?;
        let nobody = "/identity/v3/users/nobody/password";
        keystone.send("POST", nobody, None, Some(&change("carol-password")))?.expect(&[401])?;
        keystone.send("POST", &path, Some(&carol), Some(&change("carol-password")))?.expect(&[204])?;
        ensure!(!keystone.is_good(&carol)?, "a token outlived its password");
        ensure!(keystone.token("carol", "tempest-1").is_err());
        let carol = token_of(&keystone.login(&password("carol", "carol-password-2", &in_project("tempest-1")))?)?;
        as_admin("DELETE", &grant, None)?.expect(&[204])?;
        ensure!(!keystone.is_good(&carol)?, "a token outlived its role");
        as_admin("DELETE", &format!("users/{user}"), None)?.expect(&[204])?;
        as_admin("DELETE", &format!("projects/{project}"), None)?.expect(&[204])?;
        as_admin("GET", &format!("users/{user}"), None)?.expect(&[404])?;
        as_admin("GET", &format!("projects/{project}"), None)?.expect(&[404])?;
        Ok(())
    });
    checks.item("K19", || {
        let alice = keystone.token("alice", "demo")?;
        let shown = keystone.with("GET", TOKENS, Some(&alice), None, &[("X-Subject-Token", &alice)])?.json()?;
        let user = shown["token"]["user"]["id"].as_str().context("an id")?.to_owned();
        let path = format!("/identity/v3/users/{user}/application_credentials");
        let asked = |name: &str, role: &str| {
            json!({"application_credential": {"name": name, "roles": [{"name": role}], "expires_at": "2999-01-02T03:04:05.000600"}})
        };
        keystone.send("POST", &path, Some(&alice), Some(&asked("x", "admin")))?.expect(&[400])?;
        let made = keystone.send("POST", &path, Some(&alice), Some(&asked("backup", "reader")))?;
        let made = made.expect(&[201])?.json()?["application_credential"].clone();
        ensure!(made["expires_at"] == "2999-01-02T03:04:05.000600", "{made}");
        keystone.send("POST", &path, Some(&alice), Some(&asked("backup", "reader")))?.expect(&[409])?;
        let id = made["id"].as_str().context("an id")?;
        let one = keystone.get(&format!("{path}/{id}"), &alice)?.expect(&[200])?.json()?;
        ensure!(one["application_credential"].get("secret").is_none(), "{one}");
        // Neither another member nor an administrator makes one for her; bob does not even see hers.
        keystone.get(&path, &keystone.token("bob", "demo")?)?.expect(&[403])?;
        keystone.send("POST", &path, Some(&admin), Some(&asked("y", "reader")))?.expect(&[403])?;
        let login = |secret: &Value, scope: Option<Value>| {
            let mut auth = json!({"auth": {"identity": {
                "methods": ["application_credential"],
                "application_credential": {"id": id, "secret": secret},
            }}});
            if let Some(scope) = scope {
                auth["auth"]["scope"] = scope;
            }
            keystone.login(&auth)
        };
        login(&json!("wrong"), None)?.expect(&[401])?;
        login(&made["secret"], Some(in_project("demo")))?.expect(&[401])?;
        let answer = login(&made["secret"], None)?;
        let token = token_of(&answer)?;
        let shown = answer.json()?;
        ensure!(shown["token"]["project"]["id"] == DEMO && names(&shown["token"]["roles"]) == ["reader"], "{shown}");
        // It is less than she: neither another credential nor another scope comes of it.
        keystone.send("POST", &path, Some(&token), Some(&asked("z", "reader")))?.expect(&[403])?;
        let again = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": in_project("other")}});
        keystone.login(&again)?.expect(&[401])?;
        keystone.send("DELETE", &format!("{path}/{id}"), Some(&alice), None)?.expect(&[204])?;
        ensure!(!keystone.is_good(&token)?, "a token outlived its application credential");
        Ok(())
    });
    checks.item("who may administer", || {
        // Role admin on a project is Keystone's administrator; on oVirt's API it is a member's.
        let chief = keystone.token("chief", "other")?;
        keystone.get("/identity/v3/users", &chief)?.expect(&[200])?;
        ensure!(
            keystone.token("chief", "demo").is_err(),
            "an administrator by role came into another project"
        );
        let alice = keystone.token("alice", "demo")?;
        for (method, path) in [
            ("GET", "users"),
            ("POST", "users"),
            ("POST", "projects"),
            ("POST", "roles"),
            ("GET", "role_assignments"),
        ] {
            let body = json!({});
            let body = Some(&body).filter(|_| method == "POST");
            keystone
                .send(method, &format!("/identity/v3/{path}"), Some(&alice), body)?
                .expect(&[403])?;
        }
        for (method, path) in [("PATCH", ""), ("DELETE", "")] {
            let path = format!("/identity/v3/projects/{DEMO}{path}");
            keystone
                .send(
                    method,
                    &path,
                    Some(&alice),
                    Some(&json!({})).filter(|_| method == "PATCH"),
                )?
                .expect(&[403])?;
        }
        Ok(())
    });
    checks.item("roles as they were granted", || {
        let shown = as_admin("GET", "role_assignments?include_names=True&effective", None)?.json()?;
        let all = shown["role_assignments"].as_array().context("a list")?.clone();
        let alice: Vec<_> = all
            .iter()
            .filter(|item| item["user"]["name"] == "alice")
            .map(|item| format!("{}@{}", item["role"]["name"], item["scope"]["project"]["name"]).replace('"', ""))
            .collect();
        ensure!(alice == ["member@demo", "reader@demo", "reader@other"], "{shown}");
        Ok(())
    });
    checks.item("what cannot be deleted says why", || {
        let home = as_admin("DELETE", &format!("projects/{DEMO}"), None)?.expect(&[409])?;
        ensure!(home.text().contains("installation's own"), "{}", home.text());
        let disk = daemon_disk(&daemon)?;
        let full = as_admin("DELETE", &format!("projects/{OTHER}"), None)?.expect(&[409])?;
        ensure!(full.text().contains("1 disks"), "{} {disk}", full.text());
        let users = as_admin("GET", "users?name=admin", None)?.json()?;
        let id = users["users"][0]["id"].as_str().context("an id")?.to_owned();
        as_admin("DELETE", &format!("users/{id}"), None)?.expect(&[409])?;
        let disable = json!({"user": {"enabled": false}});
        as_admin("PATCH", &format!("users/{id}"), Some(&disable))?.expect(&[409])?;
        // Who is disabled comes in nowhere, by no API.
        let users = as_admin("GET", "users?name=bob", None)?.json()?;
        let bob = users["users"][0]["id"].as_str().context("an id")?.to_owned();
        let token = keystone.token("bob", "demo")?;
        as_admin("PATCH", &format!("users/{bob}"), Some(&disable))?.expect(&[200])?;
        ensure!(!keystone.is_good(&token)? && keystone.token("bob", "demo").is_err());
        ensure!(Api::login(daemon.url(), "bob@internal", "bob-password").is_err());
        Ok(())
    });
    checks.item("K28 after a restart", || {
        daemon.kill9()?;
        daemon.restart()?;
        let after = Keystone(Api::anonymous(daemon.url()));
        ensure!(after.is_good(&admin)?, "a token did not survive");
        ensure!(
            after.token("bob", "demo").is_err(),
            "a bootstrap enabled whom an administrator disabled"
        );
        Ok(())
    });
    checks.finish();
}

/// Makes a disk in the project `other`, by oVirt's API.
fn daemon_disk(daemon: &Daemon) -> Result<String> {
    let chief = Api::login(daemon.url(), "chief@internal", "chief-password")?;
    let asked = json!({
        "name": "kept", "format": "cow", "sparse": "true", "provisioned_size": "1048576",
        "storage_domains": {"storage_domain": [{"name": "data"}]},
    });
    let made = chief.post_json("disks", &asked)?.expect(&[201, 202])?.json()?;
    Ok(made["id"].as_str().context("an id")?.to_owned())
}
