//! A host that does its worst: what keeps a daemon from starting, processes that die or hang, storage that is full,
//! read-only or changed behind our back, and image files that somebody brought. After each fault the graph is as it was,
//! and everything goes on once the cause is gone.
//!
//! Needs root: full and read-only storage are real file systems (tmpfs over the storage domain's directory).

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use stillpoint_testkit::{Answer, Api, Daemon, Refusal, VmSpec, Xml, binary, eventually};

const FAILED: &str = "Operation Failed";
const LONG: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;

/// A VM without guest, its disks attached.
fn vm(api: &Api, name: &str, disks: usize) -> Result<(String, Vec<String>)> {
    let vm = api.create_vm(&VmSpec::new(name).memory_mib(64).without_guest())?;
    let mut ids = Vec::new();
    for number in 0..disks {
        let disk = api.create_disk(&format!("{name}_{number}"), 64 * MIB)?;
        api.attach(&vm, &disk, "virtio", number == 0)?;
        ids.push(disk);
    }
    Ok((vm, ids))
}

fn refused(answer: Result<Answer>) -> Result<Refusal> {
    answer?.refusal()
}

/// Runs a tool that must succeed; what it printed.
fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "{program} {arguments:?}: {said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(said)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}

fn active_file(daemon: &Daemon, api: &Api, disk: &str) -> Result<PathBuf> {
    let xml = api.get(&format!("disks/{disk}"))?.expect(&[200])?.xml()?;
    let image = xml.text_at("image_id").context("no image_id")?;
    Ok(daemon.images_dir().join(format!("{image}.qcow2")))
}

/// Writes a pattern into an image at rest, as a guest would have.
fn write(image: &Path, pattern: u8, offset_mib: u64, length_mib: u64) -> Result<()> {
    let command = format!("write -P {pattern} {offset_mib}M {length_mib}M");
    tool("qemu-io", &["-f", "qcow2", "-c", &command, text(image)?]).map(drop)
}

/// Whether a disk at rest shows a pattern.
fn shows(image: &Path, pattern: u8, offset_mib: u64, length_mib: u64) -> Result<()> {
    let command = format!("read -P {pattern} {offset_mib}M {length_mib}M");
    let said = tool("qemu-io", &["-r", "-U", "-f", "qcow2", "-c", &command, text(image)?])?;
    ensure!(
        !said.contains("Pattern verification failed"),
        "{}: {said}",
        image.display()
    );
    Ok(())
}

fn newest_event(api: &Api, code: &str) -> Result<Option<Xml>> {
    let events = api.events(0)?;
    Ok(events
        .into_iter()
        .rev()
        .find(|event| event.text_at("code") == Some(code)))
}

/// The description of the newest event with a code; waits for it.
fn told(api: &Api, code: &str) -> Result<String> {
    let event = eventually(LONG, &format!("event {code}"), || newest_event(api, code))?;
    Ok(event.text_at("description").unwrap_or_default().to_owned())
}

fn begin(api: &Api, vm: &str) -> Result<String> {
    api.begin_snapshot(vm, "doomed", false, None)
}

