//! Virtual machines: what they look like, and what can be asked of them.

use crate::{
    answer::Answer,
    attachment,
    call::{Call, body_id},
    fault::Refused,
    follow::{Follow, Known, known},
    house,
    list::{self, Listing},
    nic, ovf,
    search::{self, PAGE_ITEMS},
    snapshot, statistic,
    together::{self, Batch, PAGE_VMS},
};
use std::{sync::Arc, time::Duration};
use stillpoint_engine::{
    Fault,
    command::{Accepted, AttachFields, CloneVm, CreateVm, DeleteVm, ShutdownVm, StartVm, StopVm, UpdateVm, VmFields},
    config::{SnapshotConfig, VmConfig},
    view::{Filter, House, Page, Paged, VmView},
};
use stillpoint_types::{DiskId, FaultCode, VmId, VmStatus};
use stillpoint_wire::{
    Date,
    model::{self, Header, Identified, Link},
};

/// How long an action waits for its job before the answer is 202.
const ACTION_WAIT: Duration = Duration::from_secs(30);
/// How long it waits when the client sent `<async>false</async>`.
const ACTION_WAIT_LONG: Duration = Duration::from_secs(600);
/// How long the making of a VM from a document waits for the document's disks.
const DISKS_WAIT: Duration = Duration::from_secs(30);

/// What can be followed from a VM.
pub(crate) static FOLLOW: &[Known] = &[
    known("diskattachments", attachment::FOLLOW),
    known("snapshots", snapshot::FOLLOW),
    known("nics", &[]),
    known("cdroms", &[]),
    known("tags", &[]),
    known("permissions", &[]),
    known("statistics", &[]),
    known("cluster", house::FOLLOW_CLUSTER),
    known("host", house::FOLLOW_HOST),
    known("template", &[]),
];

/// Sub-collections of a VM that have nothing in them, or whose things are not modelled.
pub(crate) const EMPTY: &[&str] = &[
    "affinitylabels",
    "applications",
    "cdroms",
    "graphicsconsoles",
    "hostdevices",
    "numanodes",
    "permissions",
    "reporteddevices",
    "sessions",
    "tags",
    "watchdogs",
];

/// What can be done to a VM.
const ACTIONS: &[&str] = &[
    "commitsnapshot",
    "freezefilesystems",
    "previewsnapshot",
    "reboot",
    "shutdown",
    "start",
    "stop",
    "thawfilesystems",
    "undosnapshot",
];

struct Vms {
    filter: Filter,
    house: House,
    follow: Follow,
}

impl Listing for Vms {
    type View = (VmView, Arc<Batch>);
    type Item = model::Vm;

    fn page_items(&self) -> usize {
        if self.follow == Follow::default() {
            PAGE_ITEMS
        } else {
            PAGE_VMS
        }
    }

    async fn page(&self, call: &Call, page: Page) -> Result<Paged<Self::View>, Fault> {
        let Paged { items, next } = call.engine().vms(&call.who, &self.filter, &page).await?;
        let items = together::batches(call, items, &self.follow).await?;
        Ok(Paged { items, next })
    }

    async fn show(&self, call: &Call, (view, batch): Self::View) -> Result<model::Vm, Refused> {
        show(call, &self.house, &view, &self.follow, &batch).await
    }
}

/// `GET /vms`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let search = call.search(search::VMS)?;
    let house = call.house().await?;
    let vms = Vms {
        filter: search.filter(&house),
        follow: call.follow(FOLLOW)?,
        house,
    };
    list::answer(call, vms, &search).await
}

/// `GET /vms/{vm}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let vm = call.id(0)?;
    let view = call.engine().vm(&call.who, vm).await?;
    let shown = show(&call, &call.house().await?, &view, &follow, &Batch::one(vm)).await?;
    Ok(call.ok(&shown))
}

