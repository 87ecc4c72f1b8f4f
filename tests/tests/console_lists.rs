//! The console's lists and what hangs on them, in a real browser: found, paged and acted on by keyboard or click, readable for
//! everybody, in light and dark and on a phone; and closed to those whom it does not concern.

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{
    Checks, Scene, Things,
    browser::{Browser, Key},
};

const MANY: usize = 52;

#[test]
fn lists_are_searched_paged_and_acted_on() {
    let scene = Scene::start().unwrap();
    let browser = Browser::start(&scene.daemon).unwrap();
    let mut checks = Checks::default();
    checks.item("the first step", || first_step(&browser));
    let own = scene.furnish(&scene.alice, "willow").unwrap();
    let foreign = scene.furnish(&scene.mallory, "zebra").unwrap();
    checks.item("what is not for the visitor", || {
        closed(&scene, &browser, &own, &foreign)
    });
    checks.item("disks", || disks(&browser, &own));
    checks.item("volumes", || volumes(&browser, &own));
    checks.item("events", || events(&browser));
    checks.item("dialects", || dialects(&browser, &own));
    checks.item("machines", || machines(&scene, &browser));
    checks.item("account", || account(&browser));
    checks.item("users", || users(&browser));
    checks.item("storage", || storage(&browser));
    checks.item("the browser", || browser.finish());
    checks.item("the log", || scene.daemon.scan_log(&[]));
    checks.finish();
}

fn leave(browser: &Browser) -> Result<()> {
    browser.click("Sign out")?;
    browser.wait_place("/console/login")
}

/// Who begins is told what to do; who may not is told whom to ask.
fn first_step(browser: &Browser) -> Result<()> {
    browser.sign_in("alice", "/console/")?;
    browser.wait_text("No virtual machine yet")?;
    browser.looks("first-step")?;
    browser.tab_to("Make the first one")?;
    browser.press(Key::Enter)?;
    browser.wait_place("/console/vms/new")?;
    leave(browser)
}

fn status_of(scene: &Scene, cookie: &str, path: &str) -> Result<u16> {
    Ok(scene.admin.send("GET", path, &[("Cookie", cookie)], None)?.status)
}

