//! The services, named as in the other SDKs of the API, and how they hang together.

mod backup;
mod disk;
mod system;
mod transfer;
mod vm;

use crate::{Connection, Error, service::services};

services! {
    /// The root of the API: what the server has.
    SystemService, System {
        "vms" => vms_service: VmsService,
        "disks" => disks_service: DisksService,
        "imagetransfers" => image_transfers_service: ImageTransfersService,
        "jobs" => jobs_service: JobsService,
        "events" => events_service: EventsService,
        "clusters" => clusters_service: ClustersService,
        "storagedomains" => storage_domains_service: StorageDomainsService,
    }

    /// The VMs.
    VmsService, Vms {
        _ => vm_service: VmService,
    }

    /// One VM.
    VmService, Vm {
        "backups" => backups_service: VmBackupsService,
        "checkpoints" => checkpoints_service: VmCheckpointsService,
        "snapshots" => snapshots_service: SnapshotsService,
        "diskattachments" => disk_attachments_service: DiskAttachmentsService,
        "nics" => nics_service: VmNicsService,
        "statistics" => statistics_service: StatisticsService,
    }

    /// The network interfaces of a VM.
    VmNicsService, VmNics {
        _ => nic_service: VmNicService,
    }

    /// One network interface of a VM.
    VmNicService, VmNic {}

    /// What is measured about a VM or a disk.
    StatisticsService, Statistics {
        _ => statistic_service: StatisticService,
    }

    /// One measured value.
    StatisticService, Statistic {}

    /// The backups of a VM.
    VmBackupsService, VmBackups {
        _ => backup_service: VmBackupService,
    }

    /// One backup of a VM.
    VmBackupService, VmBackup {
        "disks" => disks_service: VmBackupDisksService,
    }

    /// The disks in a backup.
    VmBackupDisksService, VmBackupDisks {
        _ => disk_service: VmBackupDiskService,
    }

    /// One disk in a backup.
    VmBackupDiskService, VmBackupDisk {}

    /// The checkpoints of a VM.
    VmCheckpointsService, VmCheckpoints {
        _ => checkpoint_service: VmCheckpointService,
    }

    /// One checkpoint of a VM.
    VmCheckpointService, VmCheckpoint {
        "disks" => disks_service: VmCheckpointDisksService,
    }

    /// The disks in a checkpoint.
    VmCheckpointDisksService, VmCheckpointDisks {
        _ => disk_service: VmCheckpointDiskService,
    }

    /// One disk in a checkpoint.
    VmCheckpointDiskService, VmCheckpointDisk {}

    /// The snapshots of a VM.
    SnapshotsService, Snapshots {
        _ => snapshot_service: SnapshotService,
    }

    /// One snapshot of a VM.
    SnapshotService, Snapshot {
        "disks" => disks_service: SnapshotDisksService,
        "nics" => nics_service: SnapshotNicsService,
    }

    /// The network interfaces in a snapshot.
    SnapshotNicsService, SnapshotNics {
        _ => nic_service: SnapshotNicService,
    }

    /// One network interface in a snapshot.
    SnapshotNicService, SnapshotNic {}

    /// The disks in a snapshot.
    SnapshotDisksService, SnapshotDisks {
        _ => disk_service: SnapshotDiskService,
    }

    /// One disk in a snapshot.
    SnapshotDiskService, SnapshotDisk {}

    /// What is attached to a VM.
    DiskAttachmentsService, DiskAttachments {
        _ => attachment_service: DiskAttachmentService,
    }

    /// How one disk is attached to a VM.
    DiskAttachmentService, DiskAttachment {}

    /// The disks.
    DisksService, Disks {
        _ => disk_service: DiskService,
    }

    /// One disk.
    DiskService, Disk {
        "disksnapshots" => disk_snapshots_service: DiskSnapshotsService,
        "statistics" => statistics_service: StatisticsService,
    }

    /// The images of a disk's chain.
    DiskSnapshotsService, DiskSnapshots {
        _ => snapshot_service: DiskSnapshotService,
    }

    /// One image of a disk's chain.
    DiskSnapshotService, DiskSnapshot {}

    /// The image transfers.
    ImageTransfersService, ImageTransfers {
        _ => image_transfer_service: ImageTransferService,
    }

    /// One image transfer.
    ImageTransferService, ImageTransfer {}

    /// The jobs.
    JobsService, Jobs {
        _ => job_service: JobService,
    }

    /// One job.
    JobService, Job {
        "steps" => steps_service: StepsService,
    }

    /// The steps of a job.
    StepsService, Steps {
        _ => step_service: StepService,
    }

    /// One step of a job.
    StepService, Step {}

    /// The event log.
    EventsService, Events {
        _ => event_service: EventService,
    }

    /// One event.
    EventService, Event {}

    /// The clusters.
    ClustersService, Clusters {
        _ => cluster_service: ClusterService,
    }

    /// One cluster.
    ClusterService, Cluster {}

    /// The storage domains.
    StorageDomainsService, StorageDomains {
        _ => storage_domain_service: StorageDomainService,
    }

    /// One storage domain.
    StorageDomainService, StorageDomain {
        "disks" => disks_service: StorageDomainDisksService,
        "disksnapshots" => disk_snapshots_service: DiskSnapshotsService,
    }

    /// The disks in a storage domain, and the image files there that belong to no disk yet.
    StorageDomainDisksService, StorageDomainDisks {
        _ => disk_service: StorageDomainDiskService,
    }

    /// One disk in a storage domain.
    StorageDomainDiskService, StorageDomainDisk {}
}

