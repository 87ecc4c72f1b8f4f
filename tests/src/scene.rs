//! A daemon, its four users, and a VM with all that belongs to it in each of the two projects.
//!
//! Everything in a project carries the project's word in its names, descriptions and correlation ids, so that a test can
//! look for the word, and for the ids, in whatever a user of the other project is told.

use std::time::Duration;

use anyhow::{Context, Result};
use stillpoint_testkit::{Answer, Api, Builder, Daemon, Xml};

/// No step here takes seconds; a busy machine gets minutes.
const LONG: Duration = Duration::from_secs(180);

/// A daemon and its users.
#[derive(Debug)]
pub struct Scene {
    /// The daemon.
    pub daemon: Daemon,
    /// Administrator; what he makes belongs to the project of alice and bob.
    pub admin: Api,
    /// Member of the first project.
    pub alice: Api,
    /// Reader of the first project.
    pub bob: Api,
    /// Member of the other project.
    pub mallory: Api,
}

/// What was made in a project, by id.
#[derive(Debug, Clone)]
pub struct Things {
    /// The word in all their names.
    pub word: &'static str,
    /// A VM that is down.
    pub vm: String,
    /// Its first disk, which has one older image.
    pub disk: String,
    /// Its second disk.
    pub second_disk: String,
    /// A disk that belongs to no VM.
    pub loose_disk: String,
    /// Its network interface.
    pub nic: String,
    /// A snapshot of both disks and the configuration.
    pub snapshot: String,
    /// The VM's active snapshot.
    pub active: String,
    /// The older image of the first disk.
    pub image: String,
    /// The job that took the snapshot.
    pub job: String,
    /// That job's first step.
    pub step: String,
    /// An image transfer of the disk without VM, cancelled by now.
    pub transfer: String,
    /// Index of the event that tells of the snapshot.
    pub event: String,
    /// A backup of the second disk, which has succeeded.
    pub backup: String,
    /// The checkpoint that it made.
    pub checkpoint: String,
}

impl Things {
    /// All that another project must never be told.
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        vec![
            self.word,
            &self.vm,
            &self.disk,
            &self.second_disk,
            &self.loose_disk,
            &self.nic,
            &self.snapshot,
            &self.active,
            &self.image,
            &self.job,
            &self.step,
            &self.transfer,
            &self.backup,
            &self.checkpoint,
        ]
    }
}

/// The id of a document's root.
///
/// # Errors
/// When the answer has none.
pub fn only_id(answer: &Answer) -> Result<String> {
    Ok(answer.xml()?.id()?.to_owned())
}

fn first<'a>(list: &'a Xml, what: &str) -> Result<&'a Xml> {
    list.children.first().with_context(|| format!("no {what}"))
}

impl Scene {
    /// Starts a daemon and logs its users in.
    ///
    /// # Errors
    /// When either fails.
    pub fn start() -> Result<Self> {
        Self::with(Daemon::builder())
    }

    /// The same with a daemon of one's own.
    ///
    /// # Errors
    /// When it does not start, or a user is refused.
    pub fn with(builder: Builder) -> Result<Self> {
        let daemon = builder.start()?;
        Ok(Self {
            admin: daemon.api("admin")?,
            alice: daemon.api("alice")?,
            bob: daemon.api("bob")?,
            mallory: daemon.api("mallory")?,
            daemon,
        })
    }

