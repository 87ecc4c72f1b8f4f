//! The console's door, seen by a real browser and by plain HTTP: signing in and out, what a form must carry, what answers say to
//! browsers, the ways in.

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{
    Checks,
    browser::{Browser, Key},
};
use stillpoint_testkit::{Answer, Api, Daemon};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// Posts a form with a cookie and further headers.
fn post(api: &Api, path: &str, cookie: &str, more: &[(&str, &str)], body: &str) -> Result<Answer> {
    let mut headers = vec![FORM, ("Cookie", cookie)];
    headers.extend_from_slice(more);
    api.send("POST", path, &headers, Some(body.as_bytes()))
}

/// Signs in by hand; the session's cookie as a browser sends it.
fn session(api: &Api, user: &str) -> Result<String> {
    let body = format!("user={user}&password={user}-password");
    let answer = post(api, "/console/login", "", &[], &body)?.expect(&[303])?;
    let cookie = answer.header("set-cookie").context("a cookie")?;
    Ok(cookie.split(';').next().context("a value")?.to_owned())
}

/// The session's word, which its pages carry in their forms.
fn word(api: &Api, cookie: &str) -> Result<String> {
    let page = api
        .send("GET", "/console/", &[("Cookie", cookie)], None)?
        .expect(&[200])?
        .text();
    let (_, rest) = page.split_once("name=\"_word\" value=\"").context("a form")?;
    Ok(rest.split('"').next().context("a value")?.to_owned())
}

#[test]
fn a_visitor_signs_in_and_out_and_nobody_else_can_do_it_for_him() {
    let daemon = Daemon::start().unwrap();
    let api = Api::anonymous(daemon.url());
    let mut checks = Checks::default();
    plain_http(&mut checks, &api);
    checks.item("in a browser", || in_a_browser(&daemon, &api));
    checks.item("the log", || daemon.scan_log(&[]));
    checks.finish();
}

fn in_a_browser(daemon: &Daemon, api: &Api) -> Result<()> {
    let browser = Browser::start(daemon)?;
    // A deep link leads back after signing in, by keyboard alone; a wrong password keeps the name.
    browser.open("/console/?from=mail")?;
    browser.wait_place("/console/login")?;
    ensure!(browser.focused()? == "User", "{}", browser.focused()?);
    browser.looks("login")?;
    browser.keys("alice")?;
    browser.tab_to("Password")?;
    browser.keys("wrong" + Key::Enter)?;
    browser.wait_text("Wrong user name or password")?;
    ensure!(browser.value("User")? == "alice" && browser.value("Password")?.is_empty());
    ensure!(browser.focused()? == "Password", "{}", browser.focused()?);
    browser.accessible()?;
    browser.keys("alice-password" + Key::Enter)?;
    browser.wait_text("Sign out")?;
    ensure!(browser.place()? == "/console/?from=mail", "{}", browser.place()?);
    // The first stop of the keyboard leads past the navigation.
    browser.press(Key::Tab)?;
    ensure!(browser.focused()? == "Skip to the content", "{}", browser.focused()?);
    ensure!(
        browser.run("return document.cookie", &[])? == serde_json::json!(""),
        "scripts can read the session"
    );
    // Script that came in by a name would not run.
    browser.run(
        "const bad = document.createElement('script'); bad.textContent = 'window.bad = 1'; document.body.append(bad)",
        &[],
    )?;
    ensure!(browser.run("return window.bad === undefined", &[])? == serde_json::json!(true));
    ensure!(
        browser.quiet().is_err(),
        "the harness does not see what the policy forbids"
    );
    browser.allow("Content Security Policy");
    // Out: the page before is not shown again.
    browser.tab_to("Sign out")?;
    browser.press(Key::Enter)?;
    browser.wait_place("/console/login")?;
    browser.open("/console/")?;
    browser.wait_place("/console/login")?;
    // A session that ends elsewhere leads an open page to the door by itself.
    browser.sign_in("bob", "/console/")?;
    let cookie = browser.session_cookie("stillpoint_session")?;
    let ended = format!("_word={}", word(api, &cookie)?);
    post(api, "/console/logout", &cookie, &[], &ended)?.expect(&[303])?;
    browser.wait_place("/console/login")?;
    // What is no page.
    browser.sign_in("bob", "/console/nowhere")?;
    browser.wait_text("There is no such page")?;
    browser.accessible()?;
    browser.finish()
}

