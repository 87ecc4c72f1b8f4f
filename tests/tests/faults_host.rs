//! A host that does its worst: what keeps a daemon from starting, processes that die or hang, storage that is full or
//! read-only. After each fault the graph is as it was, and everything goes on once the cause is gone.
//!
//! Needs root: full and read-only storage are real file systems (tmpfs over the storage domain's directory).

mod host;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use host::{FAILED, LONG, MIB, active_file, gone, refused, shows, text, told, tool, vm, write};
use stillpoint_testkit::{Answer, Api, Daemon, binary, eventually};

fn begin(api: &Api, vm: &str) -> Result<String> {
    api.begin_snapshot(vm, "doomed", false, None)
}

/// A small file system over the storage domain's directory, taken away whatever happens.
struct SmallStorage(PathBuf);

impl SmallStorage {
    fn mount(daemon: &Daemon, mib: u64) -> Result<Self> {
        let path = daemon.images_dir();
        let size = format!("size={mib}m,mode=700");
        tool("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(&path)?]).context("this test needs root")?;
        Ok(Self(path))
    }

    /// Leaves that many MiB free.
    fn fill(&self, leave_mib: u64) -> Result<()> {
        let said = tool("df", &["--output=avail", "-B1", text(&self.0)?])?;
        let free: u64 = said.lines().last().unwrap_or_default().trim().parse()?;
        let length = free.saturating_sub(leave_mib * MIB).to_string();
        tool("fallocate", &["-l", &length, text(&self.0.join("filler"))?]).map(drop)
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }

    fn remount(&self, option: &str) -> Result<()> {
        tool("mount", &["-o", &format!("remount,{option}"), text(&self.0)?]).map(drop)
    }
}

impl Drop for SmallStorage {
    fn drop(&mut self) {
        // Lazily: a guest of a failed test may still have files open.
        if let Err(error) = tool("umount", &["-l", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

// ------------------------------------------------------------------------------------------------ starting

/// Runs `stillpoint serve`, which must end by itself: exit code and what it said.
fn serve(arguments: &[&str], has_programs: bool) -> Result<(i32, String)> {
    let binary = binary()?;
    let mut command = if has_programs {
        Command::new(&binary)
    } else {
        // In a mount namespace of its own, whose program directory is empty.
        let script = "mount -t tmpfs tmpfs /usr/bin && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&binary);
        command
    };
    command.arg("serve").args(arguments).env_remove("STILLPOINT_DATA_DIR");
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running the daemon")?;
    let ended = eventually(Duration::from_secs(60), "the daemon to end", || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
    }
    let mut said = String::new();
    child
        .stderr
        .take()
        .context("no standard error")?
        .read_to_string(&mut said)?;
    let code = ended
        .with_context(|| said.clone())?
        .code()
        .context("the daemon was killed")?;
    Ok((code, said))
}

fn ends(arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    exits(serve(arguments, true)?, arguments, code, words)
}

fn exits((got, said): (i32, String), arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    ensure!(
        got == code,
        "{arguments:?}: expected exit code {code}, got {got}: {said}"
    );
    for word in words {
        ensure!(said.contains(word), "{arguments:?}: {word:?} is not in: {said}");
    }
    Ok(())
}

#[test]
fn a_daemon_that_cannot_start_says_why_what_to_do_and_ends_with_its_code() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str, content: &str| -> Result<String> {
        let path = directory.path().join(name);
        fs::write(&path, content)?;
        tool("chmod", &["600", text(&path)?])?;
        Ok(text(&path)?.to_owned())
    };
    let data = directory.path().join("data");
    let data = text(&data)?;
    let any = ["--listen", "127.0.0.1:0", "--accel", "tcg"];
    let with = |more: &[&str]| -> Vec<String> {
        let fixed = ["--data-dir", data];
        let all = fixed.iter().chain(&any).chain(more);
        all.map(|word| (*word).to_owned()).collect()
    };
    let refuse = |more: &[&str], code: i32, words: &[&str]| {
        let arguments = with(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ends(&arguments, code, words)
    };

    let plain = file("plain", "")?;
    let below = format!("{plain}/data");
    ends(
        &["--data-dir", &below, "--listen", "127.0.0.1:0"],
        2,
        &[&below, "--data-dir"],
    )?;
    ends(
        &["--data-dir", "/proc/stillpoint"],
        2,
        &["/proc/stillpoint", "--data-dir"],
    )?;
    let typo = file("typo.toml", "listen = \"127.0.0.1:0\"\n\nlisten-on = 3\n")?;
    refuse(&["--config", &typo], 2, &["typo.toml", "line 3", "listen-on"])?;
    refuse(&["--config", "/nonexistent.toml"], 2, &["/nonexistent.toml"])?;
    ends(
        &["--data-dir", data, "--listen", "0.0.0.0:0", "--tls", "off"],
        2,
        &["plain HTTP", "--tls auto"],
    )?;
    for (name, content, word) in [
        ("syntax.toml", "[[user]\n", ":1: "),
        ("member.toml", "[[user]]\nname = \"a\"\npasword = \"x\"\n", "pasword"),
        (
            "project.toml",
            "[[user]]\nname = \"a\"\npassword = \"long-enough\"\n[[user.role]]\nproject = \"none\"\nrole = \"member\"\n",
            "none",
        ),
    ] {
        let bootstrap = file(name, content)?;
        refuse(&["--bootstrap", &bootstrap], 2, &[word]).with_context(|| name.to_owned())?;
    }
    refuse(&["--bootstrap", "/nonexistent.toml"], 2, &["/nonexistent.toml"])?;

    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    ends(&["--data-dir", data, "--listen", &address], 3, &[&address, "--listen"])?;

    let arguments = with(&[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = serve(&arguments, false)?;
    exits(said, &arguments, 5, &["qemu-system-x86", "install"])
}

#[test]
fn two_daemons_never_share_a_data_directory_and_a_newer_database_is_not_touched() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, _) = vm(&admin, "db1", 1)?;
    let data = daemon.data_dir();
    let pid = daemon.pid().context("no pid")?.to_string();
    let arguments = ["--data-dir", text(&data)?, "--listen", "127.0.0.1:0", "--accel", "tcg"];
    ends(&arguments, 4, &[text(&data)?, &pid, "--data-dir"])?;
    let before = daemon.estate(&admin)?;
    admin.get(&format!("vms/{vm}"))?.expect(&[200])?;

    daemon.stop()?;
    let database = data.join("stillpoint.db");
    let sql = |statement: &str| {
        let script = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as db: db.execute(sys.argv[2])";
        tool("python3", &["-c", script, text(&database)?, statement]).map(drop)
    };
    sql("INSERT INTO schema_version (version, name, applied_at) VALUES (9999, 'of the future', 0)")?;
    ends(&arguments, 6, &["9999"])?;
    sql("DELETE FROM schema_version WHERE version = 9999")?;
    daemon.restart()?;
    ensure!(
        daemon.estate(&daemon.api("admin")?)? == before,
        "the refused database was changed"
    );
    daemon.scan_log(&[])
}

// ------------------------------------------------------------------------------------------------ processes

#[test]
fn a_killed_qemu_leaves_a_vm_that_is_down_and_starts_again() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    let snapshot = admin.snapshot(&vm, "kept", false, None)?;
    let before = daemon.estate(&admin)?;
    admin.start(&vm)?;
    daemon.kill_guest(&vm)?;
    admin.wait_status(&format!("vms/{vm}"), "status", "down", LONG)?;
    let event = told(&admin, "119")?;
    ensure!(event.contains("db1") && event.contains("unexpectedly"), "{event}");
    ensure!(daemon.estate(&admin)? == before, "the graph changed");
    for disk in &disks {
        tool("qemu-img", &["check", text(&active_file(&daemon, &admin, disk)?)?])?;
    }
    admin.start(&vm)?;
    admin.delete_snapshot(&vm, &snapshot)?;
    admin.stop(&vm)?;
    daemon.scan_log(&[])
}

/// A request must be answered in bounded time while a QEMU hangs.
fn soon(what: &str, answer: impl FnOnce() -> Result<Answer>) -> Result<Answer> {
    let begun = Instant::now();
    let answer = answer().with_context(|| what.to_owned())?;
    ensure!(
        begun.elapsed() < Duration::from_secs(60),
        "{what} took {:?}",
        begun.elapsed()
    );
    Ok(answer)
}

#[test]
fn a_hanging_qemu_is_told_harms_no_other_vm_and_is_found_again() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (hung, _) = vm(&admin, "hung", 1)?;
    let (other, _) = vm(&admin, "other", 1)?;
    admin.start(&hung)?;
    admin.start(&other)?;
    let before = daemon.estate(&admin)?;
    daemon.hang_guest(&hung)?;
    admin.wait_status(&format!("vms/{hung}"), "status", "not_responding", LONG)?;
    ensure!(told(&admin, "126")?.contains("hung"), "event 126 does not name the VM");
    let body = "<snapshot><description>s</description></snapshot>";
    let snapshot = soon("a snapshot", || admin.post(&format!("vms/{hung}/snapshots"), body))?;
    snapshot
        .refusal()?
        .expect(409, FAILED, &["hung", "not_responding", "does not answer"])?;
    let shutdown = soon("a shutdown", || {
        admin.post(&format!("vms/{hung}/shutdown"), "<action/>")
    })?;
    shutdown.refusal()?.expect(409, FAILED, &["hung", "not_responding"])?;
    let kept = admin.snapshot(&other, "works", false, None)?;
    admin.delete_snapshot(&other, &kept)?;
    daemon.unhang_guest(&hung)?;
    admin.wait_status(&format!("vms/{hung}"), "status", "up", LONG)?;
    ensure!(told(&admin, "127")?.contains("hung"), "event 127 does not name the VM");
    let kept = admin.snapshot(&hung, "works again", false, None)?;
    admin.delete_snapshot(&hung, &kept)?;

    // A daemon that starts meanwhile serves, tells, and finds it again.
    daemon.hang_guest(&hung)?;
    daemon.restart()?;
    let admin = daemon.api("admin")?;
    admin.wait_status(&format!("vms/{hung}"), "status", "not_responding", LONG)?;
    admin.wait_status(&format!("vms/{other}"), "status", "up", LONG)?;
    // The way out of a QEMU that does not come back: stopping the VM ends its process, connected or not.
    let stop = soon("a stop", || admin.post(&format!("vms/{hung}/stop"), "<action/>"))?;
    ensure!(stop.status == 200, "{}", stop.text());
    admin.wait_status(&format!("vms/{hung}"), "status", "down", LONG)?;
    admin.start(&hung)?;
    admin.wait_status(&format!("vms/{hung}"), "status", "up", LONG)?;
    let kept = admin.snapshot(&hung, "after all", false, None)?;
    admin.delete_snapshot(&hung, &kept)?;
    let names = |estate: &[String]| estate.iter().filter(|line| line.starts_with("disk ")).count();
    ensure!(names(&daemon.estate(&admin)?) == names(&before), "disks came or went");
    daemon.scan_log(&[
        "a machine does not answer",
        "machines do not answer yet",
        "its monitor does not answer",
    ])
}

#[test]
fn an_overlay_that_vanishes_before_the_switch_fails_the_snapshot_and_nothing_else() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    admin.start(&vm)?;
    let before = daemon.estate(&admin)?;
    let files = daemon.image_files()?;
    daemon.hang_guest(&vm)?;
    let snapshot = begin(&admin, &vm)?;
    let fresh: Vec<String> = eventually(LONG, "both overlays", || {
        let now = daemon.image_files()?;
        let fresh: Vec<String> = now
            .iter()
            .filter(|line| !files.contains(line) && line.contains("over \""))
            .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
            .filter(|name| !name.ends_with(".new"))
            .collect();
        Ok((fresh.len() == disks.len()).then_some(fresh))
    })?;
    fs::remove_file(daemon.images_dir().join(&fresh[0]))?;
    daemon.unhang_guest(&vm)?;
    gone(&admin, &vm, &snapshot)?;
    let why = told(&admin, "69")?;
    ensure!(
        why.contains(&fresh[0]),
        "the fault does not name the file {}: {why}",
        fresh[0]
    );
    ensure!(daemon.estate(&admin)? == before, "something is left");
    let kept = admin.snapshot(&vm, "works", false, None)?;
    admin.delete_snapshot(&vm, &kept)?;
    daemon.scan_log(&[])
}

// ------------------------------------------------------------------------------------------------ storage

#[test]
fn a_storage_domain_too_small_refuses_with_numbers_and_keeps_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let storage = SmallStorage::mount(&daemon, 600)?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    let snapshot = admin.snapshot(&vm, "kept", false, None)?;
    let before = daemon.estate(&admin)?;
    let big = format!(
        "<disk><name>big</name><provisioned_size>{}</provisioned_size><format>raw</format><sparse>false</sparse></disk>",
        500 * MIB
    );
    refused(admin.post("disks", &big))?.expect(409, FAILED, &["MiB free", "756 MiB are needed", "Remove"])?;
    storage.fill(200)?;
    let refused = refused(admin.post(
        &format!("vms/{vm}/snapshots"),
        "<snapshot><description>s</description></snapshot>",
    ))?;
    refused.expect(409, FAILED, &["MiB free", "256 MiB are needed"])?;
    let body = "<disk><name>thin</name><provisioned_size>1048576</provisioned_size><format>cow</format></disk>";
    admin
        .post("disks", body)?
        .refusal()?
        .expect(409, FAILED, &["256 MiB are needed"])?;
    // What gives space back, or saves somebody, still works.
    admin.restore(&vm, &snapshot, false)?;
    admin.delete_snapshot(&vm, &snapshot)?;
    storage.free()?;
    let again = admin.snapshot(&vm, "kept", false, None)?;
    for disk in &disks {
        tool("qemu-img", &["check", text(&active_file(&daemon, &admin, disk)?)?])?;
    }
    admin.delete_snapshot(&vm, &again)?;
    ensure!(
        before.len() > daemon.estate(&admin)?.len(),
        "a snapshot less was expected"
    );
    daemon.scan_log(&[])
}

#[test]
fn a_merge_that_finds_no_room_keeps_the_snapshot_and_can_be_asked_for_again() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let storage = SmallStorage::mount(&daemon, 600)?;
    let (vm, disks) = vm(&admin, "db1", 1)?;
    let base = active_file(&daemon, &admin, &disks[0])?;
    write(&base, 0x11, 0, 4)?;
    let snapshot = admin.snapshot(&vm, "kept", false, None)?;
    let top = active_file(&daemon, &admin, &disks[0])?;
    write(&top, 0x22, 2, 50)?;
    let held = base.file_stem().context("a name")?.to_string_lossy().into_owned();
    storage.fill(4)?;
    let before = daemon.estate(&admin)?;
    admin
        .delete(&format!("vms/{vm}/snapshots/{snapshot}"))?
        .expect(&[200])?;
    let why = told(&admin, "357")?;
    ensure!(why.contains("kept") && why.contains("again"), "{why}");
    admin.wait_status(&format!("vms/{vm}/snapshots/{snapshot}"), "snapshot_status", "ok", LONG)?;
    ensure!(daemon.estate(&admin)? == before, "the failed merge changed the graph");
    shows(&top, 0x11, 0, 2)?;
    shows(&top, 0x22, 2, 50)?;
    storage.free()?;
    // Its image holds a part of the layer above: it is never taken for the moment that it was.
    let restored = admin.post(&format!("vms/{vm}/snapshots/{snapshot}/restore"), "<action/>")?;
    let said = restored.expect(&[400])?.text();
    ensure!(said.contains("Remove the snapshot again"), "{said}");
    let transfer = format!("<image_transfer><snapshot id=\"{held}\"/><direction>download</direction></image_transfer>");
    admin.post("imagetransfers", &transfer)?.expect(&[409])?;
    admin.delete_snapshot(&vm, &snapshot)?;
    let now = active_file(&daemon, &admin, &disks[0])?;
    shows(&now, 0x11, 0, 2)?;
    shows(&now, 0x22, 2, 50)?;
    admin.start(&vm)?;
    admin.stop(&vm)?;
    daemon.scan_log(&[])
}

