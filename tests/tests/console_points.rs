//! Points in time, backups and jobs in the console, seen by a real browser: a backup is started by its form and watched while a client
//! downloads it, a job is watched step by step, a point is chosen, and after a kill the daemon says what it healed.

use anyhow::{Context, Result, ensure};
use std::time::Duration;
use stillpoint_system_tests::{Checks, browser::Browser, only_id};
use stillpoint_testkit::{Answer, Api, Daemon, Guest, VmSpec, eventually};

const LONG: Duration = Duration::from_secs(120);
const DISK: u64 = 256 << 20;

/// A VM that runs, with two disks to which its guest writes records.
struct Case {
    daemon: Daemon,
    api: Api,
    vm: String,
    disks: Vec<String>,
}

impl Case {
    fn furnish() -> Result<Self> {
        let daemon = Daemon::start()?;
        let guest = Guest::build()?;
        guest.install(daemon.data_dir())?;
        let api = daemon.api("admin")?;
        let vm = api.create_vm(&VmSpec::new("db1").cmdline(&guest.cmdline("sp.pause=2000")?))?;
        let mut disks = Vec::new();
        for number in 0..2 {
            let disk = api.create_disk(&format!("db1_{number}"), DISK)?;
            api.attach(&vm, &disk, "virtio", number == 0)?;
            disks.push(disk);
        }
        Ok(Self { daemon, api, vm, disks })
    }

    fn place(&self, rest: &str) -> String {
        format!("/console/vms/{}{rest}", self.vm)
    }

    /// Begins to download a disk of a backup: the transfer, and the path of its bytes.
    fn transfer(&self, backup: &str, disk: &str) -> Result<(String, String)> {
        let body = format!(
            "<image_transfer><backup id=\"{backup}\"/><disk id=\"{disk}\"/><direction>download</direction><format>raw</format></image_transfer>"
        );
        let id = only_id(&self.api.post("imagetransfers", &body)?.expect(&[201])?)?;
        let path = format!("imagetransfers/{id}");
        self.api.wait_status(&path, "phase", "transferring", LONG)?;
        let shown = self.api.get(&path)?.expect(&[200])?.xml()?;
        let url = shown.text_at("transfer_url").context("a URL")?;
        let (_, ticket) = url.split_once("/images/").context("a ticket")?;
        Ok((id, format!("/images/{ticket}")))
    }

    fn read(&self, path: &str, mut from: u64, to: u64) -> Result<()> {
        while from < to {
            // The test's client takes 64 MiB at most.
            let end = to.min(from + (32 << 20));
            let range = format!("bytes={from}-{}", end - 1);
            let answer = self.api.send("GET", path, &[("Range", &range)], None)?.expect(&[206])?;
            ensure!(answer.body.len() as u64 == end - from);
            from = end;
        }
        Ok(())
    }
}

#[test]
fn points_in_time_backups_and_jobs_are_watched_as_they_happen() {
    let mut case = Case::furnish().unwrap();
    let mut checks = Checks::default();
    checks.item("in a browser", || in_a_browser(&case));
    checks.item("who may not", || refusals(&case));
    checks.item("healing", || healing(&mut case));
    checks.item("the log", || case.daemon.scan_log(&[]));
    checks.finish();
}

fn in_a_browser(case: &Case) -> Result<()> {
    let browser = Browser::start(&case.daemon)?;
    browser.sign_in("alice", "/console/jobs")?;
    browser.open(&case.place("/points"))?;
    browser.wait_text("No point in time yet")?;
    browser.looks("points-empty")?;
    browser.open("/console/healing")?;
    browser.wait_text("Nothing had to be healed")?;
    browser.accessible()?;
    // While the guest boots, its disks are down.
    case.api.snapshot(&case.vm, "before the guest ran", false, None)?;
    case.api.start(&case.vm)?;
    case.daemon.console(&case.vm).wait_record(20, LONG)?;
    job(case, &browser)?;
    backup(case, &browser)?;
    points(case, &browser)?;
    browser.finish()
}

