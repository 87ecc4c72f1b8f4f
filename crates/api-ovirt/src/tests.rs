//! The dialect's front with real users and real tokens: what is told before the core is asked.

use crate::{
    Access, Api, Certificates, Place, Settings, Shape,
    call::{Call, Visit},
    param::Params,
    router, routes,
    transfers::Tickets,
};
use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use std::{path::Path, sync::Arc};
use stillpoint_auth::{Auth, Bootstrap};
use stillpoint_engine::{Engine, command::Origin};
use stillpoint_store::Store;
use stillpoint_wire::{Dialect, Encoding};
use tower::ServiceExt as _;

const USERS: &str = r#"
[[project]]
name = "demo"

[[user]]
name = "admin"
password = "p w+ö&"
admin = true

[[user]]
name = "a@b"
password = "reader-secret"
  [[user.role]]
  project = "demo"
  role = "reader"

[[user]]
name = "carol"
password = "stranger-secret"
"#;
pub(crate) const PASSWORD: &str = "p w+ö&";
/// `admin@internal` and his password, as Basic credentials and as a form.
const FORM: &str = "grant_type=password&scope=ovirt-app-api&username=admin%40internal&password=p+w%2B%C3%B6%26";
const SNAPSHOTS: &str = "/ovirt-engine/api/vms/b0000000-0000-4000-8000-000000000001/snapshots";

/// The dialect over a real core, with a driver that may start QEMU and makes images with its tools.
pub(crate) struct Front {
    service: axum::Router,
    api: Api,
    pub(crate) plane: Arc<Tickets>,
    store: Store,
    folder: tempfile::TempDir,
}