/// `POST /vms`
pub(crate) async fn add(call: Call) -> Result<Answer, Refused> {
    let body: model::Vm = call.read()?;
    let document = body.initialization.as_ref().and_then(|i| i.configuration.as_ref());
    if document.is_some() && body.snapshots.is_some() {
        return Err(Refused::unsupported(
            "A VM is made from a document or from a snapshot, not from both",
        ));
    }
    let document = document.map(ovf::configuration).transpose()?.unwrap_or_default();
    let fields = over(fields(&body)?, document.fields);
    if fields.name.as_deref().unwrap_or_default().is_empty() {
        return Err(Refused::incomplete("Vm", &["name"], "add"));
    }
    let house = call.house().await?;
    if let Some(snapshots) = &body.snapshots {
        return clone(call, &body, snapshots, &house).await;
    }
    house::check_template(body.template.as_deref())?;
    house::check_cluster(body.cluster.as_deref(), &house)?;
    let command = CreateVm {
        fields,
        nics: match body.nics.as_deref() {
            Some(nics) => nics.iter().map(nic::fields).collect(),
            None => document.nics,
        },
        ..document
    };
    let accepted = create(&call, command).await?;
    let job = call.settle(&accepted).await?;
    let view = call.engine().vm(&call.who, accepted.id).await?;
    Ok(call.added(represent(call.base(), &house, &view), job))
}

/// `POST /vms` with a snapshot: its template and its devices are the snapshot's. Whether `clone` is asked for makes no
/// difference that could be seen: the disks are the new VM's own in any case.
async fn clone(call: Call, body: &model::Vm, snapshots: &[model::Snapshot], house: &House) -> Result<Answer, Refused> {
    house::check_cluster(body.cluster.as_deref(), house)?;
    let id = match snapshots {
        [one] => one.base.head.id.as_deref(),
        _ => None,
    };
    let id = id.ok_or_else(|| Refused::incomplete("Vm", &["snapshots.snapshot.id"], "add"))?;
    let command = CloneVm {
        snapshot: body_id(id, "snapshot")?,
        fields: fields(body)?,
    };
    let accepted = call.engine().clone_vm(&call.who, call.origin(), command).await?;
    let job = call.settle(&accepted).await?;
    let view = call.engine().vm(&call.who, accepted.id).await?;
    Ok(call.added(represent(call.base(), house, &view), job))
}

/// `PUT /vms/{vm}`
pub(crate) async fn update(call: Call) -> Result<Answer, Refused> {
    let vm: VmId = call.id(0)?;
    let body: model::Vm = call.read()?;
    if let Some(id) = &body.head.id
        && body_id::<VmId>(id, "vm")? != vm
    {
        return Err(Refused::immutable("id"));
    }
    let command = UpdateVm {
        vm,
        fields: fields(&body)?,
    };
    let accepted = call.engine().update_vm(&call.who, call.origin(), command).await?;
    call.acted(accepted.job, ACTION_WAIT).await?;
    let view = call.engine().vm(&call.who, vm).await?;
    Ok(call.ok(&represent(call.base(), &call.house().await?, &view)))
}

/// `DELETE /vms/{vm}`
pub(crate) async fn remove(call: Call) -> Result<Answer, Refused> {
    let command = DeleteVm {
        vm: call.id(0)?,
        detach_only: call.params().flag("detach_only").unwrap_or(false),
    };
    let accepted = call.engine().delete_vm(&call.who, call.origin(), command).await?;
    Ok(call.removed(accepted.job))
}

/// `POST /vms/{vm}/start`
pub(crate) async fn start(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    let action: model::Action = call.read()?;
    let once = action.vm.as_ref().is_some_and(|vm| **vm != model::Vm::default());
    if once || action.use_cloud_init == Some(true) || action.use_sysprep == Some(true) {
        return Err(Refused::unsupported(
            "Starting once with another configuration is not supported by this version",
        ));
    }
    let command = StartVm {
        vm,
        paused: action.pause.unwrap_or(false),
    };
    let accepted = call.engine().start_vm(&call.who, call.origin(), command).await?;
    call.acted(accepted.job, patience(&action)).await
}

