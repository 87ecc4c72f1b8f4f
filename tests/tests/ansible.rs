//! The unmodified modules of the `ovirt.ovirt` collection against a running daemon over HTTPS: one playbook, run twice.
//!
//! What each task must have changed is asserted in `tests/clients/ansible/playbook.yml`. `scripts/make-venv` installs
//! Ansible and the collection.

use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use stillpoint_system_tests::{sdk, tool};
use stillpoint_testkit::{Daemon, Password};

fn playbook(folder: &Path, variables: &serde_json::Value) -> Result<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/ansible");
    let python = sdk::python();
    let environment = python.with_file_name("..").join("collections");
    let mut command = Command::new(python.with_file_name("ansible-playbook"));
    command.args(["-i", "localhost,", "--extra-vars", &variables.to_string()]);
    command.arg(here.join("playbook.yml")).current_dir(folder);
    for (setting, value) in [
        ("HOME", folder.to_path_buf()),
        ("ANSIBLE_HOME", folder.join("ansible")),
        ("ANSIBLE_COLLECTIONS_PATH", environment),
        ("ANSIBLE_PYTHON_INTERPRETER", python.clone()),
        ("ANSIBLE_PIPELINING", PathBuf::from("1")),
        ("ANSIBLE_NOCOLOR", PathBuf::from("1")),
        ("PYTHONDONTWRITEBYTECODE", PathBuf::from("1")),
        ("no_proxy", PathBuf::from("*")),
        ("LC_ALL", PathBuf::from("C.UTF-8")),
    ] {
        command.env(setting, value);
    }
    let done = command
        .output()
        .context("running ansible-playbook; scripts/make-venv installs it")?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    ensure!(done.status.success(), "{said}");
    Ok(said)
}

#[test]
fn a_playbook_works_twice_and_the_second_run_changes_only_what_must_be_new() -> Result<()> {
    let daemon = Daemon::builder().args(["--tls", "auto"]).start()?;
    let ca = sdk::fetch_ca(&daemon)?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (source, target) = (path("source.qcow2"), path("target.qcow2"));
    tool("qemu-img", &["create", "-q", "-f", "qcow2", &source, "4M"])?;
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 0x5a 1M 1M", &source])?;
    for run in [1, 2] {
        let variables = serde_json::json!({
            "run": run,
            "url": format!("{}/ovirt-engine/api", daemon.url()),
            "password": Password::of("admin")?.0,
            "ca_file": ca,
            // As every installation has them.
            "domain": "data",
            "cluster": "Default",
            "profile": "ovirtmgmt",
            "source": source,
            "target": target,
        });
        let said = playbook(folder.path(), &variables).with_context(|| format!("run {run}"))?;
        // The collection's own: a parameter whose name looks like a secret's.
        let warned = said
            .lines()
            .filter(|line| line.contains("[WARNING]") && !line.contains("no_log for pass_discard"));
        ensure!(warned.count() == 0, "{said}");
        tool(
            "qemu-img",
            &["compare", "-q", "-f", "qcow2", "-F", "qcow2", &source, &target],
        )?;
    }
    daemon.scan_log(&[])
}
