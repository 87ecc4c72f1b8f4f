//! A VM with a disk, the hands that damage it, and the command that mends it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use stillpoint_system_tests::tool;
use stillpoint_testkit::{Api, Daemon, Password, VmSpec, Xml, eventually};

pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const MIB: u64 = 1 << 20;
const SMALL: u64 = 32 * MIB;

/// A daemon, and a VM without guest that has one disk.
pub(crate) struct Rig {
    pub(crate) daemon: Daemon,
    pub(crate) api: Api,
    pub(crate) vm: String,
    pub(crate) disk: String,
}

pub(crate) fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}

/// Runs the command as its user would; exit code, and all that it said.
pub(crate) fn stillpoint(daemon: &Daemon, user: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let done = Command::new(stillpoint_testkit::binary()?)
        .args(arguments)
        .env("STILLPOINT_URL", daemon.url())
        .env("STILLPOINT_USER", format!("{user}@internal"))
        .env("STILLPOINT_PASSWORD", Password::of(user)?.0)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok((done.status.code().context("ended by a signal")?, said))
}

/// The only finding, after `--plan` has been seen to show it to people and to programs.
pub(crate) fn only_finding(daemon: &Daemon) -> Result<Value> {
    let (code, shown) = stillpoint(daemon, "admin", &["repair", "--plan"])?;
    ensure!(code == 9, "code {code}: {shown}");
    let (code, found) = stillpoint(daemon, "admin", &["repair", "--dry-run", "--json"])?;
    ensure!(code == 9, "code {code}: {found}");
    let found: Vec<Value> = serde_json::from_str(&found)?;
    ensure!(found.len() == 1, "{found:#?}");
    let id = found[0]["id"].as_str().context("no id")?;
    ensure!(shown.contains(id) && shown.contains("loses"), "{shown}");
    Ok(found[0].clone())
}

pub(crate) fn expect_kind(found: &Value, kind: &str, safe: bool) -> Result<()> {
    ensure!(found["kind"] == kind && found["safe"] == safe, "{found:#}");
    Ok(())
}

pub(crate) fn expect_nothing(daemon: &Daemon) -> Result<()> {
    let (code, said) = stillpoint(daemon, "admin", &["repair", "--plan"])?;
    ensure!(code == 0 && said.contains("nothing is damaged"), "code {code}: {said}");
    Ok(())
}

/// Mends all, and looks that nothing is left.
pub(crate) fn mend(daemon: &Daemon) -> Result<String> {
    let (code, said) = stillpoint(daemon, "admin", &["repair", "--yes"])?;
    ensure!(code == 0 && said.contains("repaired: "), "code {code}: {said}");
    expect_nothing(daemon)?;
    Ok(said)
}

pub(crate) fn events(api: &Api, code: u32) -> Result<Vec<String>> {
    let all = api.events(0)?.into_iter();
    let told = all.filter(|event| event.text_at("code") == Some(&code.to_string()));
    Ok(told
        .map(|event| event.text_at("description").unwrap_or_default().to_owned())
        .collect())
}

/// Whether an image shows that byte at that MiB.
pub(crate) fn shows(file: &Path, pattern: u8, at_mib: u64) -> Result<()> {
    let command = format!("read -P {pattern} {at_mib}M 1M");
    let said = tool("qemu-io", &["-r", "-U", "-c", &command, text(file)?])?;
    ensure!(!said.contains("failed"), "{} at {at_mib} MiB: {said}", file.display());
    Ok(())
}

pub(crate) fn write(file: &Path, pattern: u8, at_mib: u64) -> Result<()> {
    let command = format!("write -P {pattern} {at_mib}M 1M");
    tool("qemu-io", &["-c", &command, text(file)?]).map(drop)
}

pub(crate) fn overlay(base: &Path, file: &Path) -> Result<()> {
    let base = base.file_name().context("a name")?.to_string_lossy().into_owned();
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &base, text(file)?],
    )
    .map(drop)
}

/// A machine's second monitor.
pub(crate) struct Monitor(BufReader<UnixStream>, UnixStream);