impl Service {
    /// The service at a path below this one; the empty path is this one.
    pub(crate) fn at(self, path: &str) -> Result<Self, Error> {
        let mut here = self;
        let mut rest = path;
        while !rest.is_empty() {
            let (segment, below) = rest.split_once('/').unwrap_or((rest, ""));
            let next = if segment.is_empty() { None } else { here.step(segment) };
            here = next.ok_or_else(|| Error::Usage(format!("no service is at {path:?}: {segment:?} leads nowhere")))?;
            rest = below;
        }
        Ok(here)
    }
}

impl Connection {
    /// The service at a path below the API, for example `vms/123/backups`; no path and an empty one mean the root. Nothing
    /// is sent.
    ///
    /// # Errors
    /// [`Error::Usage`]: no service is there.
    pub fn service<'a>(&self, path: impl Into<Option<&'a str>>) -> Result<Service, Error> {
        self.system_service().service(path)
    }

    /// The service that an object's `href` names. Nothing is sent.
    ///
    /// # Errors
    /// [`Error::Usage`]: it is no href of this connection's API, or no service is there.
    pub fn follow_href(&self, href: &str) -> Result<Service, Error> {
        let below = href
            .strip_prefix(self.path())
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| Error::Usage(format!("{href:?} is not below {}", self.path())))?;
        self.system_service().service(below)
    }
}