/// Waits until a snapshot that failed has gone, as if it had never been asked for.
fn gone(api: &Api, vm: &str, snapshot: &str) -> Result<()> {
    eventually(LONG, "the failed snapshot to be taken back", || {
        let list = api.get(&format!("vms/{vm}/snapshots"))?.expect(&[200])?.xml()?;
        let kinds: Vec<_> = list.all("snapshot").filter(|s| s.id().ok() == Some(snapshot)).collect();
        let left = kinds.iter().any(|s| s.text_at("snapshot_type") != Some("active"));
        Ok((!left).then_some(()))
    })
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
    let stop = soon("a stop", || admin.post(&format!("vms/{hung}/stop"), "<action/>"))?;
    ensure!(
        stop.status == 200 || stop.refusal()?.detail.contains("hung"),
        "{}",
        stop.text()
    );
    if stop.status != 200 {
        daemon.unhang_guest(&hung)?;
        admin.wait_status(&format!("vms/{hung}"), "status", "up", LONG)?;
        let kept = admin.snapshot(&hung, "after all", false, None)?;
        admin.delete_snapshot(&hung, &kept)?;
    }
    let names = |estate: &[String]| estate.iter().filter(|line| line.starts_with("disk ")).count();
    ensure!(names(&daemon.estate(&admin)?) == names(&before), "disks came or went");
    daemon.scan_log(&["a machine does not answer", "its monitor does not answer"])
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

#[test]
fn a_file_that_belongs_to_no_disk_is_never_taken_over_or_removed_by_a_chosen_id() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    let ids = [
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
        "33333333-3333-4333-8333-333333333333",
    ];
    let path = |id: &str| daemon.images_dir().join(format!("{id}.qcow2"));
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(&path(ids[0]))?, "64M"],
    )?;
    write(&path(ids[0]), 0x55, 0, 1)?;
    fs::create_dir(path(ids[1]))?;
    std::os::unix::fs::symlink("/etc/hostname", path(ids[2]))?;
    let content = fs::read(path(ids[0]))?;
    let before = daemon.estate(&admin)?;
    for id in ids {
        for sparse in ["true", "false"] {
            let disk = format!(
                "<disk><image_id>{id}</image_id><provisioned_size>{}</provisioned_size><format>cow</format><sparse>{sparse}</sparse></disk>",
                64 * MIB
            );
            refused(admin.post("disks", &disk))?.expect(409, FAILED, &[id, "belongs to no disk", "adopt it"])?;
        }
        let snapshot = format!(
            "<snapshot><description>s</description><disk_attachments><disk_attachment><disk id=\"{}\"/></disk_attachment>\
             <disk_attachment><disk id=\"{}\"><image_id>{id}</image_id></disk></disk_attachment></disk_attachments></snapshot>",
            disks[0], disks[1]
        );
        let refused = refused(admin.post(&format!("vms/{vm}/snapshots"), &snapshot))?;
        refused.expect(409, FAILED, &[id, "belongs to no disk"])?;
    }
    ensure!(daemon.estate(&admin)? == before, "something was changed");
    ensure!(fs::read(path(ids[0]))? == content, "somebody's image was changed");
    ensure!(
        fs::read_link(path(ids[2]))? == Path::new("/etc/hostname"),
        "the link was changed"
    );
    daemon.scan_log(&[])
}

#[test]
fn an_image_that_was_removed_or_replaced_is_named_and_nothing_is_started_on_it() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    admin.snapshot(&vm, "kept", false, None)?;
    let base_of = |disk: &str| -> Result<PathBuf> {
        let images = admin
            .get(&format!("disks/{disk}/disksnapshots"))?
            .expect(&[200])?
            .xml()?;
        let id = images
            .children
            .first()
            .context("no image below the active one")?
            .id()?
            .to_owned();
        Ok(daemon.images_dir().join(format!("{id}.qcow2")))
    };
    let (base, top) = (base_of(&disks[1])?, active_file(&daemon, &admin, &disks[1])?);
    let aside = daemon.data_dir().join("aside");
    // qemu-img wants the size behind the name.
    let replace = |options: &[&str], size: &str, file: &Path| -> Result<()> {
        let arguments = [
            &["create", "-q", "-u", "-f", "qcow2"][..],
            options,
            &[text(file)?, size],
        ]
        .concat();
        tool("qemu-img", &arguments).map(drop)
    };
    let base_name = base
        .file_name()
        .and_then(|name| name.to_str())
        .context("a name")?
        .to_owned();
    for (file, what) in [
        (&base, "removed"),
        (&top, "removed"),
        (&base, "shrunk"),
        (&top, "shrunk"),
        (&top, "on no base"),
        (&base, "rubbish"),
        (&base, "a link"),
    ] {
        let name = file.file_name().and_then(|name| name.to_str()).context("a name")?;
        let case = format!("{name} {what}");
        let whole = daemon.estate(&admin)?;
        fs::rename(file, &aside)?;
        match what {
            "shrunk" if file == &base => replace(&[], "32M", file)?,
            "shrunk" => replace(&["-b", &base_name, "-F", "qcow2"], "32M", file)?,
            "on no base" => replace(&[], "64M", file)?,
            "rubbish" => fs::write(file, vec![0x41; 70_000])?,
            "a link" => std::os::unix::fs::symlink(&aside, file)?,
            _ => {}
        }
        let before = daemon.estate(&admin)?;
        let start = admin.post(&format!("vms/{vm}/start"), "<action/>")?;
        let fault = start.refusal().with_context(|| format!("{case}: the VM started"))?;
        ensure!(fault.detail.contains(name), "{case}: the file is not named: {fault:?}");
        admin
            .wait_status(&format!("vms/{vm}"), "status", "down", LONG)
            .with_context(|| case.clone())?;
        let answer = admin.post(
            &format!("vms/{vm}/snapshots"),
            "<snapshot><description>doomed</description></snapshot>",
        )?;
        if answer.status < 400 {
            gone(&admin, &vm, answer.xml()?.id()?).with_context(|| case.clone())?;
            let why = told(&admin, "69")?;
            ensure!(why.contains(name), "{case}: the file is not named: {why}");
        } else {
            let fault = answer.refusal()?;
            ensure!(fault.detail.contains(name), "{case}: the file is not named: {fault:?}");
        }
        ensure!(daemon.estate(&admin)? == before, "{case}: something was changed");
        if what != "removed" {
            fs::remove_file(file)?;
        }
        fs::rename(&aside, file)?;
        ensure!(daemon.estate(&admin)? == whole, "{case}: the estate is not as it was");
    }
    admin.start(&vm)?;
    admin.stop(&vm)?;
    daemon.scan_log(&[])
}

