//! `stillpoint backup` against a real daemon: what is in a point is what the disks held, whatever happens on the way.
//!
//! Points are judged by QEMU's own tools, and restored VMs by the guest's records.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};
use stillpoint_system_tests::{Proxy, Weather, tool};
use stillpoint_testkit::{Api, Console, Daemon, Guest, Password, VmSpec, eventually, free_port, records::Checker};

const LONG: Duration = Duration::from_secs(180);
const DISK_BYTES: u64 = 32 << 20;

/// A daemon and a directory for points.
struct Rig {
    daemon: Daemon,
    api: Api,
    folder: tempfile::TempDir,
    url: String,
}

/// A VM and its disks, in order.
struct Vm {
    id: String,
    disks: Vec<String>,
}

impl Rig {
    fn start() -> Self {
        Self::of(Daemon::start().unwrap())
    }

    fn of(daemon: Daemon) -> Self {
        let api = daemon.api("admin").unwrap();
        let url = daemon.url().to_owned();
        Self {
            daemon,
            api,
            folder: tempfile::tempdir().unwrap(),
            url,
        }
    }

    /// A daemon that clients reach through a proxy, its transfers too: there is no unix socket beside it.
    fn behind_a_proxy() -> (Self, Proxy) {
        let server = format!("127.0.0.1:{}", free_port().unwrap());
        let proxy = Proxy::to(&server).unwrap();
        let daemon = Daemon::builder()
            .args(["--public-url", &proxy.url(), "--local-images", "off"])
            .listen(&server)
            .start();
        (Self::of(daemon.unwrap()), proxy)
    }

    fn make_vm(&self, name: &str, spec: &VmSpec, disks: usize) -> Vm {
        let id = self.api.create_vm(spec).unwrap();
        let disks = (0..disks).map(|number| {
            let disk = self.api.create_disk(&format!("{name}_{number}"), DISK_BYTES).unwrap();
            self.api.attach(&id, &disk, "virtio", number == 0).unwrap();
            disk
        });
        Vm {
            disks: disks.collect(),
            id,
        }
    }

    /// A VM that runs, and whose guest writes records on both disks.
    fn make_writing_vm(&self, name: &str) -> (Vm, Console) {
        let guest = Guest::build().unwrap();
        guest.install(self.daemon.data_dir()).unwrap();
        let spec = VmSpec::new(name).cmdline(&guest.cmdline("sp.pause=500").unwrap());
        let vm = self.make_vm(name, &spec, 2);
        self.api.start(&vm.id).unwrap();
        let console = self.daemon.console(&vm.id);
        console.wait_record(200, LONG).unwrap();
        (vm, console)
    }

    /// A VM that is down, its disks filled with patterns.
    fn make_vm_at_rest(&self, name: &str) -> Vm {
        let vm = self.make_vm(name, &VmSpec::new(name).without_guest(), 2);
        for disk in &vm.disks {
            let file = self.file_of(disk);
            // 20 MiB in one piece, and pieces that touch parts of clusters only.
            for command in [
                "write -P 0x11 1M 20M",
                "write -P 0x22 25000k 4k",
                "write -P 0x33 32764k 4k",
                "write -z 3M 64k",
            ] {
                tool("qemu-io", &["-f", "qcow2", "-c", command, file.to_str().unwrap()]).unwrap();
            }
        }
        vm
    }

    /// The active image of a disk.
    fn file_of(&self, disk: &str) -> PathBuf {
        let shown = self.api.get(&format!("disks/{disk}")).unwrap().expect(&[200]).unwrap();
        let image = shown.xml().unwrap().text_at("image_id").unwrap().to_owned();
        let files = fs::read_dir(self.daemon.images_dir())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut named = files.filter(|path| path.to_string_lossy().contains(&image));
        named.next().unwrap()
    }

    fn points(&self) -> PathBuf {
        self.folder.path().join("points")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(stillpoint_testkit::binary().unwrap());
        command.arg("backup").args(arguments);
        command
            .env("STILLPOINT_URL", &self.url)
            .env("STILLPOINT_USER", "admin@internal")
            .env("STILLPOINT_PASSWORD", Password::of("admin").unwrap().0);
        command
    }

