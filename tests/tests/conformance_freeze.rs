//! Conformance, seventh part: guests that their users freeze, thaw and restart. A real guest, whose agent does it.
//!
//! Numbers with C are those of the contract's checklist.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stillpoint_testkit::{Answer, Api, Console, Daemon, Guest, VmSpec, eventually};

const LONG: Duration = Duration::from_secs(240);
/// How long a user's freeze lasts here.
const HOLD: Duration = Duration::from_secs(12);
/// Records come every few milliseconds: without any for so long, the guest stands still.
const STILL: Duration = Duration::from_secs(2);

struct Frozen<'a> {
    api: &'a Api,
    vm: &'a str,
    console: &'a Console,
}

impl Frozen<'_> {
    fn ask(&self, action: &str) -> Result<Answer> {
        self.api.post(&format!("vms/{}/{action}", self.vm), "<action/>")
    }

    fn act(&self, action: &str) -> Result<()> {
        let answer = self.ask(action)?.expect(&[200])?.xml()?;
        ensure!(answer.text_at("status") == Some("complete"), "{answer:?}");
        Ok(())
    }

    fn stands_still(&self) -> Result<()> {
        // What was written before the freeze may still come out of the console.
        thread::sleep(STILL / 4);
        let before = self.console.last_record();
        thread::sleep(STILL);
        let after = self.console.last_record();
        ensure!(before == after, "the guest wrote on from {before} to {after}");
        Ok(())
    }

    fn goes_on(&self) -> Result<()> {
        self.console
            .wait_record(self.console.last_record() + 20, LONG)
            .map(drop)
    }

    fn told(&self, code: &str) -> Result<Vec<String>> {
        let all = self.api.events(0)?.into_iter();
        let told = all.filter(|event| event.text_at("code") == Some(code));
        Ok(told
            .map(|event| event.text_at("description").unwrap_or_default().to_owned())
            .collect())
    }

    fn refused(&self, action: &str, words: &[&str]) -> Result<()> {
        let refusal = self.ask(action)?.refusal()?;
        ensure!(refusal.status == 409, "{refusal:?}");
        let missing = words.iter().find(|word| !refusal.detail.contains(**word));
        ensure!(missing.is_none(), "{missing:?} is not in {refusal:?}");
        Ok(())
    }
}

impl Frozen<'_> {
    fn is_held_through_snapshots(&self) -> Result<()> {
        // A snapshot neither ends it nor fails, with and without memory.
        self.act("freezefilesystems")?;
        self.api.snapshot(self.vm, "while frozen", false, None)?;
        let whole = self.api.snapshot(self.vm, "with memory", true, None)?;
        let shown = self
            .api
            .get(&format!("vms/{}/snapshots/{whole}", self.vm))?
            .expect(&[200])?
            .xml()?;
        ensure!(
            shown.text_at("persist_memorystate") == Some("false"),
            "a memory that is frozen"
        );
        ensure!(self.told("173")?.len() == 1);
        self.stands_still()?;
        ensure!(self.told("10768")?.len() == 1, "a snapshot thawed the user's freeze");
        // A second freeze only holds it for longer.
        self.act("freezefilesystems")?;
        self.stands_still()?;
        self.act("thawfilesystems")?;
        self.goes_on()?;
        // And the next one is frozen and thawed by itself.
        self.api.snapshot(self.vm, "by itself", false, None)?;
        self.goes_on()?;
        ensure!(self.told("10768")?.len() == 3, "{:?}", self.told("10768")?);
        Ok(())
    }
}

#[test]
fn a_user_freezes_a_guest_through_snapshots_and_restarts_and_it_is_thawed_when_he_does_not_come_back() -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "user-freeze-seconds = {}", HOLD.as_secs())?;
    let config = file.path().to_str().context("a path")?.to_owned();
    let mut daemon = Daemon::builder().args(["--config", &config]).start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let api = daemon.api("admin")?;
    let vm = api.create_vm(&VmSpec::new("cold").cmdline(&guest.cmdline("sp.disks=1 sp.every=10")?))?;
    let disk = api.create_disk("cold_0", 64 << 20)?;
    api.attach(&vm, &disk, "virtio", true)?;
    let console = daemon.console(&vm);
    let guest = Frozen {
        api: &api,
        vm: &vm,
        console: &console,
    };
    for action in ["freezefilesystems", "thawfilesystems", "reboot"] {
        guest.refused(action, &["cold", "down"]).context("C124")?;
    }
    api.start(&vm)?;
    console.wait_record(50, LONG)?;

    guest.act("freezefilesystems").context("C122")?;
    guest.stands_still().context("C122")?;
    guest.refused("reboot", &["thaw"])?;
    guest.act("thawfilesystems").context("C123")?;
    guest.goes_on().context("C123")?;
    ensure!(guest.told("10767")?.len() == 1 && guest.told("10768")?.len() == 1);

    guest.is_held_through_snapshots()?;

    // Nobody comes back, and the daemon dies meanwhile.
    guest.act("freezefilesystems")?;
    let begun = Instant::now();
    daemon.kill9()?;
    daemon.restart()?;
    let api = daemon.api("admin")?;
    let guest = Frozen {
        api: &api,
        vm: &vm,
        console: &console,
    };
    guest.stands_still().context("the restart ended the user's freeze")?;
    guest.goes_on()?;
    ensure!(begun.elapsed() >= HOLD - STILL, "thawed after {:?}", begun.elapsed());
    eventually(LONG, "the thaw to be told", || {
        Ok((guest.told("10768")?.len() == 4).then_some(()))
    })?;
    let told = guest.told("10768")?;
    ensure!(told[3].contains("nobody"), "{told:?}");

    // Dead when it was due: thawed at the start.
    guest.act("freezefilesystems")?;
    daemon.kill9()?;
    thread::sleep(HOLD);
    daemon.restart()?;
    let api = daemon.api("admin")?;
    let guest = Frozen {
        api: &api,
        vm: &vm,
        console: &console,
    };
    guest.goes_on()?;

    console.fail_on_trouble()?;
    let starts = console.starts();
    guest.act("reboot")?;
    eventually(LONG, "the guest to start anew", || {
        Ok((console.starts() > starts).then_some(()))
    })?;
    guest.goes_on()?;
    ensure!(api.get(&format!("vms/{vm}"))?.xml()?.text_at("status") == Some("up"));
    api.stop(&vm)?;
    daemon.scan_log(&[])
}