// ------------------------------------------------------------------------------------------------ adopted files

fn adoption(id: &str, format: &str) -> String {
    format!("<disk id=\"{id}\"><name>adopted</name><format>{format}</format></disk>")
}

#[test]
fn adopted_images_take_their_place_in_the_tree_and_keep_their_content() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (one, disks) = vm(&admin, "one", 1)?;
    let base = active_file(&daemon, &admin, &disks[0])?;
    write(&base, 0x11, 0, 4)?;
    let snapshot = admin.snapshot(&one, "shared", false, None)?;
    let top = active_file(&daemon, &admin, &disks[0])?;
    write(&top, 0x22, 2, 4)?;

    let twin = "44444444-4444-4444-8444-444444444444";
    let file = daemon.images_dir().join(format!("{twin}.qcow2"));
    let base_name = base
        .file_name()
        .and_then(|name| name.to_str())
        .context("a name")?
        .to_owned();
    tool(
        "qemu-img",
        &[
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-b",
            &base_name,
            "-F",
            "qcow2",
            text(&file)?,
            "64M",
        ],
    )?;
    write(&file, 0x33, 8, 4)?;
    let path = format!("storagedomains/{}/disks?unregistered", admin.data_domain()?);
    let list = admin.get(&path)?.expect(&[200])?.xml()?;
    ensure!(
        list.children.iter().any(|disk| disk.id().ok() == Some(twin)),
        "not listed: {list:?}"
    );
    let member = daemon.api("alice")?;
    refused(member.post(&path, &adoption(twin, "cow")))?.expect(403, FAILED, &["administrators"])?;
    let disk = admin
        .post(&path, &adoption(twin, "cow"))?
        .expect(&[201, 202])?
        .xml()?
        .id()?
        .to_owned();
    let again = refused(admin.post(&path, &adoption(twin, "cow")))?;
    ensure!(again.status == 409 && again.detail.contains(twin), "{again:?}");

    let (two, _) = vm(&admin, "two", 0)?;
    admin.attach(&two, &disk, "virtio", true)?;
    // The base has two children now: it stays, whoever gives up the snapshot.
    admin.delete_snapshot(&one, &snapshot)?;
    let check = |with_twin: bool| -> Result<()> {
        let first = active_file(&daemon, &admin, &disks[0])?;
        shows(&first, 0x11, 0, 2)?;
        shows(&first, 0x22, 2, 4)?;
        shows(&first, 0, 8, 4)?;
        if with_twin {
            let second = active_file(&daemon, &admin, &disk)?;
            shows(&second, 0x11, 0, 4)?;
            shows(&second, 0x33, 8, 4)?;
        }
        Ok(())
    };
    check(true)?;
    ensure!(base.exists(), "the shared base is gone");
    admin.start(&two)?;
    let kept = admin.snapshot(&two, "of the twin", false, None)?;
    admin.delete_snapshot(&two, &kept)?;
    admin.stop(&two)?;
    check(true)?;
    // With the twin gone the hidden base has one user: it is merged without being asked.
    admin.delete(&format!("vms/{two}"))?.expect(&[200])?;
    eventually(LONG, "the hidden image to be merged", || {
        let files = daemon.image_files()?;
        Ok((files.len() == 1).then_some(()))
    })
    .with_context(|| format!("{:?}", daemon.image_files()))?;
    check(false)?;
    admin.start(&one)?;
    admin.stop(&one)?;
    daemon.scan_log(&[])
}

