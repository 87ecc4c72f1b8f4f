//! Conformance, fifth part: backups, checkpoints, and transfers of what a backup holds. The guests have no kernel.
//!
//! Numbers with C are those of the contract's checklist, with R those of the semantics.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Api, Xml, eventually};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(120);

/// A VM that is down, with two disks.
struct Case<'a> {
    api: &'a Api,
    vm: String,
    one: String,
    two: String,
}

impl<'a> Case<'a> {
    fn new(api: &'a Api) -> Result<Self> {
        let vm = Scene::vm(api, &format!("vm-{}", Uuid::new_v4()))?;
        let one = Scene::attached_disk(api, &vm, &format!("one-{}", Uuid::new_v4()))?;
        let two = Scene::attached_disk(api, &vm, &format!("two-{}", Uuid::new_v4()))?;
        Ok(Self { api, vm, one, two })
    }

    fn backups(&self) -> String {
        format!("vms/{}/backups", self.vm)
    }

    fn get(&self, path: &str) -> Result<Xml> {
        self.api.get(path)?.expect(&[200])?.xml()
    }

    /// Begins a backup; its path once it is ready.
    fn ready(&self, query: &str, more: &str, disks: &[&str]) -> Result<String> {
        let body = backup(more, disks);
        let made = self.api.post(&format!("{}{query}", self.backups()), &body)?;
        let path = format!("{}/{}", self.backups(), only_id(&made.expect(&[201])?)?);
        self.api.wait_status(&path, "phase", "ready", LONG)?;
        Ok(path)
    }

    fn finalize(&self, backup: &str) -> Result<()> {
        self.api
            .post(&format!("{backup}/finalize"), "<action/>")?
            .expect(&[200])?;
        self.api.wait_status(backup, "phase", "succeeded", LONG)
    }

    fn checkpoint(&self, backup: &str) -> Result<String> {
        Ok(self
            .get(backup)?
            .text_at("to_checkpoint_id")
            .context("no checkpoint")?
            .to_owned())
    }

    fn mode(&self, backup: &str, disk: &str) -> Result<String> {
        let shown = self.get(&format!("{backup}/disks/{disk}"))?;
        Ok(shown.text_at("backup_mode").context("no mode")?.to_owned())
    }

    fn transfer(&self, backup: &str, disk: &str, format: &str) -> String {
        format!(
            "<image_transfer><backup id=\"{backup}\"/><disk id=\"{disk}\"/><direction>download</direction>\
             <format>{format}</format></image_transfer>"
        )
    }
}

fn backup(more: &str, disks: &[&str]) -> String {
    let disks: String = disks.iter().map(|disk| format!("<disk id=\"{disk}\"/>")).collect();
    format!("<backup{more}<disks>{disks}</disks></backup>")
}

fn begins_as_asked(case: &Case<'_>) -> Result<()> {
    let id = Uuid::new_v4().to_string();
    let body = backup(
        &format!(" id=\"{id}\"><description>nightly</description>"),
        &[&case.one],
    );
    let made = case.api.post(&case.backups(), &body)?.expect(&[201])?;
    ensure!(
        made.header("location").is_some_and(|place| place.ends_with(&id)),
        "C178"
    );
    let shown = made.xml()?;
    ensure!(shown.id()? == id, "C179");
    ensure!(shown.find("vm").context("vm")?.id()? == case.vm, "C178: the VM");
    let path = format!("{}/{id}", case.backups());
    case.api.wait_status(&path, "phase", "ready", LONG)?;
    let ready = case.get(&path)?;
    ensure!(ready.text_at("to_checkpoint_id").is_some(), "C184");
    ensure!(ready.text_at("phase") == ready.text_at("status"), "C185");
    ensure!(ready.text_at("description") == Some("nightly"), "R-097");
    case.api
        .post(&case.backups(), &body)?
        .expect(&[400, 409])
        .context("C180")?;
    let other = backup(">", &[&case.two]);
    case.api.post(&case.backups(), &other)?.expect(&[409]).context("C186")?;
    case.api
        .post(&format!("vms/{}/start", case.vm), "<action/>")?
        .expect(&[409])
        .context("R-116: a VM that is being backed up while down does not start")?;
    case.finalize(&path)?;
    case.api
        .post(&case.backups(), &body)?
        .expect(&[400])
        .context("C180, ended")?;
    case.api
        .post(&format!("{path}/finalize"), "<action/>")?
        .expect(&[200])
        .context("R-137")?;
    ensure!(case.get(&path)?.text_at("phase") == Some("succeeded"), "C197");
    case.api
        .request("DELETE", &path, &[], None)?
        .expect(&[405])
        .context("C198")?;
    Ok(())
}