/// An administrator's call, for tests of what handlers share.
pub(crate) async fn call() -> Call {
    let front = Front::new().await;
    let who = front.api.0.auth.login("admin@internal", PASSWORD).await.unwrap();
    let visit = Visit {
        api: front.api.clone(),
        route: routes().find(|route| route.name == "vms/list").unwrap(),
        base: "/ovirt-engine/api",
        given: Vec::new(),
        params: Params::default(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        dialect: Dialect::V4,
        encoding: Encoding::Xml,
        origin: Origin::default(),
    };
    Call { visit, who }
}

pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Front {
    pub(crate) fn engine(&self) -> &Engine {
        &self.api.0.engine
    }

    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("catalogue.db")).unwrap();
        let auth = Auth::open(store.clone(), &folder.path().join("keys/secret.key"))
            .await
            .unwrap();
        let users = Bootstrap::parse(USERS, &folder.path().join("bootstrap.toml")).unwrap();
        auth.apply_bootstrap(&users).await.unwrap();
        let settings = Settings {
            public_url: "https://kvm1.example.com".into(),
            certificates: Some(Certificates {
                ca_pem: "-----BEGIN CERTIFICATE-----\n".into(),
                server_pem: String::new(),
            }),
            default_dialect: Dialect::V4,
        };
        let plane = Arc::new(Tickets::default());
        let engine = engine(folder.path(), store.clone(), Arc::clone(&plane)).await;
        let api = Api::new(engine, auth, settings);
        Self {
            service: router(api.clone()),
            api,
            plane,
            store,
            folder,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the core, and starts another over the same data, with a data plane that knows nothing; the users stay.
    pub(crate) async fn restart(&mut self) {
        self.engine().stop(std::time::Duration::from_secs(10)).await;
        self.plane = Arc::new(Tickets::default());
        let engine = engine(self.folder.path(), self.store.clone(), Arc::clone(&self.plane)).await;
        let before = &self.api.0;
        self.api = Api::new(engine, before.auth.clone(), before.settings.clone());
        self.service = router(self.api.clone());
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response: Response<Body> = self
            .service
            .clone()
            .oneshot(request.body(body.into()).unwrap())
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answered {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Sends with an administrator's bearer token.
    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answered {
        let bearer = format!("Bearer {}", self.token(FORM).await);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body).await
    }

    async fn token_request(&self, form: &str) -> Answered {
        let headers = [
            ("accept", "application/json"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        self.send("POST", "/ovirt-engine/sso/oauth/token", &headers, form.to_owned())
            .await
    }

    async fn token(&self, form: &str) -> String {
        let answered = self.token_request(form).await;
        assert_eq!(answered.status, StatusCode::OK, "{}", answered.body);
        let json: serde_json::Value = serde_json::from_str(&answered.body).unwrap();
        assert_eq!(json["token_type"], "bearer");
        assert!(json["exp"].is_string());
        json["access_token"].as_str().unwrap().to_owned()
    }
}

async fn engine(folder: &Path, store: Store, plane: Arc<Tickets>) -> Engine {
    for part in ["images", "boot", "run"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let config = stillpoint_qemu::Config::new(folder.to_owned(), stillpoint_qemu::Accel::Tcg);
    let (qemu, _) = stillpoint_qemu::Qemu::new(config).await.unwrap();
    let images = stillpoint_qemu::images::LocalImages::new("qemu-img");
    let options = stillpoint_engine::Options::in_data_dir(folder);
    Engine::open(store, Arc::new(qemu), Arc::new(images), plane, options)
        .await
        .unwrap()
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A path of a route with an id in each place.
fn example(pattern: &str, place: Place) -> String {
    let root = match place {
        Place::Api => "/ovirt-engine/api",
        Place::Server => "/ovirt-engine",
    };
    let segments = pattern.split('/').map(|segment| {
        if segment.starts_with('{') {
            "b0000000-0000-4000-8000-000000000001"
        } else {
            segment
        }
    });
    format!("{root}{}", segments.collect::<Vec<_>>().join("/"))
}

#[tokio::test]
async fn no_route_answers_a_stranger_but_the_public_ones() {
    let front = Front::new().await;
    for route in routes() {
        let path = example(route.pattern, route.place);
        for credentials in [None, Some("Bearer unknown"), Some("Basic !!!"), Some("Negotiate x")] {
            let headers: Vec<_> = credentials.map(|value| ("authorization", value)).into_iter().collect();
            let answered = front.send(route.method.as_str(), &path, &headers, "").await;
            let name = route.name;
            if route.access == Access::Public {
                assert_ne!(answered.status, StatusCode::UNAUTHORIZED, "{name}");
                continue;
            }
            assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{name} {credentials:?}");
            assert_eq!(answered.header("www-authenticate"), "Basic realm=\"RESTAPI\"", "{name}");
            let inside = match route.shape {
                Shape::Action => "<action><fault>",
                Shape::Fault | Shape::Sso => "<fault><detail>",
            };
            assert!(answered.body.contains(inside), "{name}: {}", answered.body);
        }
    }
}

#[tokio::test]
async fn an_id_that_is_none_leads_nowhere_on_every_route() {
    let front = Front::new().await;
    let authorization = basic("admin@internal", PASSWORD);
    for route in routes().filter(|route| route.pattern.contains("{vm}") || route.pattern.contains("{disk}")) {
        let path = example(route.pattern, route.place).replace("b0000000-0000-4000-8000-000000000001", "..%2fetc");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/xml"),
        ];
        // A body that is fine for any of them, so that only the id is wrong.
        let body = match route.shape {
            Shape::Action => "<action/>",
            _ => "",
        };
        if matches!(route.method.as_str(), "POST" | "PUT") && body.is_empty() {
            continue;
        }
        let answered = front.send(route.method.as_str(), &path, &headers, body).await;
        assert_eq!(
            answered.status,
            StatusCode::NOT_FOUND,
            "{} {}",
            route.name,
            answered.body
        );
    }
}

#[tokio::test]
async fn a_token_is_got_used_and_ended() {
    let front = Front::new().await;
    let token = front.token(FORM).await;
    let bearer = format!("Bearer {token}");
    let tags = "/ovirt-engine/api/tags";
    let answered = front.send("GET", tags, &[("authorization", &bearer)], "").await;
    assert_eq!(answered.status, StatusCode::OK, "{}", answered.body);
    assert!(answered.body.contains("<tags><tag "));
    let info = format!("token={token}&scope=ovirt-ext=token-info:validate");
    let checked = front
        .send("POST", "/ovirt-engine/sso/oauth/token-info", &[], info.clone())
        .await;
    assert_eq!((checked.status, checked.body.as_str()), (StatusCode::OK, "{}"));
    let logout = format!("scope=&token={token}");
    for _ in 0..2 {
        let ended = front
            .send("POST", "/ovirt-engine/services/sso-logout", &[], logout.clone())
            .await;
        assert_eq!((ended.status, ended.body.as_str()), (StatusCode::OK, "{}"));
    }
    let answered = front.send("GET", tags, &[("authorization", &bearer)], "").await;
    assert_eq!(answered.status, StatusCode::UNAUTHORIZED);
    let checked = front
        .send("POST", "/ovirt-engine/sso/oauth/token-info", &[], info)
        .await;
    assert_eq!(checked.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_refused_login_says_why_in_the_form_that_clients_read() {
    let front = Front::new().await;
    let cases = [
        (FORM.replace("p+w", "x"), "access_denied"),
        (FORM.replace("=password&", "=foo&"), "unsupported_grant_type"),
        (FORM.replace("grant_type=password&", ""), "invalid_request"),
        (FORM.replace("username", "user"), "invalid_request"),
        (FORM.replace("scope=ovirt-app-api&", ""), "invalid_request"),
    ];
    for (form, code) in cases {
        let answered = front.token_request(&form).await;
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{form}");
        assert_eq!(answered.header("content-type"), "application/json");
        let json: serde_json::Value = serde_json::from_str(&answered.body).unwrap();
        assert_eq!(json["error_code"], code, "{form}");
        assert!(json["error"].is_string());
    }
    let html = [("accept", "text/html")];
    let answered = front.send("POST", "/ovirt-engine/sso/oauth/token", &html, FORM).await;
    assert!(answered.body.contains("invalid_request"));
    let url = format!("/ovirt-engine/sso/oauth/token?{FORM}");
    let answered = front.send("GET", &url, &[("accept", "*/*")], "").await;
    assert_eq!(answered.status, StatusCode::OK, "plain tools ask so");
    let user = FORM.replace("admin%40internal", "a%40b@internal");
    front.token(&user.replace("p+w%2B%C3%B6%26", "reader-secret")).await;
    let huge = format!("{FORM}&x={}", "y".repeat(20_000));
    assert_eq!(front.token_request(&huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_token_for_something_else_does_not_open_the_api() {
    let front = Front::new().await;
    let token = front.token(&FORM.replace("ovirt-app-api", "openid")).await;
    let bearer = format!("Bearer {token}");
    let answered = front
        .send("GET", "/ovirt-engine/api/tags", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(answered.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_lives_in_its_cookie_as_long_as_the_client_prefers_it() {
    let front = Front::new().await;
    let (tags, authorization) = ("/ovirt-engine/api/tags", basic("admin@internal", PASSWORD));
    let once = front.send("GET", tags, &[("authorization", &authorization)], "").await;
    assert_eq!((once.status, once.header("set-cookie")), (StatusCode::OK, ""));
    let login = |prefer: &'static str| {
        let (front, authorization) = (&front, authorization.as_str());
        async move {
            let headers = [("authorization", authorization), ("prefer", prefer)];
            let answered = front.send("GET", tags, &headers, "").await;
            let cookie = answered.header("set-cookie").to_owned();
            assert!(
                cookie.contains("; Path=/ovirt-engine/api; HttpOnly; Secure"),
                "{cookie}"
            );
            cookie.split(';').next().unwrap().to_owned()
        }
    };
    let cookie = login("persistent-auth").await;
    let persistent = [("cookie", cookie.as_str()), ("prefer", "persistent-auth")];
    assert_eq!(front.send("GET", tags, &persistent, "").await.status, StatusCode::OK);
    let id = cookie.split_once('=').unwrap().1;
    let bearer = format!("Bearer {id}");
    let answered = front.send("GET", tags, &[("authorization", &bearer)], "").await;
    assert_eq!(
        answered.status,
        StatusCode::UNAUTHORIZED,
        "a session is no bearer token"
    );
    let answered = front.send("GET", tags, &persistent[..1], "").await;
    assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "not preferred any more");
    let answered = front.send("GET", tags, &persistent, "").await;
    assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "and thereby ended");

    let cookie = login("persistent-auth, csrf-protection").await;
    let id = cookie.split_once('=').unwrap().1;
    let mut headers = vec![("cookie", cookie.as_str()), ("prefer", "persistent-auth")];
    let answered = front.send("GET", tags, &headers, "").await;
    assert_eq!(answered.status, StatusCode::FORBIDDEN, "forged");
    headers.push(("jsessionid", id));
    assert_eq!(front.send("GET", tags, &headers, "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_refusal_has_a_body_in_the_encoding_that_was_asked_for() {
    let front = Front::new().await;
    let xml = ("content-type", "application/xml");
    let cases = [
        ("GET", "/ovirt-engine/api/nosuch", ("x-a", "b"), "", 404),
        ("GET", "/ovirt-engine", ("x-a", "b"), "", 404),
        ("GET", "/ovirt-engine/%ff;=/..", ("x-a", "b"), "", 404),
        ("PATCH", "/ovirt-engine/api/vms", ("x-a", "b"), "", 405),
        ("GET", "/ovirt-engine/api/v99/vms", ("x-a", "b"), "", 400),
        ("GET", "/ovirt-engine/api/v4/vms", ("version", "3"), "", 400),
        ("GET", "/ovirt-engine/api/vms", ("version", "99"), "", 400),
        ("POST", SNAPSHOTS, ("content-type", "text/plain"), "x", 415),
        ("POST", SNAPSHOTS, xml, "<snapshot><description>", 400),
        ("POST", SNAPSHOTS, xml, "<vm/>", 400),
        ("POST", SNAPSHOTS, xml, "<snapshot/>", 400),
        ("POST", SNAPSHOTS, ("content-type", "application/json"), "{", 400),
        ("GET", "/ovirt-engine/api/vms?search=nosuch%3E1", ("x-a", "b"), "", 400),
        (
            "GET",
            "/ovirt-engine/api/vms/b0000000-0000-4000-8000-000000000001?follow=nosuch",
            ("x-a", "b"),
            "",
            400,
        ),
    ];
    for (method, path, header, body, status) in cases {
        let answered = front.call(method, path, &[header], body).await;
        assert_eq!(answered.status.as_u16(), status, "{method} {path}: {}", answered.body);
        assert_eq!(answered.header("content-type"), "application/xml", "{path}");
        assert!(answered.body.contains("<fault><detail>"), "{path}: {}", answered.body);
        let json = front
            .call(method, path, &[header, ("accept", "application/json")], body)
            .await;
        assert_eq!(json.status.as_u16(), status);
        let fault: serde_json::Value = serde_json::from_str(&json.body).unwrap();
        assert!(fault["reason"].is_string() && fault["detail"].is_string(), "{path}");
    }
    let answered = front
        .call("GET", "/ovirt-engine/api/tags", &[("accept", "text/csv")], "")
        .await;
    assert_eq!(answered.status, StatusCode::NOT_ACCEPTABLE);
    assert!(answered.body.contains("<fault>"));
}

#[tokio::test]
async fn a_refusal_names_what_is_wrong_as_clients_expect_it() {
    let front = Front::new().await;
    let post = |body: &'static str| {
        let front = &front;
        async move {
            front
                .call("POST", SNAPSHOTS, &[("content-type", "application/xml")], body)
                .await
                .body
        }
    };
    let incomplete = post("<snapshot><persist_memorystate>False</persist_memorystate></snapshot>").await;
    assert!(
        incomplete.contains("<detail>Snapshot [description] required for add</detail>"),
        "{incomplete}"
    );
    assert!(incomplete.contains("<reason>Incomplete parameters</reason>"));
    let malformed = post("<snapshot><description>").await;
    assert!(malformed.contains("https://kvm1.example.com/ovirt-engine/apidoc#services/snapshots/methods/add"));
    assert!(malformed.contains("<reason>Request syntactically incorrect.</reason>"));
    let value =
        post("<snapshot><description>x</description><persist_memorystate>maybe</persist_memorystate></snapshot>");
    assert!(value.await.contains("<reason>Invalid value</reason>"));
    let bomb = post("<!DOCTYPE s [<!ENTITY e 'boom'>]><snapshot><description>&e;</description></snapshot>").await;
    assert!(bomb.contains("syntactically") && !bomb.contains("boom"), "{bomb}");
    let choice =
        "<snapshot><description>x</description><disk_attachments><disk_attachment/></disk_attachments></snapshot>";
    assert!(post(choice).await.contains("DiskAttachment [disk.id] required for add"));
    let id = "<snapshot><description>x</description><disk_attachments><disk_attachment><disk id=\"../x\"/></disk_attachment></disk_attachments></snapshot>";
    assert!(post(id).await.contains("is not a valid id"));
    let answered = front
        .call(
            "PUT",
            &format!("{SNAPSHOTS}/{}", &SNAPSHOTS[22..58]),
            &[],
            "<snapshot/>",
        )
        .await;
    assert_eq!(answered.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answered.header("allow"), "GET, DELETE, HEAD");
}

#[tokio::test]
async fn a_body_is_bounded_whether_or_not_its_length_is_told() {
    let front = Front::new().await;
    let xml = [("content-type", "application/xml")];
    let large = format!(
        "<snapshot><description>{}</description></snapshot>",
        "x".repeat(1 << 20)
    );
    let told = front.call("POST", SNAPSHOTS, &xml, large.clone()).await;
    assert_eq!(told.status, StatusCode::PAYLOAD_TOO_LARGE);
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = large.as_bytes().chunks(1000).map(|c| Ok(c.to_vec())).collect();
    let chunked = Body::from_stream(futures_util::stream::iter(pieces));
    let chunked = front.call("POST", SNAPSHOTS, &xml, chunked).await;
    assert_eq!(chunked.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(chunked.body.contains("<fault>"));
}

#[tokio::test]
async fn answers_carry_the_correlation_id_and_fit_the_request() {
    let front = Front::new().await;
    let systems = "/ovirt-engine/api/operatingsystems";
    let plain = front.call("GET", systems, &[("correlation-id", "a b/c")], "").await;
    assert_eq!(plain.header("correlation-id"), "abc");
    let head = front.call("HEAD", systems, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
    assert_eq!(head.header("correlation-id").len(), 36);
    let json = front
        .call("GET", &format!("{systems};max=1?accept=application/json"), &[], "")
        .await;
    let list: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!(list["operating_system"].as_array().unwrap().len(), 1);
    let found = front
        .call("GET", &format!("{systems}?search=name%3Drhel*"), &[], "")
        .await;
    assert_eq!(found.body.matches("<operating_system ").count(), 2);
    let pinned = front
        .call("GET", "/ovirt-engine/api/v4//operatingsystems/", &[], "")
        .await;
    let hrefs = pinned.body.matches("href=\"").count();
    assert_eq!(pinned.body.matches("href=\"/ovirt-engine/api/v4/").count(), hrefs);
    assert_eq!(
        plain.body.matches("href=\"/ovirt-engine/api/operatingsystems/").count(),
        hrefs
    );
    let none = front
        .call("GET", "/ovirt-engine/api/vmpools?search=&follow=", &[], "")
        .await;
    assert!(none.body.ends_with("<vm_pools/>"));
}

#[tokio::test]
async fn the_ca_is_given_to_anybody() {
    let front = Front::new().await;
    let resource = "/ovirt-engine/services/pki-resource";
    let ca = front
        .send(
            "GET",
            &format!("{resource}?resource=ca-certificate&format=X509-PEM-CA"),
            &[],
            "",
        )
        .await;
    assert_eq!(ca.status, StatusCode::OK);
    assert_eq!(ca.headers[header::CONTENT_TYPE], "application/x-x509-ca-cert");
    assert!(ca.body.starts_with("-----BEGIN CERTIFICATE-----"));
    for bad in ["", "?resource=nope", "?resource=ca-certificate&format=nope"] {
        let answered = front.send("GET", &format!("{resource}{bad}"), &[], "").await;
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let health = front.send("GET", "/ovirt-engine/services/health", &[], "").await;
    assert_eq!(health.status, StatusCode::OK);
}