#[test]
fn storage_that_cannot_be_written_to_fails_a_snapshot_as_a_whole() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let storage = SmallStorage::mount(&daemon, 600)?;
    let (vm, _) = vm(&admin, "db1", 3)?;
    let before = daemon.estate(&admin)?;
    storage.remount("ro")?;
    let snapshot = begin(&admin, &vm)?;
    gone(&admin, &vm, &snapshot)?;
    let why = told(&admin, "69")?;
    ensure!(why.contains("Read-only") || why.contains("read-only"), "{why}");
    ensure!(daemon.estate(&admin)? == before, "something is left");
    storage.remount("rw")?;
    let kept = admin.snapshot(&vm, "works", false, None)?;
    admin.delete_snapshot(&vm, &kept)?;
    daemon.scan_log(&[])
}

#[test]
fn one_overlay_that_cannot_be_made_keeps_all_disks_where_they_are() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 4)?;
    admin.start(&vm)?;
    // In the place of the third overlay's unfinished file stands a directory.
    let image = "77777777-7777-4777-8777-777777777777";
    let way = daemon.images_dir().join(format!("{image}.qcow2.new"));
    fs::create_dir(&way)?;
    let before = daemon.estate(&admin)?;
    let items = disks.iter().enumerate().map(|(number, disk)| {
        let chosen = if number == 2 {
            format!("<image_id>{image}</image_id>")
        } else {
            String::new()
        };
        format!("<disk_attachment><disk id=\"{disk}\">{chosen}</disk></disk_attachment>")
    });
    let body = format!(
        "<snapshot><description>doomed</description><persist_memorystate>false</persist_memorystate>\
         <disk_attachments>{}</disk_attachments></snapshot>",
        items.collect::<String>()
    );
    let answer = admin
        .post(&format!("vms/{vm}/snapshots"), &body)?
        .expect(&[201, 202])?
        .xml()?;
    gone(&admin, &vm, answer.id()?)?;
    let why = told(&admin, "69")?;
    ensure!(why.contains(image), "the fault does not name the file: {why}");
    ensure!(
        daemon.estate(&admin)? == before,
        "something is left: {:#?}",
        daemon.estate(&admin)?
    );
    fs::remove_dir(&way)?;
    let kept = admin.snapshot(&vm, "works", false, None)?;
    admin.delete_snapshot(&vm, &kept)?;
    daemon.scan_log(&[])
}