    /// Runs a command with `--json`, which must succeed.
    fn run(&self, arguments: &[&str]) -> Value {
        let done = self.command(arguments).arg("--json").output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", said(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Runs a command that must fail with this exit code; what it said.
    fn fail(&self, arguments: &[&str], code: i32) -> String {
        let done = self.command(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", said(&done));
        said(&done)
    }

    fn at_rest(&self, vm: &str) -> Value {
        self.run(&["run", vm, "--to", self.points().to_str().unwrap(), "--at-rest"])
    }

    /// No transfer is open, and all disks can be used.
    fn assert_all_free(&self, vm: &Vm) {
        for disk in &vm.disks {
            self.api
                .wait_status(&format!("disks/{disk}"), "status", "ok", LONG)
                .unwrap();
        }
        let list = self
            .api
            .get("imagetransfers")
            .unwrap()
            .expect(&[200])
            .unwrap()
            .xml()
            .unwrap();
        for transfer in list.children {
            let phase = transfer.text_at("phase").unwrap();
            assert!(phase.starts_with("finished"), "{phase}");
        }
    }

    /// The names in the directory of points, without those that are no point.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.points()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name != "lock").collect();
        names.sort();
        names
    }
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&[done.stdout.as_slice(), &done.stderr].concat()).into_owned()
}

fn compare(one: &Path, other: &Path) {
    tool("qemu-img", &["check", "-q", one.to_str().unwrap()]).unwrap();
    tool(
        "qemu-img",
        &["compare", "-U", one.to_str().unwrap(), other.to_str().unwrap()],
    )
    .unwrap();
}

fn disks_of(dir: &Value) -> Vec<PathBuf> {
    let dir = PathBuf::from(dir["directory"].as_str().unwrap());
    let count = fs::read_dir(&dir).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".qcow2")
    });
    (1..=count.count())
        .map(|number| dir.join(format!("disk{number}.qcow2")))
        .collect()
}

#[test]
fn a_guest_goes_on_in_a_vm_restored_from_its_disks_at_rest() {
    let rig = Rig::start();
    let (vm, console) = rig.make_writing_vm("db1");
    rig.api.stop(&vm.id).unwrap();
    let durable = console.last_record();

    let made = rig.at_rest("db1");
    let files = disks_of(&made);
    for (file, disk) in files.iter().zip(&vm.disks) {
        compare(file, &rig.file_of(disk));
    }
    Checker::new().at_least(durable).check(&files).unwrap();
    rig.assert_all_free(&vm);
    let points = rig.points();
    let points = points.to_str().unwrap();
    assert_eq!(rig.run(&["verify", points])["good"], true);
    let listed = rig.run(&["list", points]);
    assert_eq!(
        (listed[0]["number"].as_u64(), listed[0]["vm"]["name"].as_str()),
        (Some(1), Some("db1"))
    );
    let ovf = fs::read_to_string(files[0].with_file_name("vm.ovf")).unwrap();
    assert!(ovf.contains("Envelope") && ovf.contains("db1"), "{ovf}");
    let mut sums = Command::new("sha256sum");
    sums.args(["--quiet", "-c", "SHA256SUMS"])
        .current_dir(files[0].parent().unwrap());
    assert!(sums.status().unwrap().success());

    let restored = rig.run(&["restore", points, "--as", "db1-again"]);
    let again = restored["vm"]["id"].as_str().unwrap();
    let disks: Vec<_> = restored["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| disk["id"].as_str().unwrap())
        .collect();
    for (file, disk) in files.iter().zip(&disks) {
        compare(&rig.file_of(disk), file);
    }
    rig.api.start(again).unwrap();
    let console = rig.daemon.console(again);
    console.wait_record(durable + 50, LONG).unwrap();
    console.fail_on_trouble().unwrap();
    rig.api.stop(again).unwrap();
    let files: Vec<_> = disks.iter().map(|disk| rig.file_of(disk)).collect();
    Checker::new().at_least(durable + 50).check(&files).unwrap();
    rig.daemon.scan_log(&[]).unwrap();
}

#[test]
fn connections_that_break_cost_time_and_no_byte_in_both_directions() {
    let (rig, proxy) = Rig::behind_a_proxy();
    let vm = rig.make_vm_at_rest("db1");
    proxy.set(Weather::Breaks(3 << 20));
    let made = rig.at_rest("db1");
    assert!(proxy.broken() >= 5, "only {} connections were broken", proxy.broken());
    for (file, disk) in disks_of(&made).iter().zip(&vm.disks) {
        compare(file, &rig.file_of(disk));
    }
    // What is read is a little more than what is not zero: 20 MiB and two clusters, less a zeroed one.
    let read = made["point"]["disks"][0]["data_bytes"].as_u64().unwrap();
    assert_eq!(read, (20 << 20) + 65_536);
    let points = rig.points();
    let restored = rig.run(&["restore", points.to_str().unwrap(), "--as", "db1-again"]);
    for (disk, old) in restored["disks"].as_array().unwrap().iter().zip(&vm.disks) {
        compare(&rig.file_of(disk["id"].as_str().unwrap()), &rig.file_of(old));
        assert_eq!(disk["written_bytes"].as_u64(), Some(read), "zeroes are not sent");
    }
    rig.assert_all_free(&vm);
}

/// Starts a run whose download halts in the middle.
fn halted(rig: &Rig, proxy: &Proxy) -> std::process::Child {
    proxy.set(Weather::Halts(proxy.bytes() + (8 << 20)));
    let mut command = rig.command(&["run", "db1", "--to", rig.points().to_str().unwrap(), "--at-rest"]);
    let (begin, child) = (
        proxy.bytes(),
        command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap(),
    );
    eventually(LONG, "the download to halt", || {
        Ok((proxy.bytes() >= begin + (8 << 20)).then_some(()))
    })
    .unwrap();
    child
}

fn signal(child: &std::process::Child, name: &str) {
    tool("kill", &["-s", name, &child.id().to_string()]).unwrap();
}

#[test]
fn ctrl_c_in_the_middle_frees_the_disks_and_leaves_no_point() {
    let (rig, proxy) = Rig::behind_a_proxy();
    let vm = rig.make_vm_at_rest("db1");
    let child = halted(&rig, &proxy);
    signal(&child, "INT");
    proxy.set(Weather::Fair);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "{}", said(&done));
    assert!(said(&done).contains("interrupted"), "{}", said(&done));
    assert!(rig.names().is_empty(), "{:?}", rig.names());
    rig.assert_all_free(&vm);
}

