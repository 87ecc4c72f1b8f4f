//! Who may use which route of the volume API and its identity service: every route of the table, with every kind of token.
//!
//! Made from the table itself, so that no route can be forgotten. Refusals come before anything is looked at, so no thing has to be
//! there; what is visible to whom is `identity.rs`'s, and that of each dialect's own tests. Numbers with a K are those of the
//! volume contract's checklist.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use stillpoint_api_volume::{Access, Family, Route, routes};
use stillpoint_system_tests::Checks;
use stillpoint_system_tests::volume::{ask_token, token_of};
use stillpoint_testkit::{Answer, Api, Daemon};

const DEMO: &str = "d0000000000000000000000000000001";
const OTHER: &str = "d0000000000000000000000000000002";
/// Fits wherever an id is given.
const NOTHING: &str = "5aa119a8-d25b-45a7-8d1b-88e127885635";

struct Tokens {
    member: String,
    reader: String,
    elsewhere: String,
    unscoped: String,
    revoked: String,
}

fn login(api: &Api, user: &str, scope: &Value) -> Result<String> {
    token_of(ask_token(api, "/v3/auth/tokens?nocatalog", user, scope)?)
}

fn path(route: &Route, project: &str) -> String {
    let segments = route.pattern.split('/').map(|segment| match segment {
        "{project}" => project,
        // A quota's project: the token's own, the only one whose quota everybody sees.
        "{of}" => DEMO,
        segment if segment.starts_with('{') => NOTHING,
        segment => segment,
    });
    let below: Vec<_> = segments.collect();
    format!("{}{}", route.family.root(), below.join("/"))
}

fn send(api: &Api, route: &Route, project: &str, token: Option<&str>) -> Result<Answer> {
    let headers: Vec<_> = token.map(|token| ("X-Auth-Token", token)).into_iter().collect();
    let has_body = !matches!(route.method.as_str(), "GET" | "DELETE");
    let answer = api.send(
        route.method.as_str(),
        &path(route, project),
        &headers,
        Some(b"{}".as_slice()).filter(|_| has_body),
    )?;
    let id = answer.header("x-openstack-request-id").unwrap_or_default();
    ensure!(id.starts_with("req-"), "no request id");
    if route.family == Family::Cinder {
        ensure!(
            answer.header("openstack-api-version") == Some("volume 3.0"),
            "no version"
        );
    }
    Ok(answer)
}

/// What each kind of token may not do at all on a route.
fn check(api: &Api, tokens: &Tokens, route: &Route) -> Result<()> {
    let refused = |project: &str, token: Option<&str>, status: u16| -> Result<()> {
        let answer = send(api, route, project, token)?;
        ensure!(
            answer.status == status,
            "{status} expected: {} {}",
            answer.status,
            answer.text()
        );
        let body = answer.json()?;
        match (route.family, status) {
            (Family::Cinder, 403) => ensure!(body["forbidden"]["code"] == 403, "{body}"),
            (Family::Cinder, 400) => ensure!(body["badRequest"]["code"] == 400, "{body}"),
            (Family::Evs, _) => ensure!(
                body["error"]["code"].as_str().is_some_and(|c| c.starts_with("EVS.")),
                "{body}"
            ),
            _ => ensure!(body["error"]["code"] == status, "{body}"),
        }
        if status == 401 {
            ensure!(answer.header("www-authenticate").is_some(), "no WWW-Authenticate");
        }
        Ok(())
    };
    if route.access == Access::Public {
        let answer = send(api, route, DEMO, None)?;
        ensure!(answer.status != 401 && answer.status != 403, "{}", answer.status);
        return Ok(());
    }
    for token in [None, Some("never-issued"), Some(tokens.revoked.as_str())] {
        refused(DEMO, token, 401)?;
    }
    let has_project = route.pattern.contains("{project}");
    if has_project {
        // Another project's id in the URL is a wrong URL, whatever is there.
        refused(DEMO, Some(&tokens.elsewhere), 400)?;
        refused(OTHER, Some(&tokens.member), 400)?;
    }
    match route.access {
        Access::Admin => {
            for token in [&tokens.member, &tokens.reader] {
                refused(DEMO, Some(token), 403)?;
            }
            refused(DEMO, Some(&tokens.unscoped), 403)?;
        }
        Access::Operate => {
            refused(DEMO, Some(&tokens.reader), 403)?;
            refused(DEMO, Some(&tokens.unscoped), 403)?;
        }
        Access::Read => {
            refused(DEMO, Some(&tokens.unscoped), 403)?;
            let answer = send(api, route, DEMO, Some(&tokens.reader))?;
            ensure!(
                answer.status != 401 && answer.status != 403,
                "{} {}",
                answer.status,
                answer.text()
            );
            let is_plain = route.pattern.matches('{').count() == 1 && has_project;
            if is_plain && route.pattern.ends_with("/snapshots") {
                ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
            }
        }
        Access::AnyUser | Access::Public => {}
    }
    Ok(())
}

#[test]
fn every_route_refuses_whom_its_row_does_not_let_in() {
    let daemon = Daemon::start().unwrap();
    let api = Api::anonymous(daemon.url());
    let demo = json!({"project": {"id": DEMO}});
    let tokens = Tokens {
        member: login(&api, "alice", &demo).unwrap(),
        reader: login(&api, "bob", &demo).unwrap(),
        elsewhere: login(&api, "mallory", &json!({"project": {"id": OTHER}})).unwrap(),
        unscoped: login(&api, "admin", &json!("unscoped")).unwrap(),
        revoked: login(&api, "alice", &demo).unwrap(),
    };
    let own = [
        ("X-Auth-Token", &*tokens.revoked),
        ("X-Subject-Token", &*tokens.revoked),
    ];
    api.send("DELETE", "/identity/v3/auth/tokens", &own, None)
        .and_then(|answer| answer.expect(&[204]))
        .unwrap();
    let mut checks = Checks::default();
    for route in routes() {
        checks.item(&format!("K14 K20 K30 K31 {route:?}"), || check(&api, &tokens, route));
    }
    checks.finish();
}
