//! Conformance, first part: connection, tokens and sessions, negotiation, headers, routing, the root.
//!
//! Numbers are those of the contract's checklist. What needs TLS or a real SDK is in `ovirt_sdk.rs`; the table of
//! what is held elsewhere or belongs to a later version is in `conformance_items.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use stillpoint_system_tests::{Checks, Scene};
use stillpoint_testkit::{Answer, Api, Daemon, Xml};

const TOKEN: &str = "/ovirt-engine/sso/oauth/token";
const LOGOUT: &str = "/ovirt-engine/services/sso-logout";
const INFO: &str = "/ovirt-engine/sso/oauth/token-info";
const PKI: &str = "/ovirt-engine/services/pki-resource";
const GOOD: &str = "grant_type=password&scope=ovirt-app-api&username=admin%40internal&password=admin-password";

fn form(api: &Api, path: &str, text: &str) -> Result<Answer> {
    let headers = [
        ("Accept", "application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    api.send("POST", path, &headers, Some(text.as_bytes()))
}

fn token(api: &Api, text: &str) -> Result<String> {
    let json = form(api, TOKEN, text)?.expect(&[200])?.json()?;
    Ok(json["access_token"].as_str().context("a token")?.to_owned())
}

fn error_code(answer: Answer) -> Result<String> {
    let json = answer.expect(&[400])?.json()?;
    ensure!(json["error"].is_string(), "{json}");
    Ok(json["error_code"].as_str().context("error_code")?.to_owned())
}

fn expect_code(answer: Answer, code: &str) -> Result<()> {
    let found = error_code(answer)?;
    ensure!(found == code, "{found}");
    Ok(())
}

fn bearer(api: &Api, path: &str, token: &str) -> Result<Answer> {
    api.send("GET", path, &[("Authorization", &format!("Bearer {token}"))], None)
}

fn basic() -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode("admin@internal:admin-password");
    format!("Basic {encoded}")
}

fn expect_challenge(answer: Answer) -> Result<()> {
    let answer = answer.expect(&[401])?;
    ensure!(answer.header("www-authenticate") == Some("Basic realm=\"RESTAPI\""));
    ensure!(answer.xml()?.name == "fault", "{}", answer.text());
    Ok(())
}

fn is(found: Option<&str>, wanted: &str) -> Result<()> {
    ensure!(found == Some(wanted), "{found:?} is not {wanted:?}");
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn tokens_are_given_refused_and_ended_as_the_sdks_expect() {
    let daemon = Daemon::builder().bootstrap(ODD_USERS).start().unwrap();
    let api = Api::anonymous(daemon.url());
    let mut checks = Checks::default();
    checks.item("C001", || {
        let answer = form(&api, TOKEN, GOOD)?.expect(&[200])?;
        ensure!(
            answer
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("application/json"))
        );
        let json = answer.json()?;
        ensure!(
            json["access_token"].is_string() && json["scope"] == "ovirt-app-api",
            "{json}"
        );
        ensure!(json["exp"].is_string() && json["token_type"] == "bearer", "{json}");
        Ok(())
    });
    checks.item("C002", || {
        let answer = api.send(
            "GET",
            &format!("{TOKEN}?{GOOD}"),
            &[("Accept", "application/json")],
            None,
        )?;
        let json = answer.expect(&[200])?.json()?;
        ensure!(
            json["access_token"].is_string() && json["token_type"] == "bearer",
            "{json}"
        );
        Ok(())
    });
    for (item, change, code) in [
        ("C003", GOOD.replace("admin-password", "wrong"), "access_denied"),
        (
            "C004",
            GOOD.replace("grant_type=password", "grant_type=foo"),
            "unsupported_grant_type",
        ),
        ("C005", GOOD.replace("grant_type=password&", ""), "invalid_request"),
    ] {
        checks.item(item, || expect_code(form(&api, TOKEN, &change)?, code));
    }
    checks.item("C006", || {
        let headers = [
            ("Accept", "text/html"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        expect_code(
            api.send("POST", TOKEN, &headers, Some(GOOD.as_bytes()))?,
            "invalid_request",
        )
    });
    checks.item("C007", || {
        let odd = "username=odd%40internal&password=a+b%2Bc%26d%C3%BC%20";
        token(&api, &format!("grant_type=password&scope=ovirt-app-api&{odd}")).map(drop)
    });
    checks.item("C008", || {
        let odd = "username=a%40b%40internal&password=ab-password";
        let token = token(&api, &format!("grant_type=password&scope=ovirt-app-api&{odd}"))?;
        let users = bearer(&api, "users", &token)?.expect(&[200])?.xml()?;
        is(users.text_at("user/name"), "a@b")
    });
    checks.item("C009", || {
        let token = token(&api, &GOOD.replace("ovirt-app-api", "something-else"))?;
        expect_challenge(bearer(&api, "", &token)?)
    });
    checks.item("C010", || {
        let root = bearer(&api, "", &token(&api, GOOD)?)?.expect(&[200])?.xml()?;
        ensure!(root.name == "api", "{}", root.name);
        Ok(())
    });
    checks.item("C011", || expect_challenge(bearer(&api, "", "unknown")?));
    checks.item("C012", || expect_challenge(api.get("")?));
    checks.item("C020 C021", || {
        let token = token(&api, GOOD)?;
        let ended = form(&api, LOGOUT, &format!("token={token}&scope=ovirt-app-api"))?.expect(&[200])?;
        ensure!(ended.json()? == serde_json::json!({}), "{}", ended.text());
        expect_challenge(bearer(&api, "", &token)?)
    });
    checks.item("C022", || {
        let json = form(&api, LOGOUT, "token=unknown&scope=")?.expect(&[200])?.json()?;
        ensure!(json.is_object() && json.get("error").is_none(), "{json}");
        Ok(())
    });
    checks.item("C023", || {
        let ask = |token: &str| {
            form(
                &api,
                INFO,
                &format!("token={token}&scope=ovirt-ext%3Dtoken-info%3Avalidate"),
            )
        };
        let good = ask(&token(&api, GOOD)?)?.expect(&[200])?;
        ensure!(good.json()? == serde_json::json!({}), "{}", good.text());
        ask("unknown")?.expect(&[400]).map(drop)
    });
    checks.item("C029", || {
        // Without TLS there is no certificate at all; over TLS see below.
        api.send("GET", &format!("{PKI}?resource=nope"), &[], None)?
            .expect(&[400, 404])
            .map(drop)
    });
    checks.finish();
}

const ODD_USERS: &str = "[[project]]\nname = \"demo\"\n\n\
    [[user]]\nname = \"admin\"\npassword = \"admin-password\"\nadmin = true\n\n\
    [[user]]\nname = \"odd\"\npassword = \"a b+c&d\u{fc} \"\nadmin = true\n\n\
    [[user]]\nname = \"a@b\"\npassword = \"ab-password\"\nadmin = true\n";

/// The session's cookie, as a client sends it back, and its value.
fn session(api: &Api, prefer: &str) -> Result<(String, String)> {
    let headers = [("Authorization", &*basic()), ("Prefer", prefer)];
    let answer = api.send("GET", "", &headers, None)?.expect(&[200])?;
    let cookie = answer.header("set-cookie").context("no cookie")?;
    let mut parts = cookie.split(';').map(str::trim);
    let pair = parts.next().context("a pair")?.to_owned();
    let rest: Vec<&str> = parts.collect();
    ensure!(
        rest.contains(&"Path=/ovirt-engine/api") && rest.contains(&"HttpOnly"),
        "{cookie}"
    );
    let value = pair.strip_prefix("JSESSIONID=").context("its name")?.to_owned();
    Ok((pair, value))
}

#[test]
fn basic_credentials_and_cookie_sessions_follow_the_preferences() {
    let daemon = Daemon::start().unwrap();
    let api = Api::anonymous(daemon.url());
    let mut checks = Checks::default();
    checks.item("C013", || {
        let answer = api
            .send("GET", "", &[("Authorization", &basic())], None)?
            .expect(&[200])?;
        ensure!(answer.header("set-cookie").is_none());
        Ok(())
    });
    checks.item("C014 C015", || {
        let (cookie, _) = session(&api, "persistent-auth")?;
        let headers = [("Cookie", &*cookie), ("Prefer", "persistent-auth")];
        api.send("GET", "vms", &headers, None)?.expect(&[200]).map(drop)
    });
    checks.item("C016", || {
        let (cookie, _) = session(&api, "persistent-auth")?;
        expect_challenge(api.send("GET", "vms", &[("Cookie", &cookie)], None)?)?;
        let headers = [("Cookie", &*cookie), ("Prefer", "persistent-auth")];
        expect_challenge(api.send("GET", "vms", &headers, None)?)
    });
    checks.item("C017 C018", || {
        let (cookie, value) = session(&api, "persistent-auth, csrf-protection")?;
        let without = [("Cookie", &*cookie), ("Prefer", "persistent-auth, csrf-protection")];
        api.send("GET", "vms", &without, None)?.expect(&[403])?;
        let wrong = [without[0], without[1], ("JSESSIONID", "other")];
        api.send("GET", "vms", &wrong, None)?.expect(&[403])?;
        let with = [without[0], without[1], ("JSESSIONID", &*value)];
        api.send("GET", "vms", &with, None)?.expect(&[200]).map(drop)
    });
    checks.finish();
    daemon.scan_log(&[]).unwrap();
}

#[test]
#[ignore = "slow: waits 70 seconds for a session of one minute, the shortest that a client can ask for"]
fn an_idle_session_ends() {
    let daemon = Daemon::start().unwrap();
    let api = Api::anonymous(daemon.url());
    let mut checks = Checks::default();
    checks.item("C019", || {
        let headers = [
            ("Authorization", &*basic()),
            ("Prefer", "persistent-auth"),
            ("Session-TTL", "1"),
        ];
        let answer = api.send("GET", "", &headers, None)?.expect(&[200])?;
        let cookie = answer
            .header("set-cookie")
            .and_then(|text| text.split(';').next())
            .context("a cookie")?;
        let headers = [("Cookie", cookie), ("Prefer", "persistent-auth")];
        api.send("GET", "vms", &headers, None)?.expect(&[200])?;
        std::thread::sleep(Duration::from_secs(70));
        expect_challenge(api.send("GET", "vms", &headers, None)?)
    });
    checks.finish();
}

fn content_type(answer: Answer, wanted: &str) -> Result<()> {
    let answer = answer.expect(&[200])?;
    let kind = answer.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with(wanted), "{kind}");
    if wanted == "application/json" {
        answer.json().map(drop)
    } else {
        answer.xml().map(drop)
    }
}

fn correlation(answer: &Answer) -> Result<&str> {
    answer.header("correlation-id").context("no correlation id")
}

fn hrefs(xml: &Xml, found: &mut Vec<String>) {
    found.extend(xml.attribute("href").map(str::to_owned));
    for child in &xml.children {
        hrefs(child, found);
    }
}

/// Sends bytes as they are and reads until the connection ends.
fn raw(url: &str, parts: &[&[u8]]) -> Result<String> {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut read = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            // Only after the server asked for it.
            let mut head = [0; 25];
            stream.read_exact(&mut head)?;
            read += &String::from_utf8_lossy(&head);
        }
        stream.write_all(part)?;
    }
    stream.read_to_string(&mut read)?;
    Ok(read)
}

