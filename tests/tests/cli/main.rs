//! The command line against a real daemon and a real guest: what people see, what programs parse, and what is not done
//! by accident. One daemon and one guest for all of it; at the end every command that the program has was run, or the
//! test fails. The tour of `docs/guide/cli.md` is run as it is written there.
//!
//! * `rig`: the command, and which commands there are. `plain`: what needs no server.
//! * `tour`, `guest`, `volumes`, `people`: the nouns. `plans`: `--dry-run`, questions. `trouble`: failures, lost
//!   connections, Ctrl-C.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test file: a failed step is a failed test"
)]

mod guest;
mod people;
mod plain;
mod plans;
mod rig;
mod tour;
mod trouble;
mod volumes;

use rig::Cli;
use stillpoint_testkit::{Daemon, Guest};

/// Commands that other tests run, and which.
const ELSEWHERE: &[(&str, &str)] = &[("serve", "every test that has a daemon")];

#[test]
fn without_a_server_it_helps_completes_and_says_what_is_wrong() {
    let cli = Cli::of("http://127.0.0.1:9");
    plain::help(&cli);
    plain::wrong_words(&cli);
    plain::no_server(&cli);
    plain::scripts_and_pages(&cli);
    plain::colours_and_closed_pipes(&cli);
}

#[test]
fn every_command_does_what_it_says_to_a_real_daemon_and_a_real_guest() {
    let mut daemon = Daemon::start().unwrap();
    let guest = Guest::build().unwrap();
    guest.install(daemon.data_dir()).unwrap();
    let cli = Cli::of(daemon.url());
    tour::as_written(&cli, &daemon);
    tour::people_and_programs(&cli);
    people::users_projects_keys(&cli);
    volumes::from_nothing_to_nothing(&cli);
    guest::asked(&cli);
    guest::backups(&cli);
    plans::change_nothing(&cli, &daemon);
    plans::nothing_without_a_yes(&cli);
    trouble::failures(&cli);
    trouble::with_a_yes(&cli);
    guest::clones(&cli);
    trouble::events(&cli);
    trouble::interrupted(&cli, &daemon);
    trouble::lost(&cli, &daemon);
    plain::local_commands(&cli);
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
    assert!(cli.ends(6, &["volume", "list"]).contains("STILLPOINT_URL"));
    let mut left = cli.uncalled();
    left.retain(|leaf| ELSEWHERE.iter().all(|(command, _)| command != leaf));
    assert!(
        left.is_empty(),
        "these commands are run by no test: run them in tests/tests/cli/, or name the test that does in ELSEWHERE: {left:?}"
    );
}
