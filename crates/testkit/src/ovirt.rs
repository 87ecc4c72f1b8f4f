//! The steps that nearly every system test takes, in the words of the oVirt API.
//!
//! Each method sends one documented request and, where the product works on in the background, waits until the truth
//! is told. A test of a single answer uses [`Api::get`], [`Api::post`] and their kin instead.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Api, Xml, escape, eventually};

/// A guest boots, or a merge ends, within this time even on a busy machine.
const LONG: Duration = Duration::from_secs(180);
const BLANK: &str = "00000000-0000-0000-0000-000000000000";

/// A VM that boots the demo guest from a kernel in `DATA_DIR/boot/`.
#[derive(Debug, Clone)]
pub struct VmSpec {
    name: String,
    cmdline: String,
    memory_mib: u64,
    has_guest: bool,
}

impl VmSpec {
    /// 256 MiB of memory, no kernel options.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cmdline: String::new(),
            memory_mib: 256,
            has_guest: true,
        }
    }

    /// Kernel command line, see [`crate::Guest::cmdline`].
    #[must_use]
    pub fn cmdline(mut self, cmdline: &str) -> Self {
        cmdline.clone_into(&mut self.cmdline);
        self
    }

    /// Boots no kernel: a real machine whose firmware finds nothing, which is up at once and never writes.
    #[must_use]
    pub fn without_guest(mut self) -> Self {
        self.has_guest = false;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.memory_mib = memory_mib;
        self
    }
}

fn new_id(answer: &Xml) -> Result<String> {
    Ok(answer.id()?.to_owned())
}

impl Api {
    /// Id of the first item of a collection; `select` chooses.
    fn first(&self, path: &str, select: impl Fn(&Xml) -> bool) -> Result<String> {
        let list = self.get(path)?.expect(&[200])?.xml()?;
        let found = list.children.iter().find(|item| select(item));
        new_id(found.with_context(|| format!("nothing fitting in {path}"))?)
    }

    /// The first storage domain for data.
    ///
    /// # Errors
    /// When there is none.
    pub fn data_domain(&self) -> Result<String> {
        self.first("storagedomains", |domain| domain.text_at("type") == Some("data"))
    }

    /// Makes a VM; returns its id.
    ///
    /// # Errors
    /// When it is refused, or is not down in time.
    pub fn create_vm(&self, spec: &VmSpec) -> Result<String> {
        let os = format!(
            "<os><kernel>vmlinuz</kernel><initrd>initramfs.img</initrd><cmdline>{}</cmdline></os>",
            escape(&spec.cmdline)
        );
        let body = format!(
            "<vm><name>{}</name><cluster id=\"{}\"/><template id=\"{BLANK}\"/><memory>{}</memory>{}</vm>",
            escape(&spec.name),
            self.first("clusters", |_| true)?,
            spec.memory_mib << 20,
            if spec.has_guest { &os } else { "" },
        );
        let vm = new_id(&self.post("vms", &body)?.expect(&[201, 202])?.xml()?)?;
        self.wait_status(&format!("vms/{vm}"), "status", "down", LONG)?;
        Ok(vm)
    }

    /// Makes a thin qcow2 disk and waits until it is ok; returns its id.
    ///
    /// # Errors
    /// When it is refused or does not become ok.
    pub fn create_disk(&self, name: &str, size_bytes: u64) -> Result<String> {
        self.create_disk_as(name, size_bytes, "cow")
    }

    /// The same with a raw disk.
    ///
    /// # Errors
    /// When it is refused or does not become ok.
    pub fn create_raw_disk(&self, name: &str, size_bytes: u64) -> Result<String> {
        self.create_disk_as(name, size_bytes, "raw")
    }