fn get(api: &Api, path: &str, cookie: &str) -> Result<Answer> {
    api.send("GET", path, &[("Cookie", cookie)], None)
}

fn plain_http(checks: &mut Checks, api: &Api) {
    checks.item("headers and cookie flags", || {
        for path in [
            "/console/",
            "/console/login",
            "/console/assets/style.css",
            "/console/nowhere",
        ] {
            let answer = get(api, path, "")?;
            let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
            let policy = header("content-security-policy");
            ensure!(
                policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
                "{path}: {policy}"
            );
            ensure!(
                policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
                "{path}: {policy}"
            );
            ensure!(header("x-content-type-options") == "nosniff", "{path}");
            ensure!(header("referrer-policy") == "same-origin", "{path}");
        }
        let body = "user=alice%40internal&password=alice-password";
        let answer = post(api, "/console/login", "", &[], body)?.expect(&[303])?;
        let cookie = answer.header("set-cookie").context("a cookie")?;
        ensure!(
            cookie.ends_with("; Path=/console; HttpOnly; SameSite=Strict"),
            "{cookie}"
        );
        ensure!(answer.header("location") == Some("/console/"));
        Ok(())
    });
    checks.item("no other place after signing in", || {
        for next in [
            "https://evil.example/",
            "//evil.example/",
            "/console//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
        ] {
            let next: String = next.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let body = format!("user=alice&password=alice-password&next={next}");
            let answer = post(api, "/console/login", "", &[], &body)?.expect(&[303])?;
            ensure!(
                answer.header("location") == Some("/console/"),
                "{next}: {:?}",
                answer.header("location")
            );
        }
        Ok(())
    });
    checks.item("forged forms", || forged_forms(api));
    checks.item("ways in", || ways_in(api));
}

fn forged_forms(api: &Api) -> Result<()> {
    let alice = session(api, "alice")?;
    let own = word(api, &alice)?;
    let foreign = word(api, &session(api, "bob")?)?;
    let host = [("Origin", "https://evil.example")];
    let good = format!("_word={own}");
    for (more, body) in [
        (&host[..], good.as_str()),
        (&[("Origin", "null")][..], &good),
        (&[], ""),
        (&[], "_word="),
        (&[], &format!("_word={foreign}")),
    ] {
        post(api, "/console/logout", &alice, more, body)?.expect(&[403])?;
    }
    let login = "user=alice&password=alice-password";
    post(api, "/console/login", "", &host, login)?.expect(&[403])?;
    let long = format!("_word={own}&fill={}", "x".repeat(300 << 10));
    post(api, "/console/logout", &alice, &[], &long)?.expect(&[400])?;
    get(api, "/console/", &alice)?.expect(&[200])?;
    // A stranger's form is not told why: he signs in.
    post(api, "/console/logout", "", &[], &good)?.expect(&[303])?;
    // A token of the API is none of the console's, and the other way round.
    let bearer = [("Authorization", alice.replace("stillpoint_session=", "Bearer "))];
    let bearer = bearer
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect::<Vec<_>>();
    api.send("GET", "/ovirt-engine/api/vms", &bearer, None)?
        .expect(&[401])?;
    Ok(())
}

fn ways_in(api: &Api) -> Result<()> {
    let browser = api.send("GET", "/", &[("Accept", "text/html,application/xhtml+xml")], None)?;
    ensure!(
        browser.status == 303 && browser.header("location") == Some("/console/"),
        "{browser:?}"
    );
    let program = api.send("GET", "/", &[("Accept", "*/*")], None)?.expect(&[200, 300])?;
    ensure!(program.json()?["versions"].is_array(), "{}", program.text());
    let whole = get(api, "/console", "")?.expect(&[303])?;
    ensure!(whole.header("location") == Some("/console/"));
    for (name, kind) in [
        ("style.css", "text/css; charset=utf-8"),
        ("console.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ] {
        let file = get(api, &format!("/console/assets/{name}"), "")?.expect(&[200])?;
        ensure!(
            file.header("content-type") == Some(kind) && !file.body.is_empty(),
            "{name}"
        );
    }
    get(api, "/console/assets/nothing", "")?.expect(&[404])?;
    Ok(())
}