#[test]
fn a_run_that_was_killed_leaves_nothing_that_looks_like_a_point_and_the_next_one_works() {
    let (rig, proxy) = Rig::behind_a_proxy();
    let vm = rig.make_vm_at_rest("db1");
    let mut child = halted(&rig, &proxy);
    child.kill().unwrap();
    child.wait().unwrap();
    proxy.set(Weather::Fair);
    let left = rig.names();
    assert!(left.len() == 1 && left[0].starts_with(".partial-"), "{left:?}");
    let points = rig.points();
    let points = points.to_str().unwrap();
    assert_eq!(rig.run(&["list", points]), serde_json::json!([]));
    let said = rig.fail(&["restore", points, "--as", "nothing"], 1);
    assert!(said.contains("there is no point"), "{said}");
    // What the killed run had open ends by its idle time; it keeps nobody from reading.
    let made = rig.at_rest(&vm.id);
    assert_eq!(rig.names().len(), 1);
    for (file, disk) in disks_of(&made).iter().zip(&vm.disks) {
        compare(file, &rig.file_of(disk));
    }
}

#[test]
fn a_run_goes_on_when_the_daemon_was_killed_and_is_back() {
    let (mut rig, proxy) = Rig::behind_a_proxy();
    let vm = rig.make_vm_at_rest("db1");
    let child = halted(&rig, &proxy);
    rig.daemon.kill9().unwrap();
    proxy.set(Weather::Fair);
    rig.daemon.restart().unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let point = rig.points().join(&rig.names()[0]);
    for (number, disk) in vm.disks.iter().enumerate() {
        compare(&point.join(format!("disk{}.qcow2", number + 1)), &rig.file_of(disk));
    }
    rig.assert_all_free(&vm);
}