/// `POST /vms/{vm}/stop`
pub(crate) async fn stop(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    let action: model::Action = call.read()?;
    let accepted = call.engine().stop_vm(&call.who, call.origin(), StopVm { vm }).await?;
    call.acted(accepted.job, patience(&action)).await
}

/// `POST /vms/{vm}/shutdown`
pub(crate) async fn shutdown(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    let action: model::Action = call.read()?;
    let accepted = call
        .engine()
        .shutdown_vm(&call.who, call.origin(), ShutdownVm { vm })
        .await?;
    call.acted(accepted.job, patience(&action)).await
}

/// How long an action may block, as its `async` element says.
pub(crate) fn patience(action: &model::Action) -> Duration {
    match action.run_async {
        Some(true) => Duration::ZERO,
        Some(false) => ACTION_WAIT_LONG,
        None => ACTION_WAIT,
    }
}

/// `GET /vms/{vm}/<one of EMPTY>`
pub(crate) async fn nothing(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    call.engine().vm(&call.who, vm).await?;
    Ok(house::empty(&call))
}

fn fields(body: &model::Vm) -> Result<VmFields, Refused> {
    let topology = body.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    let os = body.os.as_ref();
    Ok(VmFields {
        name: body.head.name.clone(),
        description: body.head.description.clone(),
        comment: body.head.comment.clone(),
        memory_bytes: body.memory,
        memory_guaranteed_bytes: body.memory_policy.as_ref().and_then(|policy| policy.guaranteed),
        sockets: count(topology.and_then(|t| t.sockets), "sockets")?,
        cores: count(topology.and_then(|t| t.cores), "cores")?,
        threads: count(topology.and_then(|t| t.threads), "threads")?,
        os_type: os.and_then(|os| os.kind.clone()),
        kernel: os.and_then(|os| os.kernel.clone()),
        initrd: os.and_then(|os| os.initrd.clone()),
        cmdline: os.and_then(|os| os.cmdline.clone()),
        vm_type: body.kind.clone(),
        delete_protected: body.delete_protected,
    })
}

/// Makes a VM, and waits a while for the disks that it shall have. What the snapshots of a removed VM leave is still being
/// merged when its disks could be attached again, and the next merge may begin between two looks.
async fn create(call: &Call, command: CreateVm) -> Result<Accepted<VmId>, Fault> {
    let patience = tokio::time::sleep(DISKS_WAIT);
    tokio::pin!(patience);
    loop {
        let is_free = tokio::select! {
            () = &mut patience => false,
            is_free = free(call, &command.disks) => is_free,
        };
        match call.engine().create_vm(&call.who, call.origin(), command.clone()).await {
            Err(fault) if fault.code == FaultCode::Locked && is_free => {}
            made => return made,
        }
    }
}

/// Waits until no job holds any of the disks; `false`: that cannot be waited for. A disk that cannot be seen is free here:
/// it is the core's to refuse.
async fn free(call: &Call, disks: &[(DiskId, AttachFields)]) -> bool {
    for (disk, _) in disks {
        while let Ok(view) = call.engine().disk(&call.who, *disk).await
            && let Some(holder) = view.holder
        {
            if let Err(fault) = call.engine().wait(holder.job, DISKS_WAIT).await {
                tracing::debug!(%disk, why = fault.text, "a disk is not waited for any longer");
                return false;
            }
        }
    }
    true
}