/// Readers read; foreign things are not there; what is an administrator's is refused.
fn closed(scene: &Scene, browser: &Browser, own: &Things, foreign: &Things) -> Result<()> {
    browser.sign_in("bob", "/console/")?;
    let cookie = browser.session_cookie("stillpoint_session")?;
    let disk = &own.loose_disk;
    for (path, wanted) in [
        (format!("/console/disks/{disk}"), 200),
        (format!("/console/disks/{disk}/extend"), 403),
        (format!("/console/disks/{disk}/delete"), 403),
        ("/console/disks/new".to_owned(), 403),
        (format!("/console/volumes/{disk}/snapshots/new"), 403),
        ("/console/users/new".to_owned(), 403),
        ("/console/projects/new".to_owned(), 403),
        (format!("/console/dialects/vm/{}", own.vm), 200),
        (format!("/console/disks/{}", foreign.disk), 404),
        (format!("/console/disks/{}/delete", foreign.disk), 404),
        (format!("/console/volumes/{}", foreign.disk), 404),
        (format!("/console/volumes/{}/snapshots/new", foreign.disk), 404),
        (format!("/console/dialects/vm/{}", foreign.vm), 404),
        (format!("/console/dialects/disk/{}", foreign.disk), 404),
        (
            format!("/console/dialects/snapshot/{}/{}", foreign.vm, foreign.snapshot),
            404,
        ),
        (
            format!("/console/dialects/snapshot/{}/{}", own.vm, foreign.snapshot),
            404,
        ),
        ("/console/disks/nonsense".to_owned(), 404),
        (format!("/console/users/{}", foreign.vm), 404),
    ] {
        let found = status_of(scene, &cookie, &path)?;
        ensure!(found == wanted, "{path}: {found}, not {wanted}");
    }
    // Nothing of the other project in any list.
    for path in ["", "disks", "volumes", "events", "storage"] {
        let page = scene
            .admin
            .send("GET", &format!("/console/{path}"), &[("Cookie", &cookie)], None)?;
        let text = page.expect(&[200])?.text();
        ensure!(text.contains("willow"), "{path} shows nothing");
        let secret = foreign.secrets().into_iter().find(|secret| text.contains(secret));
        ensure!(secret.is_none(), "{path} tells of {secret:?}");
    }
    // A form that he cannot see is refused, too, and changes nothing.
    let word = browser.run("return document.querySelector('[name=_word]').value", &[])?;
    let body = format!("_word={}", word.as_str().context("a word")?);
    let headers = [
        ("Cookie", cookie.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = scene.admin.send(
        "POST",
        &format!("/console/disks/{disk}/delete"),
        &headers,
        Some(body.as_bytes()),
    )?;
    ensure!(answer.status == 403, "{}", answer.status);
    scene.alice.get(&format!("disks/{disk}"))?.expect(&[200])?;
    leave(browser)
}

fn disks(browser: &Browser, own: &Things) -> Result<()> {
    browser.sign_in("alice", "/console/")?;
    browser.click("Disks")?;
    browser.wait_text("willow-disk1")?;
    browser.looks("disks")?;
    // By keyboard: what is typed is found, and stays typed.
    browser.fill("Name, description or virtual machine", "LOOSE")?;
    browser.press(Key::Enter)?;
    browser.wait_gone("willow-disk1")?;
    ensure!(browser.value("Name, description or virtual machine")? == "LOOSE");
    browser.click("willow-loose")?;
    browser.wait_place(&format!("/console/disks/{}", own.loose_disk))?;
    // A form that fails keeps what was typed, and says why.
    browser.tab_to("Extend")?;
    browser.press(Key::Enter)?;
    browser.fill("New size in GiB", "much")?;
    browser.press(Key::Enter)?;
    browser.wait_text("is no whole number of GiB")?;
    ensure!(browser.value("New size in GiB")? == "much");
    browser.looks("disk-extend")?;
    browser.fill("New size in GiB", "2")?;
    browser.press(Key::Enter)?;
    browser.wait_text("The disk is being extended.")?;
    // Live: the page shows it without being asked.
    browser.wait_text("2 GiB (2147483648 bytes)")?;
    browser.open(&format!("/console/disks/{}", own.disk))?;
    browser.wait_text("willow snapshot")?;
    browser.looks("disk")?;
    // One that is in use is not deleted, and says so; a free one goes.
    browser.click("Delete")?;
    browser.click("Delete the disk")?;
    browser.wait("the reason", |browser| browser.has("p.error[role=alert]"))?;
    browser.open("/console/disks/new")?;
    browser.fill("Name", "brief")?;
    browser.fill("Size in GiB", "1")?;
    browser.press(Key::Enter)?;
    browser.wait_text("The disk is being made.")?;
    browser.wait("the disk", |browser| Ok(browser.text("#disk .card")?.starts_with("ok")))?;
    browser.click("Delete")?;
    browser.click("Delete the disk")?;
    browser.wait_place("/console/disks")?;
    browser.wait_text("Disk brief is being deleted.")?;
    browser.wait("the row to go", |browser| {
        Ok(!browser.text("#disks")?.contains("brief"))
    })
}

fn volumes(browser: &Browser, own: &Things) -> Result<()> {
    browser.click("Volumes")?;
    browser.wait_text("willow-loose")?;
    browser.looks("volumes")?;
    browser.click("willow-loose")?;
    browser.click("Take a snapshot")?;
    browser.fill("Name", "before")?;
    browser.press(Key::Enter)?;
    browser.wait_text("The snapshot is being taken.")?;
    browser.wait("it to be there", |browser| {
        Ok(browser.text("#volume table")?.contains("available"))
    })?;
    browser.looks("volume")?;
    browser.click("Revert to before")?;
    browser.wait_text("What was written to the volume after its newest snapshot")?;
    browser.looks("volume-revert")?;
    browser.click("Revert the volume")?;
    browser.wait_text("The volume is being brought back.")?;
    browser.wait("it to be free again", |browser| {
        Ok(browser.text("#volume .card")?.starts_with("available"))
    })?;
    browser.click("Delete before")?;
    browser.click("Delete the snapshot")?;
    browser.wait_text("None yet.")?;
    // A member of a VM's snapshot leads there.
    browser.open(&format!("/console/volumes/{}", own.disk))?;
    browser.wait_text("Snapshot of the virtual machine")
}

fn events(browser: &Browser) -> Result<()> {
    browser.click("Events")?;
    browser.wait_text("willow")?;
    browser.looks("events")?;
    let all = browser.texts("#events tbody tr")?.len();
    browser.fill("Virtual machine", "willow-vm")?;
    browser.press(Key::Enter)?;
    browser.wait_place("/console/events")?;
    browser.wait("fewer events", |browser| {
        let shown = browser.texts("#events tbody tr")?.len();
        Ok(shown > 0 && shown < all)
    })?;
    browser.open("/console/events?severity=alert")?;
    browser.wait_text("Nothing fits what you look for.")?;
    browser.accessible()
}

fn dialects(browser: &Browser, own: &Things) -> Result<()> {
    let documents = |browser: &Browser| browser.texts(".dialects pre[aria-label^='The document']");
    browser.open(&format!("/console/dialects/disk/{}", own.disk))?;
    let of_disk = documents(browser)?;
    ensure!(of_disk.len() == 4, "{of_disk:#?}");
    for (document, mark) in of_disk
        .iter()
        .zip(["<disk ", "<disk ", "\"volume\": {", "\"volume\": {"])
    {
        ensure!(document.contains(mark) && document.contains(&own.disk), "{document}");
    }
    ensure!(!browser.has(".dialects p.error")?, "an API refused");
    browser.looks("dialects-disk")?;
    browser.open(&format!("/console/dialects/vm/{}", own.vm))?;
    ensure!(documents(browser)?.len() == 2);
    browser.wait_text("have no word for a virtual machine")?;
    browser.looks("dialects-vm")?;
    browser.open(&format!("/console/dialects/snapshot/{}/{}", own.vm, own.snapshot))?;
    let of_snapshot = documents(browser)?;
    ensure!(
        of_snapshot.len() == 6,
        "two documents of oVirt, two of each disk: {of_snapshot:#?}"
    );
    ensure!(!browser.has(".dialects p.error")?, "an API refused");
    browser.accessible()?;
    // The commands say where the password goes, and nothing secret.
    let commands = browser.texts(".dialects pre.command")?;
    ensure!(
        commands.iter().all(|command| command.contains("PASSWORD")),
        "{commands:#?}"
    );
    leave(browser)
}

/// More machines than a page has; searched; all without a script, too.
fn machines(scene: &Scene, browser: &Browser) -> Result<()> {
    for number in 0..MANY {
        let body = format!("<vm><name>pine-{number:02}</name><memory>33554432</memory></vm>");
        scene.alice.post("vms", &body)?.expect(&[201, 202])?;
    }
    browser.sign_in("alice", "/console/")?;
    browser.wait_text("pine-00")?;
    browser.looks("machines")?;
    browser.tab_to("Next page")?;
    browser.press(Key::Enter)?;
    browser.wait_text("willow-vm")?;
    ensure!(!browser.text("body")?.contains("pine-00"), "the first page again");
    browser.click("First page")?;
    browser.fill("Name, description or disk", "pine-1*7")?;
    browser.fill("Status", "down")?;
    browser.click("Search")?;
    browser.wait_text("pine-17")?;
    ensure!(browser.texts("#vms tbody tr")?.len() == 1);
    browser.fill("Name, description or disk", "nothing of that name")?;
    browser.press(Key::Enter)?;
    browser.wait_text("Nothing fits what you look for.")?;
    leave(browser)
}

/// A member has his own account alone: password and keys.
fn account(browser: &Browser) -> Result<()> {
    browser.sign_in("mallory", "/console/")?;
    browser.click("Account")?;
    browser.wait_text("mallory@internal")?;
    ensure!(!browser.text("body")?.contains("Disable"), "a member may disable");
    browser.click("New key")?;
    browser.fill("Name", "nightly backup")?;
    browser.press(Key::Enter)?;
    browser.wait_text("it is not shown again")?;
    let secret = browser.text("pre[aria-label=Secret]")?;
    ensure!(secret.len() > 40, "{secret}");
    browser.accessible()?;
    browser.click("I have copied it")?;
    browser.wait_text("nightly backup")?;
    ensure!(
        !browser
            .run("return document.documentElement.outerHTML", &[])?
            .to_string()
            .contains(&secret)
    );
    browser.looks("account")?;
    browser.click("Delete key nightly backup")?;
    browser.click("Delete the key")?;
    browser.wait_text("Key nightly backup is deleted.")?;
    browser.click("Change the password")?;
    browser.fill("Present password", "wrong")?;
    browser.fill("New password", "better-password")?;
    browser.fill("New password again", "better-password")?;
    browser.press(Key::Enter)?;
    browser.wait_text("The present password is another one.")?;
    browser.fill("Present password", "mallory-password")?;
    browser.fill("New password", "better-password")?;
    browser.fill("New password again", "better-password")?;
    browser.press(Key::Enter)?;
    browser.wait_text("The password is changed.")?;
    leave(browser)
}

fn users(browser: &Browser) -> Result<()> {
    browser.sign_in("admin", "/console/users")?;
    browser.looks("users")?;
    browser.click("New project")?;
    browser.fill("Name", "orchard")?;
    browser.press(Key::Enter)?;
    browser.wait_text("Project orchard is made.")?;
    browser.click("New user")?;
    browser.fill("Name", "alice")?;
    browser.fill("Password", "a password")?;
    browser.press(Key::Enter)?;
    browser.wait_text("already")?;
    ensure!(browser.value("Name")? == "alice" && browser.value("Password")?.is_empty());
    browser.accessible()?;
    browser.fill("Name", "carol")?;
    browser.fill("Password", "a password")?;
    browser.press(Key::Enter)?;
    browser.wait_text("User carol is made.")?;
    browser.fill("Project", "orchard")?;
    browser.click("Grant the role")?;
    browser.wait_text("It counts at once.")?;
    browser.looks("user")?;
    browser.click("Revoke member of orchard")?;
    browser.click("Revoke the role")?;
    browser.wait_text("The role is revoked.")?;
    browser.click("Disable")?;
    browser.wait_text("He cannot sign in any more")?;
    browser.click("Disable")?;
    browser.wait_text("He is disabled.")?;
    // Nobody locks himself out.
    browser.click("Users")?;
    browser.click("admin")?;
    browser.click("Disable")?;
    browser.click("Disable")?;
    browser.wait_text("lock yourself out")
}

fn storage(browser: &Browser) -> Result<()> {
    browser.click("Storage")?;
    browser.wait_text("Promised to disks")?;
    browser.wait_text("zebra-disk1")?;
    browser.wait_text("Files that belong to no disk")?;
    browser.looks("storage")
}
