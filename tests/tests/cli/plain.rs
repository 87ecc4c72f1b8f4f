//! What needs no server: help, wrong words, profiles, completions, man pages, closed pipes.

use crate::rig::{Cli, said};
use std::{fs, path::Path, process::Command};
use stillpoint_system_tests::{tool, tour::guide};

pub(crate) fn help(cli: &Cli) {
    let help = cli.text(&["--help"]);
    let guide = guide("cli.md").unwrap();
    for code in 0..=9 {
        assert!(
            help.contains(&format!(" {code}  ")) && guide.contains(&format!("\n| {code} | ")),
            "{code}"
        );
    }
    for leaf in cli.leaves() {
        let words: Vec<&str> = leaf.split(' ').collect();
        let (noun, verb) = (words[0], words.last().unwrap());
        assert!(help.contains(&format!("  {noun} ")), "{noun}");
        let row = guide.lines().find(|line| {
            let name = &words[..words.len().max(2) - 1];
            line.starts_with(&format!("| `{}", name.join(" "))) || line.contains(&format!("`{noun}`"))
        });
        let is_there = row.is_some_and(|row| words.len() == 1 || row.contains(&format!("`{verb}")));
        assert!(
            is_there || guide.contains(&format!("`{leaf} ")),
            "the guide does not name {leaf}"
        );
    }
    assert!(cli.text(&["vm", "delete", "--help"]).contains("Examples:"));
    // Every verb has an example, and it is one of itself.
    for part in cli.reference().split("\n### `stillpoint ").skip(1) {
        let (name, rest) = part.split_once('`').unwrap();
        let own = rest.split("\n## ").next().unwrap();
        assert!(own.contains("Examples:") && own.contains(name), "{name} has no example");
    }
}

/// Wrong words suggest the right ones, and nothing is sent.
pub(crate) fn wrong_words(cli: &Cli) {
    for (wrong, right) in [
        (&["snapshot", "restor", "db1"][..], "restore"),
        (&["snapshto", "list"][..], "snapshot"),
        (&["volume", "snapshot", "lst"][..], "list"),
        (&["vm", "list", "--jsn"][..], "--json"),
        (&["vm", "delete", "db1", "--dryrun"][..], "--dry-run"),
        (&["user", "grant", "alice", "member", "--onn", "demo"][..], "--on"),
    ] {
        let told = cli.ends(2, wrong);
        assert!(told.contains("similar") && told.contains(right), "{wrong:?}: {told}");
    }
    for (wrong, remedy) in [
        (&["disk", "create", "d", "--size", "ten"][..], "such as 10G"),
        (&["volume", "create", "d", "--size", "10"][..], "did you mean 10G"),
        (&["volume", "create", "d"][..], "--size"),
        (&["key", "create", "k", "--expires", "soon"][..], "90d"),
        (&["user", "create", "carol", "secret"][..], "unexpected argument"),
    ] {
        let told = cli.ends(2, wrong);
        assert!(told.contains(remedy), "{wrong:?}: {told}");
    }
}

/// No server, no profile, no password.
pub(crate) fn no_server(cli: &Cli) {
    let told = cli.ends(6, &["vm", "list"]);
    assert!(told.contains("check that the server runs"), "{told}");
    let told = cli.ends(2, &["vm", "list", "--profile", "lab"]);
    assert!(told.contains("profiles there: none"), "{told}");
    let config = cli.home.path().join("stillpoint");
    fs::create_dir(&config).unwrap();
    let write = |text: &str| fs::write(config.join("config.toml"), text).unwrap();
    write("[profile.lab]\nurll = \"x\"\n");
    let told = cli.ends(2, &["vm", "list"]);
    assert!(told.contains("config.toml") && told.contains("urll"), "{told}");
    for (line, noun) in [("url = \"ftp://x\"", "vm"), ("identity_url = \"ftp://x\"", "volume")] {
        write(&format!("[profile.lab]\n{line}\n"));
        let told = cli.ends(2, &[noun, "list", "--profile", "lab"]);
        assert!(told.contains("ftp://x") && told.contains("http://"), "{told}");
    }
    write("");
    let told = cli.ends_with(2, &["vm", "list"], |command| command.env_remove("STILLPOINT_PASSWORD"));
    assert!(
        told.contains("--password-file") && told.contains("STILLPOINT_PASSWORD"),
        "{told}"
    );
}

