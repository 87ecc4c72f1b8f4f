//! Users, projects and keys; passwords that are never on a command line.

use crate::{
    rig::{Cli, said},
    tour::has_keys,
};
use std::process::{Command, Stdio};
use stillpoint_testkit::Password;

/// Types a password twice at a terminal, and prints all that the terminal showed.
const TYPIST: &str = r#"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
for prompt in (b"new password: ", b"once more: "):
    while prompt not in seen:
        seen += os.read(fd, 4096)
    os.write(fd, b"typed-secret\n")
try:
    while got := os.read(fd, 4096):
        seen += got
except OSError:
    pass
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

pub(crate) fn users_projects_keys(cli: &Cli) {
    projects(cli);
    users(cli);
    typed(cli);
    keys(cli);
}

fn projects(cli: &Cli) {
    cli.text(&["project", "create", "lab", "--description", "for trials"]);
    assert!(cli.text(&["project", "list"]).contains("for trials"));
    let again = cli.ends(5, &["project", "create", "lab"]);
    assert!(again.contains("\"lab\" was not made"), "{again}");
    let shown = cli.text(&["project", "show", "demo"]);
    assert!(shown.contains("alice (member)"), "{shown}");
    has_keys(
        &cli.json(&["project", "list"]),
        &["id", "name", "enabled"],
        "project list",
    );
    let near = cli.ends(3, &["project", "show", "dmeo"]);
    assert!(near.contains("did you mean \"demo\"?"), "{near}");
    let full = cli.ends(5, &["project", "delete", "demo", "--yes"]);
    assert!(full.contains("\"demo\" was not deleted"), "{full}");
}

fn users(cli: &Cli) {
    let secret = cli.file("secret", "carol-secret\n");
    let mut command = cli.command(&[
        "user",
        "create",
        "carol",
        "--new-password-file",
        "-",
        "--email",
        "c@example.org",
    ]);
    command.stdin(std::fs::File::open(&secret).unwrap());
    let done = command.output().unwrap();
    assert!(
        done.status.success() && !said(&done).contains("carol-secret"),
        "{}",
        said(&done)
    );
    cli.note(&["user", "create"]);
    cli.text(&["user", "grant", "carol", "member", "--on", "lab"]);
    let shown = cli.json(&["user", "show", "carol"]);
    assert_eq!(shown["roles"][0], "member on lab");
    has_keys(&cli.json(&["user", "list"]), &["id", "name", "enabled"], "user list");

    // She logs in: her only project is the one that she works in.
    let carol = |code: i32, password: &str, arguments: &[&str]| {
        cli.ends_with(code, &[arguments, &["--user", "carol"]].concat(), |command| {
            command
                .env("STILLPOINT_PASSWORD", password)
                .env_remove("STILLPOINT_PROJECT")
        })
    };
    carol(0, "carol-secret", &["volume", "list"]);
    let refused = carol(4, "carol-secret", &["user", "list"]);
    assert!(refused.contains("403") && refused.contains("another role"), "{refused}");
    let other = carol(4, "carol-secret", &["volume", "list", "--project", "demo"]);
    assert!(other.contains("role on the project \"demo\""), "{other}");

    // Her own password by her own proof, then by the administrator.
    let (own, other) = (cli.file("own", "by-herself\n"), cli.file("other", "by-admin\n"));
    let file = ["--new-password-file", own.to_str().unwrap()];
    carol(0, "carol-secret", &[&["user", "password"][..], &file].concat());
    carol(4, "carol-secret", &["volume", "list"]);
    carol(0, "by-herself", &["volume", "list"]);
    cli.text(&[
        "user",
        "password",
        "carol",
        "--new-password-file",
        other.to_str().unwrap(),
    ]);
    carol(0, "by-admin", &["user", "show", "carol"]);
    cli.text(&["user", "disable", "carol"]);
    assert!(carol(4, "by-admin", &["volume", "list"]).contains("--password-file"));
    cli.text(&["user", "enable", "carol"]);
    carol(0, "by-admin", &["volume", "list"]);

    for (wrong, remedy) in [
        (
            &["user", "grant", "carol", "membr", "--on", "lab"][..],
            "did you mean \"member\"?",
        ),
        (
            &["user", "grant", "caro", "member", "--on", "lab"][..],
            "did you mean \"carol\"?",
        ),
        (
            &["user", "revoke", "carol", "reader", "--on", "lab"][..],
            "stillpoint user show carol",
        ),
    ] {
        let told = cli.ends(3, wrong);
        assert!(told.contains(remedy), "{wrong:?}: {told}");
    }
    cli.text(&["user", "revoke", "carol", "member", "--on", "lab"]);
    assert!(carol(2, "by-admin", &["volume", "list"]).contains("no role on any project"));
}

/// A password that is typed is not shown, and no argument has it.
fn typed(cli: &Cli) {
    let none = cli.ends(2, &["user", "create", "dave"]);
    assert!(none.contains("--new-password-file"), "{none}");
    let binary = stillpoint_testkit::binary().unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", TYPIST]).arg(binary).args(["user", "create", "dave"]);
    let mut python = cli.prepare(python);
    let done = python.stdin(Stdio::null()).output().unwrap();
    let told = said(&done);
    assert!(done.status.success() && told.contains("dave"), "{told}");
    assert!(!told.contains("typed-secret"), "{told}");
    cli.ends_with(2, &["volume", "list", "--user", "dave"], |command| {
        command
            .env("STILLPOINT_PASSWORD", "typed-secret")
            .env_remove("STILLPOINT_PROJECT")
    });
}

fn keys(cli: &Cli) {
    let made = cli.json(&["key", "create", "nightly", "--role", "reader", "--expires", "30d"]);
    has_keys(
        &made,
        &["id", "secret", "name", "project_id", "expires_at"],
        "key create",
    );
    assert_eq!(made["roles"][0]["name"], "reader");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.len() > 30);
    let listed = cli.text(&["key", "list"]);
    assert!(listed.contains("nightly") && !listed.contains(secret), "{listed}");
    let shown = cli.json(&["key", "list", "--of", "admin"]);
    assert!(
        !shown.to_string().contains(secret) && shown[0].get("secret").is_none(),
        "{shown}"
    );
    let wrong = cli.ends(2, &["key", "create", "other", "--role", "raeder"]);
    assert!(wrong.contains("did you mean \"reader\"?"), "{wrong}");
    assert!(
        cli.ends(3, &["key", "delete", "nihgtly"])
            .contains("did you mean \"nightly\"?")
    );
    let admin = Password::of("admin").unwrap().0;
    assert!(!listed.contains(admin));
}

/// What the plans have been shown for is done.
pub(crate) fn away(cli: &Cli) {
    cli.text(&["key", "delete", "nightly", "--yes"]);
    cli.text(&["user", "delete", "carol", "--yes"]);
    cli.text(&["project", "delete", "lab", "--yes"]);
    for gone in [
        &["user", "show", "carol"][..],
        &["project", "show", "lab"],
        &["key", "delete", "nightly"],
    ] {
        cli.ends(3, gone);
    }
}