impl Monitor {
    pub(crate) fn of(daemon: &Daemon, vm: &str) -> Result<Self> {
        let stream = UnixStream::connect(daemon.data_dir().join("run/vm").join(vm).join("qmp2"))?;
        stream.set_read_timeout(Some(LONG))?;
        let mut monitor = Self(BufReader::new(stream.try_clone()?), stream);
        monitor.run("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    pub(crate) fn run(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        writeln!(self.1, "{}", json!({"execute": command, "arguments": arguments}))?;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "the monitor closed");
            let mut answer: Value = serde_json::from_str(&line)?;
            ensure!(answer.get("error").is_none(), "{command}: {answer}");
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    /// The device whose chain has that file on top, and its node.
    fn device(&mut self, file: &Path) -> Result<(String, String)> {
        let name = file.file_name().context("a name")?.to_string_lossy().into_owned();
        let devices = self.run("query-block", &json!({}))?;
        let devices = devices.as_array().context("no list")?;
        let is_it = |device: &&Value| {
            device["inserted"]["file"]
                .as_str()
                .is_some_and(|file| file.contains(&name))
        };
        let device = devices
            .iter()
            .find(is_it)
            .with_context(|| format!("no device of {name}"))?;
        let member = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        Ok((member(&device["qdev"])?, member(&device["inserted"]["node-name"])?))
    }

    /// What `snapshot-blkdev` does: the guest writes to a file that nobody recorded.
    pub(crate) fn snapshot_blkdev(&mut self, top: &Path, file: &Path) -> Result<()> {
        let (_, node) = self.device(top)?;
        let name = file.file_stem().context("a name")?.to_string_lossy().into_owned();
        let arguments = json!({
            "node-name": node, "snapshot-file": text(file)?, "snapshot-node-name": name, "format": "qcow2",
        });
        self.run("blockdev-snapshot-sync", &arguments).map(drop)
    }

    /// Writes a MiB as the guest would.
    pub(crate) fn write(&mut self, top: &Path, pattern: u8, at_mib: u64) -> Result<()> {
        let (device, _) = self.device(top)?;
        let line = format!("qemu-io -d {device} \"write -P {pattern} {at_mib}M 1M\"");
        let said = self.run("human-monitor-command", &json!({"command-line": line}))?;
        ensure!(said.as_str() == Some(""), "{line}: {said}");
        Ok(())
    }
}

impl Rig {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let daemon = Daemon::start()?;
        let api = daemon.api("admin")?;
        let vm = api.create_vm(&VmSpec::new(name).memory_mib(64).without_guest())?;
        let disk = api.create_disk(&format!("{name}_0"), SMALL)?;
        api.attach(&vm, &disk, "virtio", true)?;
        Ok(Self { daemon, api, vm, disk })
    }

    pub(crate) fn image(&self, id: &str) -> PathBuf {
        self.daemon.images_dir().join(format!("{id}.qcow2"))
    }

    /// The file that is recorded as the disk's.
    pub(crate) fn active(&self) -> Result<PathBuf> {
        let disk = get(&self.api, &format!("disks/{}", self.disk))?;
        Ok(self.image(disk.text_at("image_id").context("no image_id")?))
    }

    pub(crate) fn monitor(&self) -> Result<Monitor> {
        Monitor::of(&self.daemon, &self.vm)
    }

    pub(crate) fn plan_only(&self) -> Result<Value> {
        only_finding(&self.daemon)
    }

    pub(crate) fn mend(&self) -> Result<String> {
        mend(&self.daemon)
    }

    /// What is kept aside, as names.
    pub(crate) fn orphans(&self) -> Vec<String> {
        let entries = fs::read_dir(self.daemon.images_dir().join("orphans"));
        let names = entries.into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// The disk is as usable as any: started, written to, snapshotted, and the snapshot removed.
    pub(crate) fn works(&self) -> Result<()> {
        self.settled()?;
        self.api.start(&self.vm)?;
        let snapshot = self.api.snapshot(&self.vm, "after", false, None)?;
        self.monitor()?.write(&self.active()?, 0x7e, 31)?;
        self.api.delete_snapshot(&self.vm, &snapshot)?;
        self.api.stop(&self.vm)?;
        self.settled()?;
        shows(&self.active()?, 0x7e, 31)?;
        expect_nothing(&self.daemon)
    }

    /// Nothing holds the disk any more, and it is well.
    pub(crate) fn settled(&self) -> Result<()> {
        self.api
            .wait_status(&format!("disks/{}", self.disk), "status", "ok", LONG)
    }

    /// Ends the daemon at a point of what is asked for, and starts it again.
    pub(crate) fn crash(&mut self, point: &str, and_machines: bool, ask: impl Fn(&Self)) -> Result<()> {
        self.daemon.set_env("STILLPOINT_CRASH_AT", Some(point));
        self.daemon.set_env("STILLPOINT_CRASH_HOW", Some("abort"));
        self.daemon.restart()?;
        self.api = self.daemon.api("admin")?;
        ask(self);
        self.daemon.wait_end(LONG).with_context(|| point.to_owned())?;
        if and_machines {
            self.daemon.kill_machines()?;
        }
        self.daemon.set_env("STILLPOINT_CRASH_AT", None);
        self.restart()
    }

    pub(crate) fn restart(&mut self) -> Result<()> {
        self.daemon.restart()?;
        self.api = self.daemon.api("admin")?;
        Ok(())
    }

    /// Waits until no job is under way.
    pub(crate) fn idle(&self) -> Result<()> {
        eventually(LONG, "the jobs to end", || {
            let jobs = get(&self.api, "jobs?search=status%3Dstarted")?;
            Ok(jobs.children.is_empty().then_some(()))
        })
    }

    /// No job is under way, and nothing is left to be repaired.
    pub(crate) fn healed(&self) -> Result<()> {
        self.idle()?;
        expect_nothing(&self.daemon)
    }

    /// Begins to repair the only finding, whatever becomes of the answer.
    pub(crate) fn begin(&self, id: &str) {
        let native = self.api.speaking(None, "/stillpoint/v1");
        drop(native.post_json(&format!("repairs/{id}"), &json!({})));
    }
}