    /// Makes a VM of 32 MiB without kernel or disks; returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn vm(api: &Api, name: &str) -> Result<String> {
        let body =
            format!("<vm><name>{name}</name><description>{name} described</description><memory>33554432</memory></vm>");
        let vm = only_id(&api.post("vms", &body)?.expect(&[201, 202])?)?;
        api.wait_status(&format!("vms/{vm}"), "status", "down", LONG)?;
        Ok(vm)
    }

    /// Makes a disk of 1 MiB; returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn disk(api: &Api, name: &str) -> Result<String> {
        api.create_disk(name, 1 << 20)
    }

    /// Makes a disk of 1 MiB at a VM; returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn attached_disk(api: &Api, vm: &str, name: &str) -> Result<String> {
        let disk = Self::disk(api, name)?;
        api.attach(vm, &disk, "virtio", false)?;
        Ok(disk)
    }

    /// Adds a network interface; returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn nic(api: &Api, vm: &str, name: &str) -> Result<String> {
        let body = format!("<nic><name>{name}</name></nic>");
        only_id(&api.post(&format!("vms/{vm}/nics"), &body)?.expect(&[201])?)
    }

    /// Adds a job of a client's with one step; returns both ids.
    ///
    /// # Errors
    /// When it is refused.
    pub fn client_job(api: &Api, description: &str) -> Result<(String, String)> {
        let body = format!("<job><description>{description}</description></job>");
        let job = only_id(&api.post("jobs", &body)?.expect(&[201])?)?;
        let body = "<step><description>first</description><type>executing</type></step>";
        let step = only_id(&api.post(&format!("jobs/{job}/steps"), body)?.expect(&[201])?)?;
        Ok((job, step))
    }

    /// Writes an event as a client; returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub fn client_event(api: &Api, origin: &str) -> Result<String> {
        let body = format!(
            "<event><origin>{origin}</origin><severity>normal</severity><custom_id>7</custom_id>\
             <description>{origin} tells</description></event>"
        );
        only_id(&api.post("events", &body)?.expect(&[201])?)
    }

    /// Begins to download a disk and gives it up; returns the transfer's id.
    ///
    /// # Errors
    /// When it is refused, or does not end.
    pub fn ended_transfer(api: &Api, disk: &str) -> Result<String> {
        let body = format!(
            "<image_transfer><disk id=\"{disk}\"/><direction>download</direction><format>raw</format></image_transfer>"
        );
        let transfer = only_id(&api.post("imagetransfers", &body)?.expect(&[201])?)?;
        let path = format!("imagetransfers/{transfer}");
        api.post(&format!("{path}/cancel"), "<action/>")?.expect(&[200])?;
        api.wait_status(&path, "phase", "finished_failure", LONG)?;
        Ok(transfer)
    }

    /// Begins a backup of one disk of a VM and waits until it is ready; returns its id and its checkpoint's.
    ///
    /// # Errors
    /// When it is refused, or fails.
    pub fn ready_backup(api: &Api, vm: &str, disk: &str) -> Result<(String, String)> {
        let body = format!("<backup><disks><disk id=\"{disk}\"/></disks></backup>");
        let backup = only_id(&api.post(&format!("vms/{vm}/backups"), &body)?.expect(&[201])?)?;
        let path = format!("vms/{vm}/backups/{backup}");
        api.wait_status(&path, "phase", "ready", LONG)?;
        let shown = api.get(&path)?.expect(&[200])?.xml()?;
        let checkpoint = shown.text_at("to_checkpoint_id").context("no checkpoint")?.to_owned();
        Ok((backup, checkpoint))
    }

    /// The same, and finalizes it.
    ///
    /// # Errors
    /// When it is refused, or does not succeed.
    pub fn ended_backup(api: &Api, vm: &str, disk: &str) -> Result<(String, String)> {
        let (backup, checkpoint) = Self::ready_backup(api, vm, disk)?;
        let path = format!("vms/{vm}/backups/{backup}");
        api.post(&format!("{path}/finalize"), "<action/>")?.expect(&[200])?;
        api.wait_status(&path, "phase", "succeeded", LONG)?;
        Ok((backup, checkpoint))
    }

    /// Makes a VM with two disks, a network interface, a snapshot and a backup in the project where that user makes things.
    ///
    /// # Errors
    /// When a step is refused.
    pub fn furnish(&self, api: &Api, word: &'static str) -> Result<Things> {
        let vm = Self::vm(api, &format!("{word}-vm"))?;
        let disk = Self::attached_disk(api, &vm, &format!("{word}-disk1"))?;
        let second_disk = Self::attached_disk(api, &vm, &format!("{word}-disk2"))?;
        let loose_disk = Self::disk(api, &format!("{word}-loose"))?;
        let transfer = Self::ended_transfer(api, &loose_disk)?;
        let nic = Self::nic(api, &vm, &format!("{word}-nic"))?;
        let headers = [
            ("Accept", "application/xml"),
            ("Content-Type", "application/xml"),
            ("Correlation-Id", word),
        ];
        let body = format!("<snapshot><description>{word} snapshot</description></snapshot>");
        let made = api.request("POST", &format!("vms/{vm}/snapshots"), &headers, Some(body.as_bytes()))?;
        let snapshot = only_id(&made.expect(&[201, 202])?)?;
        api.wait_status(&format!("vms/{vm}/snapshots/{snapshot}"), "snapshot_status", "ok", LONG)?;
        let snapshots = api.get(&format!("vms/{vm}/snapshots"))?.expect(&[200])?.xml()?;
        let active = snapshots
            .children
            .iter()
            .find(|item| item.text_at("snapshot_type") == Some("active"))
            .context("no active snapshot")?;
        let (backup, checkpoint) = Self::ended_backup(api, &vm, &second_disk)?;
        let images = api.get(&format!("disks/{disk}/disksnapshots"))?.expect(&[200])?.xml()?;
        let jobs = api.jobs(word)?;
        let job = jobs.first().context("no job")?.id()?.to_owned();
        let steps = api.get(&format!("jobs/{job}/steps"))?.expect(&[200])?.xml()?;
        let events = api
            .get(&format!("events?search=correlation_id%3D{word}"))?
            .expect(&[200])?
            .xml()?;
        Ok(Things {
            word,
            active: active.id()?.to_owned(),
            image: first(&images, "older image")?.id()?.to_owned(),
            step: first(&steps, "step")?.id()?.to_owned(),
            event: first(&events, "event")?.id()?.to_owned(),
            vm,
            disk,
            second_disk,
            loose_disk,
            nic,
            snapshot,
            job,
            transfer,
            backup,
            checkpoint,
        })
    }
}