fn has(program: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("command -v {program}")]);
    command.output().is_ok_and(|done| done.status.success())
}

/// Completions are scripts that shells read; a man page is there for each command, and can be rendered.
pub(crate) fn scripts_and_pages(cli: &Cli) {
    let dir = cli.home.path().join("scripts");
    fs::create_dir(&dir).unwrap();
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef stillpoint"),
        ("fish", "complete -c stillpoint"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let text = cli.text(&["completions", shell]);
        assert!(text.contains(mark) && text.contains("volume"), "{shell}");
        let script = dir.join(shell);
        fs::write(&script, text).unwrap();
        if matches!(shell, "bash" | "zsh" | "fish") && has(shell) {
            tool(shell, &["-n", script.to_str().unwrap()]).unwrap();
        }
    }
    let script = dir.join("bash");
    let typed = format!(
        "source {}; COMP_WORDS=(stillpoint snapshot re); COMP_CWORD=2; _stillpoint stillpoint re snapshot; \
         echo ${{COMPREPLY[@]}}",
        script.display()
    );
    assert_eq!(tool("bash", &["-c", &typed]).unwrap().trim(), "restore");

    let man = dir.join("man");
    cli.text(&["man", man.to_str().unwrap()]);
    let mut pages = Vec::new();
    for leaf in cli.leaves() {
        let page = man.join(format!("stillpoint-{}.1", leaf.replace(' ', "-")));
        let text = fs::read_to_string(&page).unwrap();
        assert!(
            text.contains(".TH") && text.contains(".SH SYNOPSIS"),
            "{}",
            page.display()
        );
        pages.push(page);
    }
    rendered(&pages);
}

/// All pages in one go: a formatter for each of them would take longer than all else here.
fn rendered(pages: &[impl AsRef<Path>]) {
    if !has("groff") {
        return;
    }
    let mut groff = Command::new("groff");
    groff
        .args(["-man", "-Tutf8", "-ww"])
        .args(pages.iter().map(AsRef::as_ref));
    let done = groff.output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{}", said(&done));
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(text.matches("Examples:").count() > pages.len() / 2);
}

pub(crate) fn colours_and_closed_pipes(cli: &Cli) {
    let forced = cli.ends_with(0, &["--help"], |command| command.env("CLICOLOR_FORCE", "1"));
    assert!(forced.contains('\x1b'), "nothing to switch off");
    let plain = cli.ends_with(0, &["--help"], |command| {
        command.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1")
    });
    assert!(!plain.contains('\x1b'));
    for (command, code) in [
        ("stillpoint reference | true", "0"),
        ("stillpoint --help | true", "0"),
        ("stillpoint completions bash | head -1", "0"),
        // Nobody reads the error either.
        ("{ stillpoint vm list 2>&1; } | true", "6"),
    ] {
        let script = format!("{command}; echo ${{PIPESTATUS[0]}}");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]);
        let done = cli.prepare(bash).output().unwrap();
        let told = said(&done);
        assert!(
            told.trim().ends_with(code) && !told.contains("panicked"),
            "{command}: {told}"
        );
    }
}

/// Commands that look at this host only.
pub(crate) fn local_commands(cli: &Cli) {
    let data = cli.home.path().join("data");
    let doctor = cli.text(&["doctor", "--data-dir", data.to_str().unwrap()]);
    assert!(doctor.contains("QEMU") || doctor.contains("qemu"), "{doctor}");
    cli.text(&["completions", "bash"]);
    cli.text(&["man", cli.home.path().join("man").to_str().unwrap()]);
}