#[test]
fn image_files_that_could_read_or_hide_something_are_refused_and_leave_no_row() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (_, disks) = vm(&admin, "one", 1)?;
    let used = active_file(&daemon, &admin, &disks[0])?;
    let used_name = used
        .file_name()
        .and_then(|name| name.to_str())
        .context("a name")?
        .to_owned();
    let directory = daemon.images_dir();
    let path = format!("storagedomains/{}/disks?unregistered", admin.data_domain()?);
    let id = "55555555-5555-4555-8555-555555555555";
    let file = directory.join(format!("{id}.qcow2"));
    let data = daemon.data_dir().join("data.raw");
    let outside = daemon.data_dir().join("outside.qcow2");
    tool("qemu-img", &["create", "-q", "-f", "qcow2", text(&outside)?, "64M"])?;
    let parent = format!("../images/{used_name}");
    let absolute = text(&used)?;
    let nobody = "66666666-6666-4666-8666-666666666666.qcow2";
    let own = format!("{id}.qcow2");
    let backings = [
        "json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}",
        "nbd://127.0.0.1:10809/x",
        "nbd:unix:/tmp/x:exportname=y",
        &parent,
        "/etc/passwd",
        text(&outside)?,
        absolute,
        nobody,
        &used_name, // an image that a disk writes to
        &own,
    ];
    let before = daemon.estate(&admin)?;
    for backing in backings {
        for format in ["qcow2", "raw"] {
            let arguments = [
                "create",
                "-q",
                "-u",
                "-f",
                "qcow2",
                "-b",
                backing,
                "-F",
                format,
                text(&file)?,
                "64M",
            ];
            tool("qemu-img", &arguments)?;
            let answer = admin.post(&path, &adoption(id, "cow"))?;
            let fault = answer.refusal().with_context(|| format!("{backing} was taken"))?;
            ensure!(fault.status == 409 && fault.detail.contains(id), "{backing}: {fault:?}");
            ensure!(!fault.detail.contains("root:"), "{backing}: a file was read: {fault:?}");
            fs::remove_file(&file)?;
        }
    }
    let refuse = |format: &str, words: &[&str]| -> Result<()> {
        let fault = refused(admin.post(&path, &adoption(id, format)))?;
        fault.expect(409, FAILED, &[&[id][..], words].concat())
    };
    let option = format!("data_file={}", text(&data)?);
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", &option, text(&file)?, "64M"],
    )?;
    refuse("cow", &["data file"])?;
    fs::remove_file(&file)?;

    std::os::unix::fs::symlink(&outside, &file)?;
    refuse("cow", &["symbolic link"])?;
    fs::remove_file(&file)?;
    fs::create_dir(&file)?;
    refuse("cow", &["directory"])?;
    fs::remove_dir(&file)?;
    fs::hard_link(&outside, &file)?;
    refuse("cow", &["2 names"])?;
    fs::remove_file(&file)?;
    fs::write(&file, [0x41; 70_000])?;
    refuse("cow", &[])?;
    fs::write(&file, "")?;
    refuse("cow", &[])?;
    fs::remove_file(&file)?;

    let raw = directory.join(format!("{id}.raw"));
    fs::copy(&outside, &raw)?;
    refuse("raw", &["qcow2"])?;
    fs::write(&raw, [0x41; 700])?;
    refuse("raw", &["512"])?;
    fs::remove_file(&raw)?;
    let absent = admin.post(&path, &adoption(id, "cow"))?.refusal()?;
    ensure!(absent.status == 400 && absent.detail.contains(id), "{absent:?}");
    if daemon.estate(&admin)? != before {
        bail!("something was changed: {:#?}", daemon.estate(&admin)?);
    }
    daemon.scan_log(&[])
}