#[test]
fn damage_is_found_and_a_damaged_point_is_not_restored() {
    let rig = Rig::start();
    let vm = rig.make_vm_at_rest("db1");
    let made = rig.at_rest("db1");
    let file = &disks_of(&made)[1];
    let good = fs::read(file).unwrap();
    let points = rig.points();
    let points = points.to_str().unwrap();
    // A byte of data, a byte of a table, the end cut off, and the file gone.
    let mut data = good.clone();
    data[good.len() - 100_000] ^= 1;
    let mut table = good.clone();
    table[65_536 + 3] ^= 1;
    for bad in [Some(data), Some(table), Some(good[..good.len() - 1].to_vec()), None] {
        fs::remove_file(file).unwrap();
        if let Some(bytes) = &bad {
            fs::write(file, bytes).unwrap();
        }
        let told = rig.fail(&["verify", points], 1);
        assert!(told.contains("DAMAGED") && told.contains("disk2.qcow2"), "{told}");
        let told = rig.fail(&["restore", points, "--as", "never"], 1);
        assert!(told.contains("cannot be restored"), "{told}");
        fs::write(file, &good).unwrap();
    }
    assert_eq!(rig.run(&["verify", points])["good"], true);
    let manifest = file.with_file_name("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"bootable\": true", "\"bootable\": false")).unwrap();
    let told = rig.fail(&["verify", points], 1);
    assert!(told.contains("manifest.json was changed"), "{told}");
    let vms = rig.api.get("vms").unwrap().expect(&[200]).unwrap().xml().unwrap();
    assert_eq!(vms.children.len(), 1, "no VM was made from what was damaged");
    rig.assert_all_free(&vm);
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do_and_nothing_is_left() {
    let rig = Rig::start();
    let vm = rig.make_vm_at_rest("db1");
    let points = rig.points();
    let points = points.to_str().unwrap();
    let said = rig.fail(&["run", "nobody", "--to", points], 3);
    assert!(
        said.contains("there is no VM \"nobody\"") && said.contains("--user"),
        "{said}"
    );
    let wrong = rig
        .command(&["run", "db1", "--to", points])
        .env("STILLPOINT_PASSWORD", "wrong")
        .output()
        .unwrap();
    assert!(
        self::said(&wrong).contains("STILLPOINT_PASSWORD"),
        "{}",
        self::said(&wrong)
    );
    let nowhere = ["run", "db1", "--to", points, "--url", "http://127.0.0.1:9"];
    let said = rig.fail(&nowhere, 6);
    assert!(said.contains("check that the server runs"), "{said}");
    rig.api.start(&vm.id).unwrap();
    let said = rig.fail(&["run", "db1", "--to", points, "--at-rest"], 1);
    assert!(said.contains("is up") && said.contains("leave it out"), "{said}");
    rig.api.stop(&vm.id).unwrap();
    rig.at_rest("db1");
    let other = rig.make_vm("other", &VmSpec::new("other").without_guest(), 1);
    let said = rig.fail(&["run", &other.id, "--to", points, "--at-rest"], 1);
    assert!(said.contains("holds points of the VM db1"), "{said}");
    // The VM's name is taken: the disks that were made for it are removed again.
    let before = rig.daemon.image_files().unwrap();
    let said = rig.fail(&["restore", points, "--as", "db1"], 5);
    assert!(
        said.contains("choose another name") && said.contains("was removed again"),
        "{said}"
    );
    let gone = || Ok((rig.daemon.image_files()? == before).then_some(()));
    eventually(LONG, "the disks of the failed restore to be gone", gone).unwrap();
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure_and_a_result_that_cannot_be_written_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let list = || {
        let mut command = Command::new(stillpoint_testkit::binary().unwrap());
        command.args(["backup", "list", "--json"]).arg(folder.path());
        command
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = list().stdout(writer).output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{}", said(&done));
    let full = fs::File::create("/dev/full").unwrap();
    let done = list().stdout(full).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("could not be printed"), "{}", said(&done));
}