fn refuses_what_makes_no_sense(case: &Case<'_>) -> Result<()> {
    let unknown = Uuid::new_v4().to_string();
    let long = "x".repeat(1025);
    let long = format!("><description>{long}</description>");
    let from = format!("><from_checkpoint_id>{unknown}</from_checkpoint_id>");
    for (what, body) in [
        ("C181", backup(">", &[])),
        ("C181: no element", "<backup/>".to_owned()),
        ("C182", backup(">", &[&unknown])),
        ("C182: no id", backup(">", &["x"])),
        ("C183", backup(&long, &[&case.one])),
        ("C191", backup(&from, &[&case.one])),
        ("twice", backup(">", &[&case.one, &case.one])),
        ("an id that is none", backup(" id=\"x\">", &[&case.one])),
    ] {
        case.api.post(&case.backups(), &body)?.expect(&[400]).context(what)?;
    }
    ensure!(
        case.get(&case.backups())?.children.is_empty(),
        "a refused backup is there"
    );
    let checkpoints = format!("vms/{}/checkpoints", case.vm);
    ensure!(
        case.get(&checkpoints)?.children.is_empty(),
        "a refused checkpoint is there"
    );
    case.api.post(&checkpoints, "<checkpoint/>")?.expect(&[405])?;
    for path in [
        format!("{}/{unknown}", case.backups()),
        format!("{checkpoints}/{unknown}"),
    ] {
        case.api.get(&path)?.expect(&[404])?;
    }
    Ok(())
}

fn goes_on_from_a_checkpoint(case: &Case<'_>) -> Result<()> {
    let first = case.ready("", ">", &[&case.one])?;
    ensure!(case.mode(&first, &case.one)? == "full", "R-109");
    let one = case.checkpoint(&first)?;
    case.finalize(&first)?;
    let from = format!("><from_checkpoint_id>{one}</from_checkpoint_id>");
    let second = case.ready("?require_consistency=true", &from, &[&case.one, &case.two])?;
    ensure!(case.mode(&second, &case.one)? == "incremental", "C190");
    ensure!(case.mode(&second, &case.two)? == "full", "C192");
    let disks = case.get(&format!("{second}/disks"))?;
    ensure!(disks.children.len() == 2, "C194");
    let followed = case.get(&format!("{second}?follow=disks"))?;
    ensure!(
        followed.find("disks").is_some_and(|disks| disks.children.len() == 2),
        "followed"
    );
    let two = case.checkpoint(&second)?;
    case.api
        .request("DELETE", &format!("vms/{}/checkpoints/{one}", case.vm), &[], None)?
        .expect(&[409])
        .context("R-146")?;
    case.finalize(&second)?;
    let checkpoints = format!("vms/{}/checkpoints", case.vm);
    let list = case.get(&checkpoints)?;
    let newest = list.children.last().context("no checkpoint")?;
    ensure!(newest.id()? == two && newest.text_at("parent_id") == Some(&one), "C199");
    ensure!(newest.text_at("state") == Some("created"), "C199: state");
    ensure!(
        case.get(&format!("{checkpoints}/{two}/disks"))?.children.len() == 2,
        "C201"
    );
    case.get(&format!("{checkpoints}/{two}/disks/{}", case.one))?;
    case.api
        .request("DELETE", &format!("{checkpoints}/{two}"), &[], None)?
        .expect(&[200])?;
    eventually(LONG, "the checkpoint to be gone", || {
        Ok((case.api.get(&format!("{checkpoints}/{two}"))?.status == 404).then_some(()))
    })?;
    // The next one does not meet the merge of what the checkpoint held apart: it waits for it.
    let third = case.ready("", &from, &[&case.one])?;
    ensure!(case.mode(&third, &case.one)? == "incremental", "C200");
    case.finalize(&third)
}