/// A snapshot's steps are shown as they happen, without a hand on the page.
fn job(case: &Case, browser: &Browser) -> Result<()> {
    browser.open("/console/jobs?state=done")?;
    browser.open("/console/jobs")?;
    case.api.begin_snapshot(&case.vm, "with memory", true, None)?;
    browser.click("Creating VM Snapshot with memory for VM db1")?;
    browser.wait_text("Saving memory")?;
    browser.wait_text("All of it has been done.")?;
    for text in [
        "Creating overlays",
        "point of no return",
        "Nothing: nobody waits for it.",
        "admin@internal",
        "has been completed",
    ] {
        ensure!(
            browser.text("main")?.contains(text),
            "{text} is missing on {}",
            browser.text("main")?
        );
    }
    ensure!(browser.texts(".steps .badge")?.iter().all(|state| state == "done"));
    browser.looks("job")?;
    browser.open("/console/jobs")?;
    browser.looks("jobs")
}

/// The share of the first disk that its page says is copied.
fn copied(browser: &Browser) -> Result<u64> {
    let value = browser.run("return document.querySelector('progress.wide').value", &[])?;
    value.as_u64().context("a number")
}

fn backup(case: &Case, browser: &Browser) -> Result<()> {
    browser.open(&case.place("/backups"))?;
    browser.wait_text("No backup runs")?;
    browser.click("Start a backup")?;
    browser.accessible()?;
    // A form that is refused keeps what was typed.
    browser.fill("Description", "nightly <1>")?;
    for disk in &case.disks {
        browser.click_on(&format!("#disk-{disk}"))?;
    }
    browser.click("Start the backup")?;
    browser.wait_text("required for add")?;
    ensure!(browser.value("Description")? == "nightly <1>");
    browser.looks("backup-start")?;
    for disk in &case.disks {
        browser.click_on(&format!("#disk-{disk}"))?;
    }
    browser.click("Start the backup")?;
    browser.wait_text("The backup has been started.")?;
    browser.wait_text("ready for download")?;
    browser.wait_text("file systems frozen")?;
    let place = browser.place()?;
    let id = place.rsplit('/').next().context("an id")?.to_owned();
    ensure!(copied(browser)? == 0, "{}", browser.text("main")?);
    // Half of a disk, then all of it: shown while it happens, by itself.
    let (transfer, path) = case.transfer(&id, &case.disks[0])?;
    case.read(&path, 0, 4 << 20)?;
    browser.wait("a part that is copied", |browser| {
        Ok((1..100).contains(&copied(browser)?))
    })?;
    browser.wait_text("/s")?;
    browser.looks("backup-running")?;
    case.read(&path, 4 << 20, DISK)?;
    browser.wait("all of it", |browser| Ok(copied(browser)? == 100))?;
    browser.click("Finalize")?;
    browser.wait_text("In the way now")?;
    browser.click("Cancel")?;
    case.api.act(&format!("imagetransfers/{transfer}/finalize"), "")?;
    case.api
        .wait_status(&format!("imagetransfers/{transfer}"), "phase", "finished_success", LONG)?;
    browser.wait_text("nothing: all is copied")?;
    browser.click("Finalize")?;
    browser.wait_text("of disk db1_1 that nobody has downloaded")?;
    browser.looks("backup-finalize")?;
    browser.click("Finalize it")?;
    browser.wait_text("The data are where the client has put them.")?;
    browser.accessible()?;
    browser.open(&case.place("/backups"))?;
    browser.wait_text("nightly <1>")?;
    browser.looks("backups")?;
    // An incremental one knows what did not change.
    browser.click_on("td.does a")?;
    browser.click("Start the backup")?;
    browser.wait_text("ready for download")?;
    browser.wait_text("Wanted is what changed since the checkpoint.")?;
    browser.looks("backup-incremental")
}

fn points(case: &Case, browser: &Browser) -> Result<()> {
    browser.open(&case.place("/points"))?;
    for text in ["with memory", "VM was down", "guest frozen", "Choose a point"] {
        browser.wait_text(text)?;
    }
    browser.tab_to("before the guest ran")?;
    browser.press(stillpoint_system_tests::browser::Key::Enter)?;
    browser.wait_text("Restore beside it")?;
    browser.looks("points")?;
    browser.click("Restore over the VM")?;
    browser.wait_text("What will be lost")?;
    browser.open(&case.place("/points"))?;
    browser.click("nightly <1> (full)")?;
    browser.wait_text("stillpoint backup restore /backup/db1")?;
    browser.click("How far the backup is")?;
    browser.wait_text("Its checkpoint")?;
    Ok(())
}