    fn create_disk_as(&self, name: &str, size_bytes: u64, format: &str) -> Result<String> {
        let body = format!(
            "<disk><name>{}</name><provisioned_size>{size_bytes}</provisioned_size><format>{format}</format>\
             <storage_domains><storage_domain id=\"{}\"/></storage_domains></disk>",
            escape(name),
            self.data_domain()?,
        );
        let disk = new_id(&self.post("disks", &body)?.expect(&[201, 202])?.xml()?)?;
        self.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)?;
        Ok(disk)
    }

    /// Attaches a disk; `interface` is `virtio` or `virtio_scsi`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn attach(&self, vm: &str, disk: &str, interface: &str, is_bootable: bool) -> Result<()> {
        let body = format!(
            "<disk_attachment><active>true</active><bootable>{is_bootable}</bootable>\
             <interface>{interface}</interface><disk id=\"{disk}\"/></disk_attachment>"
        );
        self.post(&format!("vms/{vm}/diskattachments"), &body)?
            .expect(&[201, 202])?;
        Ok(())
    }

    /// Sends an action; the answer must not carry a fault.
    ///
    /// # Errors
    /// When it is refused or failed.
    pub fn act(&self, path: &str, parameters: &str) -> Result<Xml> {
        let answer = self
            .post(path, &format!("<action>{parameters}</action>"))?
            .expect(&[200, 202])?
            .xml()?;
        if answer.find("fault").is_some() || answer.text_at("status") == Some("failed") {
            bail!("{path} failed: {answer:?}");
        }
        Ok(answer)
    }

    /// Starts a VM and waits until it is up.
    ///
    /// # Errors
    /// When it is refused or does not come up.
    pub fn start(&self, vm: &str) -> Result<()> {
        self.act(&format!("vms/{vm}/start"), "")?;
        self.wait_status(&format!("vms/{vm}"), "status", "up", LONG)
    }

    /// Pulls the plug of a VM and waits until it is down.
    ///
    /// # Errors
    /// When it is refused or does not go down.
    pub fn stop(&self, vm: &str) -> Result<()> {
        self.act(&format!("vms/{vm}/stop"), "")?;
        self.wait_status(&format!("vms/{vm}"), "status", "down", LONG)
    }

    /// Asks the guest to shut down and waits until the VM is down.
    ///
    /// # Errors
    /// When it is refused or does not go down.
    pub fn shutdown(&self, vm: &str) -> Result<()> {
        self.act(&format!("vms/{vm}/shutdown"), "")?;
        self.wait_status(&format!("vms/{vm}"), "status", "down", LONG)
    }

    /// Takes a snapshot and waits until it is ok; returns its id.
    ///
    /// `disks`: `None` for all, `Some` for exactly those (an empty list: configuration only).
    ///
    /// # Errors
    /// When it is refused or does not become ok.
    pub fn snapshot(&self, vm: &str, description: &str, memory: bool, disks: Option<&[&str]>) -> Result<String> {
        let snapshot = self.begin_snapshot(vm, description, memory, disks)?;
        self.wait_status(&format!("vms/{vm}/snapshots/{snapshot}"), "snapshot_status", "ok", LONG)?;
        Ok(snapshot)
    }

    /// As [`Self::snapshot`], but returns as soon as the request was accepted.
    ///
    /// # Errors
    /// When it is refused.
    pub fn begin_snapshot(&self, vm: &str, description: &str, memory: bool, disks: Option<&[&str]>) -> Result<String> {
        let listed = disks.map_or_else(String::new, |disks| {
            let items = disks
                .iter()
                .map(|disk| format!("<disk_attachment><disk id=\"{disk}\"/></disk_attachment>"));
            format!("<disk_attachments>{}</disk_attachments>", items.collect::<String>())
        });
        let body = format!(
            "<snapshot><description>{}</description><persist_memorystate>{memory}</persist_memorystate>{listed}</snapshot>",
            escape(description)
        );
        new_id(
            &self
                .post(&format!("vms/{vm}/snapshots"), &body)?
                .expect(&[201, 202])?
                .xml()?,
        )
    }

    /// Restores a snapshot, with its memory if wished; the VM must be down and is down afterwards (or suspended).
    ///
    /// # Errors
    /// When it is refused or fails.
    pub fn restore(&self, vm: &str, snapshot: &str, memory: bool) -> Result<()> {
        let path = format!("vms/{vm}/snapshots/{snapshot}");
        self.act(
            &format!("{path}/restore"),
            &format!("<restore_memory>{memory}</restore_memory>"),
        )?;
        self.wait_status(&path, "snapshot_status", "ok", LONG)?;
        eventually(LONG, &format!("VM {vm} to be at rest"), || {
            let status = self.status_of(&format!("vms/{vm}"), "status")?;
            Ok(["down", "suspended"].contains(&status.as_str()).then_some(()))
        })
    }

    /// Deletes a snapshot and waits until it is merged and gone.
    ///
    /// # Errors
    /// When it is refused, or is still there at the deadline.
    pub fn delete_snapshot(&self, vm: &str, snapshot: &str) -> Result<()> {
        let path = format!("vms/{vm}/snapshots/{snapshot}");
        self.delete(&path)?.expect(&[200])?;
        eventually(LONG, &format!("{path} to be gone"), || match self.get(&path)?.status {
            404 => Ok(Some(())),
            200 => Ok(None),
            status => bail!("status {status}"),
        })
    }

    fn status_of(&self, path: &str, element: &str) -> Result<String> {
        let xml = self.get(path)?.expect(&[200])?.xml()?;
        Ok(xml.text_at(element).unwrap_or_default().to_owned())
    }

    /// Polls an object until an element (a path such as `snapshot_status`) has a value.
    ///
    /// # Errors
    /// When it does not in time; the error names the last value.
    pub fn wait_status(&self, path: &str, element: &str, value: &str, deadline: Duration) -> Result<()> {
        let mut seen = String::new();
        let waited = eventually(deadline, &format!("{element} of {path} to be {value}"), || {
            seen = self.status_of(path, element)?;
            Ok((seen == value).then_some(()))
        });
        waited.with_context(|| format!("the last value was {seen:?}"))
    }

    /// Events whose index is greater than `after`, oldest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn events(&self, after: u64) -> Result<Vec<Xml>> {
        let list = self.get(&format!("events?from={after}"))?.expect(&[200])?.xml()?;
        Ok(list.children.into_iter().rev().collect())
    }

    /// Jobs of a correlation id.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn jobs(&self, correlation_id: &str) -> Result<Vec<Xml>> {
        let list = self
            .get(&format!("jobs?search=correlation_id%3D{correlation_id}"))?
            .expect(&[200])?
            .xml()?;
        Ok(list.children)
    }
}