fn is_downloaded_through_transfers(case: &Case<'_>) -> Result<()> {
    let backup = case.ready("?legacy=true", ">", &[&case.one])?;
    let id = backup.rsplit('/').next().context("an id")?;
    let ask = |of: &str, disk: &str, format: &str| case.api.post("imagetransfers", &case.transfer(of, disk, format));
    ask(id, &case.one, "cow")?.expect(&[400]).context("C209")?;
    ask(&Uuid::new_v4().to_string(), &case.one, "raw")?
        .expect(&[400])
        .context("C210")?;
    ask(id, &case.two, "raw")?.expect(&[400]).context("R-158")?;
    let transfer = only_id(&ask(id, &case.one, "raw")?.expect(&[201])?)?;
    let path = format!("imagetransfers/{transfer}");
    case.api.wait_status(&path, "phase", "transferring", LONG)?;
    case.api
        .post(&format!("{backup}/finalize"), "<action/>")?
        .expect(&[409])
        .context("C196")?;
    ensure!(case.get(&backup)?.text_at("phase") == Some("ready"), "R-134");
    case.api
        .post(&format!("{path}/finalize"), "<action/>")?
        .expect(&[200])?;
    case.api.wait_status(&path, "phase", "finished_success", LONG)?;
    case.finalize(&backup)?;
    ask(id, &case.one, "raw")?
        .expect(&[409])
        .context("C208: not ready any more")?;
    Ok(())
}

fn holds_a_running_vm(case: &Case<'_>) -> Result<()> {
    case.api.start(&case.vm)?;
    let snapshot = case.ready("?use_active=false", ">", &[&case.one])?;
    ensure!(case.get(&snapshot)?.find("snapshot").is_some(), "C189: false");
    let taken = case.api.snapshot(&case.vm, "meanwhile", false, None).context("R-117")?;
    case.api
        .request("DELETE", &format!("vms/{}/snapshots/{taken}", case.vm), &[], None)?
        .expect(&[409])
        .context("2.8: no removal during a backup")?;
    case.finalize(&snapshot)?;
    let left = case.get(&format!("vms/{}/snapshots", case.vm))?;
    ensure!(left.children.len() == 2, "R-140: the backup's snapshot is still there");
    let live = case.ready("?use_active=true", ">", &[&case.one])?;
    ensure!(case.get(&live)?.find("snapshot").is_none(), "C189: true");
    let body = "<snapshot><description>s</description></snapshot>";
    case.api
        .post(&format!("vms/{}/snapshots", case.vm), body)?
        .expect(&[409])
        .context("R-101: no snapshot during a live backup")?;
    case.finalize(&live)?;
    case.api.stop(&case.vm)
}

#[test]
fn backups_and_checkpoints_are_as_the_contract_says() {
    let scene = Scene::start().unwrap();
    let mut checks = Checks::default();
    for (name, check) in [
        (
            "C178 C179 C180 C184 C185 C186 C193 C195 C197 C198",
            begins_as_asked as fn(&Case<'_>) -> Result<()>,
        ),
        ("C181 C182 C183 C191", refuses_what_makes_no_sense),
        ("C190 C192 C194 C199 C200 C201", goes_on_from_a_checkpoint),
        ("C196 C209 C210", is_downloaded_through_transfers),
        ("C189", holds_a_running_vm),
    ] {
        checks.item(name, || check(&Case::new(&scene.alice)?));
    }
    checks.finish();
}
