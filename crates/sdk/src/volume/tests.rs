//! What is sent and read, without a server. Against one: `tests/tests/rust_sdk.rs`, `tests/tests/cli/`.

use super::{answer, builder::Scope, builder::Who, login};
use crate::Error;
use http::StatusCode;
use secrecy::SecretString;
use serde_json::json;

#[test]
fn a_fault_is_understood_in_each_service_s_form() {
    for (body, reason, detail) in [
        (
            json!({"badRequest": {"code": 400, "message": "busy"}}),
            Some("badRequest:"),
            Some("busy"),
        ),
        (
            json!({"error": {"code": 409, "title": "Conflict", "message": "taken"}}),
            Some("Conflict:"),
            Some("taken"),
        ),
        (
            json!({"message": "nowhere", "code": "404 Not Found", "title": "Not Found"}),
            Some("Not Found:"),
            Some("nowhere"),
        ),
        (json!("a proxy's words"), None, None),
    ] {
        let error = answer::refusal("GET /x", StatusCode::BAD_REQUEST, body.to_string().as_bytes());
        let refusal = error.refusal().unwrap();
        assert_eq!(
            (refusal.reason.as_deref(), refusal.detail.as_deref()),
            (reason, detail),
            "{body}"
        );
    }
    let not_json = answer::refusal("GET /x", StatusCode::NOT_FOUND, b"<html>");
    assert!(matches!(not_json, Error::NotFound(_)), "{not_json:?}");
}

#[test]
fn a_login_says_its_scope_and_finds_its_service() {
    let who = Who::Password("alice".into(), SecretString::from("secret"));
    let scope = |scope| login::body(&who, "Default", &scope)["auth"]["scope"].clone();
    assert_eq!(scope(Scope::Default), json!(null));
    assert_eq!(
        scope(Scope::Project("demo".into())),
        json!({"project": {"name": "demo", "domain": {"name": "Default"}}})
    );
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(scope(Scope::Project(id.into())), json!({"project": {"id": id}}));
    assert_eq!(scope(Scope::System), json!({"system": {"all": true}}));

    let endpoints =
        |url: &str| json!([{"interface": "admin", "url": "http://no"}, {"interface": "public", "url": url}]);
    let answer = json!({"token": {
        "user": {"id": "1", "name": "alice", "domain": {"id": "default"}},
        "project": {"id": "2", "name": "demo"},
        "roles": [{"id": "3", "name": "member"}],
        "catalog": [
            {"type": "volumev2", "endpoints": endpoints("http://h/v2/2")},
            {"type": "volumev3", "endpoints": endpoints("http://h/v3/2/")},
        ],
    }});
    let login = login::read("POST /auth/tokens", SecretString::from("t"), answer).unwrap();
    assert_eq!(login.volume_url.as_deref(), Some("http://h/v3/2"));
    assert_eq!(login.roles, ["member"]);
    let nothing = login::read("POST /auth/tokens", SecretString::from("t"), json!({"token": {}}));
    assert!(matches!(nothing, Err(Error::Protocol { .. })));
}