/// The given fields, and for what is not given those of a document.
fn over(given: VmFields, document: VmFields) -> VmFields {
    // What was guaranteed of another size of memory says nothing about this one.
    let guaranteed = document
        .memory_guaranteed_bytes
        .filter(|_| given.memory_bytes.is_none());
    VmFields {
        name: given.name.filter(|name| !name.is_empty()).or(document.name),
        description: given.description.or(document.description),
        comment: given.comment.or(document.comment),
        memory_bytes: given.memory_bytes.or(document.memory_bytes),
        memory_guaranteed_bytes: given.memory_guaranteed_bytes.or(guaranteed),
        sockets: given.sockets.or(document.sockets),
        cores: given.cores.or(document.cores),
        threads: given.threads.or(document.threads),
        os_type: given.os_type.or(document.os_type),
        kernel: given.kernel.or(document.kernel),
        initrd: given.initrd.or(document.initrd),
        cmdline: given.cmdline.or(document.cmdline),
        vm_type: given.vm_type.or(document.vm_type),
        delete_protected: given.delete_protected.or(document.delete_protected),
    }
}

fn count(value: Option<i32>, what: &str) -> Result<Option<u32>, Refused> {
    value
        .map(|number| {
            u32::try_from(number)
                .map_err(|_negative| Refused::invalid_value(format!("{number} is not a valid number of {what}")))
        })
        .transpose()
}

/// A VM with what shall be inlined, and with its document if the full representation is wanted.
async fn show(call: &Call, house: &House, view: &VmView, follow: &Follow, batch: &Batch) -> Result<model::Vm, Refused> {
    let mut vm = represent(call.base(), house, view);
    if call.all_content() {
        vm.initialization = Some(ovf::initialization(document(call, house, view).await?));
    }
    if let Some(below) = follow.below("diskattachments") {
        let views = batch.attachments(call, view.id).await?;
        let mut shown = Vec::with_capacity(views.len());
        for attachment in views {
            shown.push(attachment::show(call, attachment, below).await?);
        }
        vm.disk_attachments = Some(shown);
    }
    if let Some(below) = follow.below("snapshots") {
        let views = batch.snapshots(call, view.id).await?;
        let mut shown = Vec::with_capacity(views.len());
        for snapshot in views {
            shown.push(snapshot::show(call, snapshot, below).await?);
        }
        vm.snapshots = Some(shown);
    }
    if follow.below("nics").is_some() {
        let place = format!("{}/vms/{}", call.base(), view.id);
        vm.nics = Some(nic::represent_all(call.base(), &place, house, &view.config));
    }
    if let Some(below) = follow.below("cluster") {
        vm.cluster = Some(Box::new(house::cluster(call.base(), house, below)));
    }
    if let (Some(below), Some(_)) = (follow.below("host"), &vm.host) {
        vm.host = Some(Box::new(house::host(call.base(), house, below)));
    }
    if follow.below("template").is_some() {
        vm.template = Some(Box::new(house::blank_template(call.base(), house)));
    }
    vm.cdroms = follow.below("cdroms").map(|_| Vec::new());
    vm.tags = follow.below("tags").map(|_| Vec::new());
    vm.permissions = follow.below("permissions").map(|_| Vec::new());
    if follow.below("statistics").is_some() {
        vm.statistics = Some(statistic::of_vm(call, view).await?);
    }
    Ok(vm)
}

/// The VM as a document, as it is now.
async fn document(call: &Call, house: &House, view: &VmView) -> Result<String, Refused> {
    let mut attachments = Vec::new();
    let mut active = None;
    for attachment in call.engine().attachments(&call.who, view.id).await? {
        let images = call
            .engine()
            .disk_snapshots(&call.who, attachment.disk.id, true)
            .await?;
        let image = images.into_iter().find(|image| image.active);
        active = active.or(image.as_ref().and_then(|image| image.snapshot));
        attachments.push(attachment::as_config(&attachment, image.and_then(|image| image.parent)));
    }
    let record = SnapshotConfig {
        vm: view.id,
        config: view.config.clone(),
        attachments,
        created_at: view.created_at,
        generation: 0,
        consistency: None,
    };
    Ok(ovf::document(&ovf::Subject {
        record: &record,
        snapshot: active,
        house,
        generation: None,
        dialect: call.dialect(),
        now: call.engine().now(),
    }))
}