/// Signs in by hand; the session's cookie as a browser sends it.
fn session(api: &Api, user: &str) -> Result<String> {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("user={user}&password={user}-password");
    let answer = api
        .send("POST", "/console/login", &form, Some(body.as_bytes()))?
        .expect(&[303])?;
    let cookie = answer.header("set-cookie").context("a cookie")?;
    Ok(cookie.split(';').next().context("a value")?.to_owned())
}

fn refusals(case: &Case) -> Result<()> {
    let api = Api::anonymous(case.daemon.url());
    let get = |path: &str, cookie: &str| -> Result<Answer> { api.send("GET", path, &[("Cookie", cookie)], None) };
    let list = case
        .api
        .get(&format!("vms/{}/backups", case.vm))?
        .expect(&[200])?
        .xml()?;
    let backup = list.children.last().context("a backup")?.id()?.to_owned();
    let checkpoints = case
        .api
        .get(&format!("vms/{}/checkpoints", case.vm))?
        .expect(&[200])?
        .xml()?;
    let checkpoint = checkpoints.children.first().context("a checkpoint")?.id()?.to_owned();
    let pages = [
        case.place("/points"),
        case.place("/backups"),
        case.place(&format!("/backups/{backup}")),
        format!("/console/jobs/{backup}"),
    ];
    let forms = [
        case.place("/backups/new"),
        case.place(&format!("/backups/{backup}/finalize")),
        case.place(&format!("/checkpoints/{checkpoint}/delete")),
    ];
    let (alice, bob, mallory) = (
        session(&api, "alice")?,
        session(&api, "bob")?,
        session(&api, "mallory")?,
    );
    for page in &pages {
        get(page, &bob)?.expect(&[200])?;
        get(page, &mallory)?.expect(&[404])?;
    }
    for page in &forms {
        get(page, &bob)?.expect(&[403])?;
        get(page, &mallory)?.expect(&[404])?;
        let form = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Cookie", alice.as_str()),
        ];
        api.send("POST", page, &form, Some(b"description=x"))?.expect(&[403])?;
    }
    for page in [
        "/console/jobs/no-id",
        "/console/jobs/5aa119a8-d25b-45a7-8d1b-88e127885635",
        &case.place("/backups/no-id"),
    ] {
        get(page, &alice)?.expect(&[404])?;
    }
    for page in ["/console/jobs", "/console/healing"] {
        let shown = get(page, &mallory)?.expect(&[200])?.text();
        ensure!(!shown.contains("db1"), "{page} tells mallory of a foreign VM");
    }
    Ok(())
}

/// The daemon is killed in the middle of a snapshot; the next one says what it found and did.
fn healing(case: &mut Case) -> Result<()> {
    let path = format!("vms/{}/backups", case.vm);
    let list = case.api.get(&path)?.expect(&[200])?.xml()?;
    for backup in &list.children {
        if backup.text_at("phase") == Some("ready") {
            case.api.act(&format!("{path}/{}/finalize", backup.id()?), "")?;
            case.api
                .wait_status(&format!("{path}/{}", backup.id()?), "phase", "succeeded", LONG)?;
        }
    }
    case.daemon.kill9()?;
    case.daemon
        .set_env("STILLPOINT_CRASH_AT", Some("snapshot_create:switch:effect"));
    case.daemon.restart()?;
    case.api = case.daemon.api("admin")?;
    // The daemon dies in the middle of it, so that an answer may be missing.
    let body = "<snapshot><description>torn</description><persist_memorystate>false</persist_memorystate></snapshot>";
    let asked = case.api.post(&format!("vms/{}/snapshots", case.vm), body);
    ensure!(asked.is_err() || asked.is_ok_and(|answer| answer.status < 300));
    case.daemon.wait_end(LONG)?;
    case.daemon.set_env("STILLPOINT_CRASH_AT", None);
    case.daemon.restart()?;
    let browser = Browser::start(&case.daemon)?;
    browser.sign_in("alice", "/console/healing")?;
    browser.wait_text("Jobs that were found unfinished")?;
    browser.wait_text("It went on and was completed.")?;
    browser.wait_text("runs on")?;
    browser.looks("healing")?;
    browser.click("Creating VM Snapshot torn for VM db1")?;
    browser.wait_text("All of it has been done.")?;
    case.api = case.daemon.api("admin")?;
    eventually(LONG, "the VM to be free", || {
        let snapshots = case
            .api
            .get(&format!("vms/{}/snapshots", case.vm))?
            .expect(&[200])?
            .text();
        Ok((!snapshots.contains("locked")).then_some(()))
    })?;
    browser.finish()
}