#[test]
fn requests_are_negotiated_and_led_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let things = scene.furnish(&scene.admin, "db").unwrap();
    let admin = &scene.admin;
    let get = |path: &str, headers: &[(&str, &str)]| admin.request("GET", path, headers, None);
    let snapshots = format!("vms/{}/snapshots", things.vm);
    let mut checks = Checks::default();
    checks.item("C030", || {
        for path in ["/ovirt-engine/api", "/ovirt-engine/api/"] {
            get(path, &[])?.expect(&[200])?;
        }
        Ok(())
    });
    checks.item("C031", || get("/ovirt-engine/api//vms", &[])?.expect(&[200]).map(drop));
    for (item, path, accept, wanted) in [
        ("C032", "vms", Some("application/xml"), "application/xml"),
        ("C033", "vms", Some("application/json"), "application/json"),
        ("C034", "vms", None, "application/xml"),
        ("C034", "vms", Some("*/*"), "application/xml"),
        (
            "C035",
            "vms?accept=application/json",
            Some("application/xml"),
            "application/json",
        ),
    ] {
        let headers: Vec<(&str, &str)> = accept.iter().map(|accept| ("Accept", *accept)).collect();
        checks.item(item, || content_type(get(path, &headers)?, wanted));
    }
    checks.item("C036", || {
        let refused = get("vms", &[("Accept", "text/csv")])?.expect(&[406])?;
        ensure!(refused.xml()?.name == "fault");
        Ok(())
    });
    checks.item("C037", || {
        get("vms", &[("Content-Type", "application/xml")])?
            .expect(&[200])
            .map(drop)
    });
    checks.item("C038", || {
        let refused = admin.request("POST", &snapshots, &[("Content-Type", "text/plain")], Some(b"x"))?;
        ensure!(refused.expect(&[415])?.xml()?.name == "fault");
        Ok(())
    });
    checks.item("C041", || {
        let wanted = get("operatingsystems", &[("Accept", "application/xml")])?.expect(&[200])?;
        let packed = get(
            "operatingsystems",
            &[("Accept", "application/xml"), ("Accept-Encoding", "gzip")],
        )?;
        is(packed.header("content-encoding"), "gzip")?;
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut plain)?;
        ensure!(plain == wanted.body);
        Ok(())
    });
    for (item, header, path, wanted) in [
        ("C042", Some("abc-1"), "vms", "abc-1"),
        ("C043", Some("a b/c"), "vms", "abc"),
        (
            "C044",
            Some("123456789012345678901234567890123456789012345678901234567890"),
            "vms",
            "123456789012345678901234567890123456",
        ),
        ("C045", None, "vms?correlation_id=q1", "q1"),
    ] {
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("Correlation-Id", *value)).collect();
        checks.item(item, || is(Some(correlation(&get(path, &headers)?)?), wanted));
    }
    checks.item("C046", || {
        correlation(&get("vms", &[])?)?
            .parse::<uuid::Uuid>()
            .map(drop)
            .context("no UUID")
    });
    checks.finish();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn versions_methods_and_paths_that_are_not_there_are_refused_by_name() {
    let scene = Scene::start().unwrap();
    scene.furnish(&scene.admin, "db").unwrap();
    let admin = &scene.admin;
    let anonymous = Api::anonymous(scene.daemon.url());
    let mut checks = Checks::default();
    checks.item("C047", || {
        is(admin.get("vms")?.expect(&[200])?.xml()?.text_at("vm/status"), "down")
    });
    checks.item("C048", || {
        let headers = [("Version", "99"), ("Authorization", &*basic())];
        anonymous.send("GET", "vms", &headers, None)?.expect(&[400]).map(drop)
    });
    for (item, path, prefix) in [
        ("C049", "/ovirt-engine/api/v4/vms", "/ovirt-engine/api/v4/vms/"),
        ("C050", "/ovirt-engine/api/vms", "/ovirt-engine/api/vms/"),
    ] {
        checks.item(item, || {
            let mut found = Vec::new();
            hrefs(&admin.get(path)?.expect(&[200])?.xml()?, &mut found);
            let base = prefix.trim_end_matches("vms/");
            ensure!(found.iter().any(|href| href.starts_with(prefix)), "{found:?}");
            ensure!(found.iter().all(|href| href.starts_with(base)), "{found:?}");
            ensure!(
                item == "C049" || !found.iter().any(|href| href.contains("/v4/")),
                "{found:?}"
            );
            Ok(())
        });
    }
    checks.item("C051", || {
        admin.get("/ovirt-engine/api/v99/vms")?.expect(&[400]).map(drop)
    });
    checks.item("C052", || {
        ensure!(admin.get("/ovirt-engine/api/nosuch")?.expect(&[404])?.xml()?.name == "fault");
        Ok(())
    });
    checks.item("C053", || {
        let refused = admin.request("PATCH", "vms", &[], None)?.expect(&[405])?;
        let allowed = refused.header("allow").context("no Allow")?;
        ensure!(
            allowed.contains("GET") && allowed.contains("POST") && !allowed.contains("PUT"),
            "{allowed}"
        );
        ensure!(refused.xml()?.name == "fault");
        Ok(())
    });
    checks.item("C054", || {
        let head = admin.request("HEAD", "", &[], None)?.expect(&[200])?;
        ensure!(head.body.is_empty());
        let wanted = format!("<{}/ovirt-engine/api/vms>; rel=vms", scene.daemon.url());
        let links = head.header("link").context("no Link")?;
        ensure!(links.contains(&wanted), "{links}");
        Ok(())
    });
    checks.item("C055", || {
        for (method, path) in [
            ("GET", "nosuch"),
            ("PATCH", "vms"),
            ("GET", "vms/notauuid"),
            ("POST", "vms"),
        ] {
            let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
            let body = (method == "POST").then_some(b"{}".as_slice());
            let json = admin
                .request(method, path, &headers, body)?
                .expect(&[400, 404, 405])?
                .json()?;
            ensure!(
                json["reason"].is_string() && json["detail"].is_string(),
                "{method} {path}: {json}"
            );
        }
        Ok(())
    });
    checks.finish();
}