/// The requests that many services have, with the representation that they are about.
macro_rules! requests {
    ($service:ident, $type:ty, $( $what:ident ),+) => {
        impl $service {
            $( $crate::services::requests!(@ $what $type); )+
        }
    };
    (@ list $type:ty) => {
        /// Lists them.
        pub fn list(&self, options: $crate::ListOptions) -> $crate::Request<Vec<$type>> {
            self.0.list(options.0)
        }
    };
    (@ get $type:ty) => {
        /// Reads it.
        pub fn get(&self, options: $crate::GetOptions) -> $crate::Request<$type> {
            self.0.get(options.0)
        }
    };
    (@ add $type:ty) => {
        /// Adds one. The answer is the object as it is now: what goes on in the background is told by its status.
        pub fn add(&self, object: &$type, options: $crate::CallOptions) -> $crate::Request<$type> {
            self.0.add(object, options.0)
        }
    };
    (@ update $type:ty) => {
        /// Changes what `object` says, and nothing else.
        pub fn update(&self, object: &$type, options: $crate::CallOptions) -> $crate::Request<$type> {
            self.0.update(object, options.0)
        }
    };
    (@ remove $type:ty) => {
        /// Removes it. It may take a while until it is gone.
        pub fn remove(&self, options: $crate::RemoveOptions) -> $crate::Request<()> {
            self.0.remove(options.0)
        }
    };
}
pub(crate) use requests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GetOptions;

    fn connection() -> Connection {
        let builder = Connection::builder("http://127.0.0.1:9/ovirt-engine/api/");
        builder.token("unused").build().unwrap()
    }

    fn backups() -> VmBackupsService {
        connection()
            .system_service()
            .vms_service()
            .vm_service("1")
            .backups_service()
    }

    #[test]
    fn a_path_leads_to_the_service_that_the_locators_lead_to() {
        let backups = backups();
        for nothing in [None, Some("")] {
            assert!(matches!(backups.service(nothing), Ok(Service::VmBackups(_))));
        }
        let shown = |service: &dyn std::fmt::Debug| format!("{service:?}");
        let Ok(Service::VmBackup(one)) = backups.service("2") else {
            panic!("no backup")
        };
        assert_eq!(shown(&one), shown(&backups.backup_service("2")));
        let Ok(Service::VmBackup(same)) = backups.service("2/") else {
            panic!("no backup")
        };
        assert_eq!(shown(&same), shown(&one));
        let Ok(Service::VmBackupDisk(disk)) = backups.service("2/disks/3") else {
            panic!("no disk")
        };
        assert_eq!(shown(&disk), shown(&one.disks_service().disk_service("3")));
        let system = connection().system_service();
        assert!(matches!(
            system.service("vms/1/backups/2/disks"),
            Ok(Service::VmBackupDisks(_))
        ));
        assert!(matches!(system.service("jobs/1/steps/2"), Ok(Service::Step(_))));
        assert!(matches!(
            system.service("disks/1/statistics/2"),
            Ok(Service::Statistic(_))
        ));
        let here = connection().service("vms/1/snapshots/2/nics/3");
        assert!(matches!(here, Ok(Service::SnapshotNic(_))));
        assert!(matches!(connection().service(None), Ok(Service::System(_))));
        for nowhere in ["/2", "2//disks", "2/nothing", "2/disks/3/4", "/"] {
            assert!(matches!(backups.service(nowhere), Err(Error::Usage(_))), "{nowhere}");
        }
    }

    #[test]
    fn an_href_leads_to_its_service_and_a_foreign_one_nowhere() {
        let connection = connection();
        let there = connection.follow_href("/ovirt-engine/api/vms/1/snapshots/2");
        assert!(matches!(there, Ok(Service::Snapshot(_))));
        for foreign in [
            "/ovirt-engine/apivms/1",
            "/vms/1",
            "http://other/ovirt-engine/api/vms",
            "",
        ] {
            assert!(connection.follow_href(foreign).is_err(), "{foreign}");
        }
    }

    #[tokio::test]
    async fn no_id_leads_a_request_to_another_place() {
        for id in ["", ".", ".."] {
            let refused = backups().backup_service(id).get(GetOptions::new()).await;
            assert!(matches!(refused, Err(Error::Usage(_))), "{id:?}: {refused:?}");
        }
        let shown = format!("{:?}", backups().backup_service("../../2?a=b#c d"));
        assert!(shown.contains("/vms/1/backups/..%2F..%2F2%3Fa%3Db%23c%20d"), "{shown}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_transient_failure_of_the_connection() {
        let sent = backups().backup_service("2").get(GetOptions::new().wait(false));
        let error = sent.await.unwrap_err();
        assert!(
            matches!(error, Error::Transport { .. }) && error.is_transient(),
            "{error:?}"
        );
    }
}