/// What a VM looks like.
pub(crate) fn represent(base: &str, house: &House, view: &VmView) -> model::Vm {
    let mut head = Header::new(view.id.to_string(), format!("{base}/vms/{}", view.id));
    for action in ACTIONS {
        head.add_action(action);
    }
    for path in [
        "backups",
        "checkpoints",
        "diskattachments",
        "nics",
        "snapshots",
        "statistics",
    ] {
        head.add_link(path);
    }
    for path in EMPTY {
        head.add_link(path);
    }
    head.link.sort_by(|a: &Link, b: &Link| a.rel.cmp(&b.rel));
    let running = !matches!(view.status, VmStatus::Down | VmStatus::Suspended);
    let (cluster, host) = (&house.cluster.0, &house.host.0);
    let blank = house::ZERO;
    let detail = Some(view.status_detail.clone()).filter(|detail| !detail.is_empty());
    model::Vm {
        creation_time: Some(Date(view.created_at)),
        cluster: model::Cluster::reference(cluster.as_str(), format!("{base}/clusters/{cluster}")),
        next_run_configuration_exists: Some(false),
        run_once: Some(false),
        start_time: view.started_at.map(Date),
        status: Some(model::State {
            state: view.status.to_string(),
            detail: detail.clone(),
        }),
        status_detail: detail,
        stop_time: view.stopped_at.map(Date),
        host: running
            .then(|| model::Host::reference(host.as_str(), format!("{base}/hosts/{host}")))
            .flatten(),
        original_template: model::Template::reference(blank, format!("{base}/templates/{blank}")),
        template: model::Template::reference(blank, format!("{base}/templates/{blank}")),
        ..configured(head, &view.config)
    }
}

/// What a VM's configuration looks like, now or as a snapshot keeps it.
pub(crate) fn configured(mut head: Header, config: &VmConfig) -> model::Vm {
    head.name = Some(config.name.clone());
    head.description = Some(config.description.clone());
    head.comment = Some(config.comment.clone());
    let number = |value: u32| i32::try_from(value).ok();
    model::Vm {
        head,
        bios: Some(model::Bios {
            boot_menu: Some(model::BootMenu { enabled: Some(false) }),
            kind: Some(bios(&config.machine).into()),
        }),
        cpu: Some(model::Cpu {
            architecture: Some("x86_64".into()),
            topology: Some(model::CpuTopology {
                cores: number(config.cores),
                sockets: number(config.sockets),
                threads: number(config.threads),
            }),
            kind: None,
        }),
        delete_protected: Some(config.delete_protected),
        memory: Some(config.memory_bytes),
        memory_policy: Some(model::MemoryPolicy {
            ballooning: Some(false),
            guaranteed: Some(config.memory_guaranteed_bytes),
            max: Some(config.memory_bytes),
        }),
        origin: Some("ovirt".into()),
        os: Some(model::OperatingSystem {
            boot: Some(model::Boot {
                devices: Some(model::BootDevices {
                    device: vec!["hd".into()],
                }),
            }),
            boot_order: vec![model::BootDevice { dev: Some("hd".into()) }],
            cmdline: config.cmdline.clone(),
            initrd: config.initrd.clone(),
            kernel: config.kernel.clone(),
            kind: Some(config.os_type.clone()),
            version: None,
        }),
        start_paused: Some(false),
        stateless: Some(false),
        kind: Some(config.vm_type.clone()),
        ..model::Vm::default()
    }
}

/// The firmware's name for a QEMU machine type.
pub(crate) fn bios(machine: &str) -> &'static str {
    if machine.contains("i440fx") {
        "i440fx_sea_bios"
    } else {
        "q35_sea_bios"
    }
}