#[test]
fn bodies_arrive_in_every_way_that_http_has() {
    let scene = Scene::start().unwrap();
    let vm = Scene::vm(&scene.admin, "db1").unwrap();
    let url = scene.daemon.url();
    let host = url.trim_start_matches("http://");
    let head = format!(
        "POST /ovirt-engine/api/vms/{vm}/snapshots HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\n\
         Content-Type: application/xml\r\nConnection: close\r\n",
        basic()
    );
    let body = "<snapshot><description>in pieces</description></snapshot>";
    let mut checks = Checks::default();
    checks.item("C039", || {
        let (left, right) = body.split_at(20);
        let chunks = format!(
            "{:x}\r\n{left}\r\n{:x}\r\n{right}\r\n0\r\n\r\n",
            left.len(),
            right.len()
        );
        let answer = raw(
            url,
            &[format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes()],
        )?;
        ensure!(
            answer.starts_with("HTTP/1.1 202") && answer.contains("in pieces"),
            "{answer}"
        );
        Ok(())
    });
    scene
        .admin
        .wait_status(&format!("vms/{vm}"), "status", "down", Duration::from_secs(60))
        .unwrap();
    checks.item("C040", || {
        // Padding that is no part of the document makes it long.
        let body = format!("{body}{}", " ".repeat(100 << 10));
        let head = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
        let answer = raw(url, &[head.as_bytes(), body.as_bytes()])?;
        let last = answer
            .strip_prefix("HTTP/1.1 100 Continue\r\n\r\n")
            .context(answer.clone())?;
        if !(last.starts_with("HTTP/1.1 202") || last.starts_with("HTTP/1.1 201") || last.starts_with("HTTP/1.1 409")) {
            bail!("{answer}");
        }
        Ok(())
    });
    checks.finish();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn the_root_leads_to_everything() {
    let scene = Scene::start().unwrap();
    scene.furnish(&scene.admin, "db").unwrap();
    let admin = &scene.admin;
    let root = admin.get("").unwrap().expect(&[200]).unwrap().xml().unwrap();
    let href = |rel: &str| {
        root.all("link")
            .find(|link| link.attribute("rel") == Some(rel))
            .and_then(|l| l.attribute("href"))
    };
    let mut checks = Checks::default();
    checks.item("C056", || {
        let info = root.find("product_info").context("product_info")?;
        is(info.text_at("version/major"), "4")?;
        info.text_at("version/minor").context("minor")?.parse::<u32>()?;
        for member in ["name", "vendor", "version/full_version"] {
            ensure!(info.text_at(member).is_some_and(|text| !text.is_empty()), "{member}");
        }
        Ok(())
    });
    checks.item("C057", || {
        for rel in [
            "vms",
            "disks",
            "storagedomains",
            "imagetransfers",
            "jobs",
            "events",
            "datacenters",
            "clusters",
            "hosts",
            "templates",
            "users",
            "tags",
        ] {
            is(href(rel), &format!("/ovirt-engine/api/{rel}"))?;
        }
        Ok(())
    });
    checks.item("C058", || {
        is(href("vms/search"), "/ovirt-engine/api/vms?search={query}")
    });
    checks.item("C059", || {
        is(
            href("events/search"),
            "/ovirt-engine/api/events;from={event_id}?search={query}",
        )
    });
    checks.item("C060", || {
        for (kind, total) in [("hosts", "1"), ("storage_domains", "1"), ("users", "4"), ("vms", "1")] {
            is(root.text_at(&format!("summary/{kind}/total")), total)?;
            ensure!(root.text_at(&format!("summary/{kind}/active")).is_some(), "{kind}");
        }
        Ok(())
    });
    checks.item("C061", || {
        for (api, headers) in [(admin, &[("Filter", "true")][..]), (&scene.alice, &[][..])] {
            let root = api.request("GET", "", headers, None)?.expect(&[200])?.xml()?;
            ensure!(root.find("summary").is_none());
        }
        Ok(())
    });
    checks.item("C062", || {
        for path in ["special_objects/blank_template", "special_objects/root_tag"] {
            let thing = root.find(path).context(path)?;
            is(thing.attribute("id"), "00000000-0000-0000-0000-000000000000")?;
            admin.get(thing.attribute("href").context("href")?)?.expect(&[200])?;
        }
        Ok(())
    });
    checks.item("C063", || {
        let user = root
            .find("authenticated_user")
            .and_then(|user| user.attribute("href"))
            .context("href")?;
        is(admin.get(user)?.expect(&[200])?.xml()?.text_at("name"), "admin")
    });
    checks.item("C064", || {
        let plural = |rel: &str| {
            match rel {
                "storagedomains" => "storage_domains",
                "datacenters" => "data_centers",
                "vnicprofiles" => "vnic_profiles",
                "diskprofiles" => "disk_profiles",
                "operatingsystems" => "operating_systems",
                "instancetypes" => "instance_types",
                "vmpools" => "vm_pools",
                "affinitylabels" => "affinity_labels",
                "clusterlevels" => "cluster_levels",
                "imagetransfers" => "image_transfers",
                other => other,
            }
            .to_owned()
        };
        for link in root.all("link") {
            let rel = link.attribute("rel").context("rel")?;
            if rel.ends_with("/search") {
                continue;
            }
            let list = admin
                .get(link.attribute("href").context("href")?)?
                .expect(&[200])?
                .xml()?;
            ensure!(list.name == plural(rel), "{rel}: {}", list.name);
        }
        Ok(())
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}