/// The whole of a point, as QEMU reads its chain.
fn hash(file: &Path) -> String {
    let raw = tempfile::NamedTempFile::new().unwrap();
    let (file, raw) = (file.to_str().unwrap(), raw.path().to_str().unwrap());
    tool("qemu-img", &["convert", "-U", "-O", "raw", file, raw]).unwrap();
    tool("sha256sum", &[raw]).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_full_and_two_incremental_points_of_a_writing_guest_are_restored_byte_for_byte() {
    let rig = Rig::start();
    let (vm, console) = rig.make_writing_vm("db1");
    let points = rig.points();
    let points = points.to_str().unwrap();

    let mut made = Vec::new();
    for arguments in [
        &[][..],
        &["--incremental", "--require-consistency"],
        &["--incremental", "--use-active"],
    ] {
        let before = console.last_record();
        let point = rig.run(&[&["run", "db1", "--to", points], arguments].concat());
        let files = disks_of(&point);
        let moment = Checker::new().at_least(before).check(&files).unwrap();
        // The guest went on meanwhile, and goes on.
        console.wait_record(moment.complete() + 50, LONG).unwrap();
        made.push((point, files, moment));
    }
    console.fail_on_trouble().unwrap();
    for (number, (point, files, _)) in made.iter().enumerate() {
        for (disk, file) in point["point"]["disks"].as_array().unwrap().iter().zip(files) {
            tool("qemu-img", &["check", "-q", file.to_str().unwrap()]).unwrap();
            let mode = if number == 0 { "full" } else { "incremental" };
            assert_eq!(disk["mode"], mode, "{point}");
            if number > 0 {
                assert!(
                    disk["data_bytes"].as_u64().unwrap() < DISK_BYTES / 2,
                    "no more than what changed: {disk}"
                );
            }
        }
        assert_eq!(point["warnings"], serde_json::json!([]));
    }
    assert!(made[0].2.complete() < made[1].2.complete() && made[1].2.complete() < made[2].2.complete());
    assert_eq!(rig.run(&["verify", points])["good"], true);

    // Nothing of the backups is left in the VM but its disks.
    let snapshots = rig
        .api
        .get(&format!("vms/{}/snapshots", vm.id))
        .unwrap()
        .expect(&[200])
        .unwrap()
        .xml()
        .unwrap();
    assert_eq!(snapshots.children.len(), 1, "the active one only");
    rig.assert_all_free(&vm);
    for (number, (_, files, moment)) in made.iter().enumerate() {
        let (at, name) = ((number + 1).to_string(), format!("db1-at-{}", number + 1));
        let restored = rig.run(&["restore", points, "--as", &name, "--at", &at]);
        let disks = restored["disks"].as_array().unwrap();
        let disks: Vec<_> = disks
            .iter()
            .map(|disk| rig.file_of(disk["id"].as_str().unwrap()))
            .collect();
        for (disk, file) in disks.iter().zip(files) {
            assert_eq!(hash(disk), hash(file), "point {at}");
        }
        assert_eq!(Checker::new().check(&disks).unwrap(), *moment, "point {at}");
    }
}

#[test]
fn ctrl_c_while_a_guest_is_backed_up_finalizes_the_backup() {
    let (rig, proxy) = Rig::behind_a_proxy();
    let vm = rig.make_vm_at_rest("db1");
    rig.api.start(&vm.id).unwrap();
    proxy.set(Weather::Halts(proxy.bytes() + (8 << 20)));
    let (begin, points) = (proxy.bytes(), rig.points());
    let mut command = rig.command(&["run", "db1", "--to", points.to_str().unwrap()]);
    let child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    eventually(LONG, "the download to halt", || {
        Ok((proxy.bytes() >= begin + (8 << 20)).then_some(()))
    })
    .unwrap();
    signal(&child, "INT");
    proxy.set(Weather::Fair);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "{}", said(&done));
    assert!(said(&done).contains("the backup was finalized"), "{}", said(&done));
    assert!(rig.names().is_empty(), "{:?}", rig.names());
    rig.assert_all_free(&vm);
    // Nothing keeps the next one from working; nor when it was killed and could end nothing.
    proxy.set(Weather::Halts(proxy.bytes() + (8 << 20)));
    let begin = proxy.bytes();
    let mut command = rig.command(&["run", "db1", "--to", points.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    eventually(LONG, "the download to halt", || {
        Ok((proxy.bytes() >= begin + (8 << 20)).then_some(()))
    })
    .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    proxy.set(Weather::Fair);
    let made = rig.run(&["run", "db1", "--to", points.to_str().unwrap()]);
    assert_eq!(made["point"]["number"], 1);
    rig.assert_all_free(&vm);
    rig.api.stop(&vm.id).unwrap();
}
