//! The command line against a real daemon and a real guest: what people see, what programs parse, and what is not done
//! by accident. The tour of `docs/guide/cli.md` is run as it is written there.

#![expect(clippy::unwrap_used, reason = "a test file: a failed step is a failed test")]

use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};
use stillpoint_system_tests::{
    tool,
    tour::{Tour, guide},
};
use stillpoint_testkit::{Daemon, Guest, Password, eventually};

/// The command, with a server that may be none.
struct Cli {
    url: String,
    home: tempfile::TempDir,
}

impl Cli {
    fn of(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn prepare(&self, mut command: Command) -> Command {
        let binary = stillpoint_testkit::binary().unwrap();
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", binary.parent().unwrap().display()))
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("STILLPOINT_URL", &self.url)
            .env("STILLPOINT_PASSWORD", Password::of("admin").unwrap().0)
            .stdin(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(stillpoint_testkit::binary().unwrap());
        command.args(arguments);
        self.prepare(command)
    }

    /// Runs a command that must end with this code; all that it said.
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let done = self.command(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {}", said(&done));
        said(&done)
    }

    fn text(&self, arguments: &[&str]) -> String {
        self.ends(0, arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.command(arguments).arg("--json").output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", said(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

fn said(done: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    )
}

#[test]
fn without_a_server_it_helps_completes_and_says_what_is_wrong() {
    let cli = Cli::of("http://127.0.0.1:9");
    let help = cli.text(&["--help"]);
    let guide = guide("cli.md").unwrap();
    for code in 0..=9 {
        assert!(
            help.contains(&format!(" {code}  ")) && guide.contains(&format!("\n| {code} | ")),
            "{code}"
        );
    }
    for noun in [
        "vm",
        "disk",
        "snapshot",
        "checkpoint",
        "transfer",
        "job",
        "event",
        "backup",
    ] {
        assert!(
            guide.contains(&format!("| `{noun}` |")) && help.contains(&format!("  {noun} ")),
            "{noun}"
        );
        assert!(cli.text(&[noun, "list", "--help"]).contains("stillpoint"));
    }
    assert!(cli.text(&["vm", "delete", "--help"]).contains("Examples:"));

    // Wrong words suggest the right ones, and nothing is sent.
    for (wrong, right) in [
        (&["snapshot", "restor", "db1"][..], "restore"),
        (&["snapshto", "list"][..], "snapshot"),
        (&["vm", "list", "--jsn"][..], "--json"),
        (&["vm", "delete", "db1", "--dryrun"][..], "--dry-run"),
    ] {
        let told = cli.ends(2, wrong);
        assert!(told.contains("similar") && told.contains(right), "{wrong:?}: {told}");
    }
    assert!(
        cli.ends(2, &["disk", "create", "d", "--size", "ten"])
            .contains("such as 10G")
    );

    // No server, no profile, no password.
    let told = cli.ends(6, &["vm", "list"]);
    assert!(told.contains("check that the server runs"), "{told}");
    assert!(
        cli.ends(2, &["vm", "list", "--profile", "lab"])
            .contains("profiles there: none")
    );
    let config = cli.home.path().join("stillpoint");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("config.toml"), "[profile.lab]\nurll = \"x\"\n").unwrap();
    let told = cli.ends(2, &["vm", "list"]);
    assert!(told.contains("config.toml") && told.contains("urll"), "{told}");
    fs::write(config.join("config.toml"), "[profile.lab]\nurl = \"ftp://x\"\n").unwrap();
    let told = cli.ends(2, &["vm", "list", "--profile", "lab"]);
    assert!(told.contains("ftp://x") && told.contains("http://"), "{told}");

    // Completions are a script that the shell reads; man pages are there for each command.
    let script = config.join("completions");
    fs::write(&script, cli.text(&["completions", "bash"])).unwrap();
    let script = script.to_str().unwrap();
    let typed = format!(
        "source {script}; COMP_WORDS=(stillpoint snapshot re); COMP_CWORD=2; _stillpoint stillpoint re snapshot; \
         echo ${{COMPREPLY[@]}}"
    );
    assert_eq!(tool("bash", &["-c", &typed]).unwrap().trim(), "restore");
    let man = config.join("man");
    cli.text(&["man", man.to_str().unwrap()]);
    for page in ["stillpoint.1", "stillpoint-vm-list.1", "stillpoint-snapshot-restore.1"] {
        assert!(fs::read_to_string(man.join(page)).unwrap().contains(".TH"), "{page}");
    }
}

#[test]
fn the_tour_of_the_guide_works_and_nothing_is_done_by_accident() {
    let mut daemon = Daemon::start().unwrap();
    let guest = Guest::build().unwrap();
    guest.install(daemon.data_dir()).unwrap();
    let cli = Cli::of(daemon.url());
    tour(&daemon);
    people_and_programs(&cli);
    nothing_without_a_yes(&cli);
    failures(&cli);
    with_a_yes(&cli);
    events(&cli);
    cli.text(&["vm", "delete", "db1", "--yes"]);
    assert_eq!(
        cli.ends(3, &["disk", "show", "db1_disk1"])
            .matches("there is no disk")
            .count(),
        1
    );
    daemon.scan_log(&[]).unwrap();
    daemon.kill9().unwrap();
    assert!(cli.ends(6, &["vm", "list"]).contains("STILLPOINT_URL"));
}

/// The guide's blocks, as they are written.
fn tour(daemon: &Daemon) {
    let told = Tour::of("cli.md").unwrap().at(daemon).unwrap().run().unwrap();
    for part in [
        "before upgrade",
        "└─ after upgrade",
        "with memory",
        "lost for good: the newer snapshot \"after upgrade\"",
        "nothing was changed",
        "(kept for undo)",
        "VM db1",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// What people see and what programs parse is the same.
fn people_and_programs(cli: &Cli) {
    let table = cli.text(&["vm", "list"]);
    assert!(
        table.starts_with("NAME") && table.contains("db1") && table.contains("down"),
        "{table}"
    );
    let vms = cli.json(&["vm", "list"]);
    let id = vms[0]["id"].as_str().unwrap();
    assert_eq!(vms[0]["name"], "db1");
    assert!(table.contains(id));
    assert_eq!(cli.json(&["vm", "show", id])["status"], "down");
    assert_eq!(cli.json(&["disk", "list", "--vm", "db1"])[0]["name"], "db1_disk1");
    let explained = cli.json(&["explain", "snapshot/db1/before upgrade"]);
    assert_eq!(explained["status"], "ok");
    let jobs = cli.json(&["job", "list"]);
    let job = jobs[0]["id"].as_str().unwrap();
    assert!(cli.text(&["job", "show", job]).contains("STEP"));
    assert!(cli.text(&["job", "watch", job]).contains("finished"));
    assert!(cli.json(&["transfer", "list"]).as_array().unwrap().is_empty());
    assert!(cli.json(&["checkpoint", "list", "db1"]).as_array().unwrap().is_empty());
    cli.text(&["disk", "extend", "db1_disk1", "--size", "2G"]);
    assert!(cli.text(&["disk", "show", "db1_disk1"]).contains("2.00 GiB"));
}

/// Nothing is lost without a yes, and a plan says what stands in the way.
fn nothing_without_a_yes(cli: &Cli) {
    let before = cli.json(&["snapshot", "list", "db1"]);
    for destructive in [
        &["vm", "delete", "db1"][..],
        &["snapshot", "restore", "db1", "before upgrade"][..],
        &["snapshot", "delete", "db1", "before upgrade"][..],
        &["disk", "delete", "db1_disk1"][..],
    ] {
        let told = cli.ends(7, destructive);
        assert!(told.contains("lost for good") && told.contains("--yes"), "{told}");
        let plan = cli.json(&[destructive, &["--dry-run"]].concat());
        assert!(plan["dry_run"] == true && plan["plan"]["loses"].as_array().is_some_and(|loses| !loses.is_empty()));
    }
    assert_eq!(cli.json(&["snapshot", "list", "db1"]), before);
}

/// Each kind of failure has its code, and says what, why and what to do.
fn failures(cli: &Cli) {
    let told = cli.ends(3, &["vm", "show", "nobody"]);
    assert!(
        told.contains("there is no VM \"nobody\"") && told.contains("stillpoint vm list"),
        "{told}"
    );
    let told = cli.ends(5, &["snapshot", "commit", "db1"]);
    assert!(told.contains("previews no snapshot"), "{told}");
    cli.text(&["snapshot", "create", "db1", "twin"]);
    cli.text(&["snapshot", "create", "db1", "twin"]);
    let told = cli.ends(3, &["snapshot", "show", "db1", "twin"]);
    assert!(
        told.contains("2 snapshots are named so") && told.matches("Z").count() >= 2,
        "{told}"
    );
    cli.text(&["vm", "start", "db1"]);
    let told = cli.ends(5, &["snapshot", "restore", "db1", "before upgrade", "--yes"]);
    assert!(told.contains("was not restored") && told.contains("up"), "{told}");
    let wrong = cli
        .command(&["vm", "list"])
        .env("STILLPOINT_PASSWORD", "no")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(4), "{}", said(&wrong));
}

/// What is asked for with a yes is done, and waited for.
fn with_a_yes(cli: &Cli) {
    cli.text(&["snapshot", "delete", "db1", "after upgrade", "--yes"]);
    assert!(!cli.text(&["snapshot", "list", "db1"]).contains("after upgrade"));
    cli.text(&["vm", "stop", "db1", "-y"]);
    cli.text(&["snapshot", "restore", "db1", "before upgrade", "--yes"]);
    assert!(!cli.text(&["snapshot", "list", "db1"]).contains("twin"));
}

/// Events are told as they happen; Ctrl-C ends that.
fn events(cli: &Cli) {
    let mut watch = cli.command(&["event", "watch", "--vm", "db1", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let (heard, lines) = mpsc::channel();
    let out = BufReader::new(watch.stdout.take().unwrap());
    let reader = std::thread::spawn(move || out.lines().try_for_each(|line| heard.send(line.unwrap())));
    let told = || {
        cli.text(&["snapshot", "create", "db1", "heard"]);
        let line = lines.recv_timeout(Duration::from_secs(2)).ok();
        Ok(line.map(|line| serde_json::from_str::<Value>(&line).unwrap()))
    };
    let event = eventually(Duration::from_secs(60), "an event of a snapshot", told).unwrap();
    assert!(event["description"].as_str().unwrap().contains("heard"), "{event}");
    tool("kill", &["-INT", &watch.id().to_string()]).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(130));
    drop(lines);
    assert!(reader.join().is_ok());
}
