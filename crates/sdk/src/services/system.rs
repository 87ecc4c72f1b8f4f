//! The root, and what a server has beside VMs and disks.

use super::{
    ClusterService, ClustersService, EventService, EventsService, JobService, JobsService, StatisticService,
    StatisticsService, StepService, StepsService, StorageDomainDiskService, StorageDomainDisksService,
    StorageDomainService, StorageDomainsService, SystemService, requests,
};
use crate::{
    CallOptions, Request,
    types::{Action, Api, Cluster, Disk, Event, Job, Statistic, Step, StorageDomain},
};

requests!(SystemService, Api, get);
requests!(JobsService, Job, list, add);
requests!(JobService, Job, get);
requests!(StepsService, Step, list, add);
requests!(StepService, Step, get);
requests!(EventsService, Event, list, add);
requests!(EventService, Event, get, remove);
requests!(StatisticsService, Statistic, list);
requests!(StatisticService, Statistic, get);
requests!(ClustersService, Cluster, list);
requests!(ClusterService, Cluster, get);
requests!(StorageDomainsService, StorageDomain, list);
requests!(StorageDomainService, StorageDomain, get);
// With the query `unregistered=true` the list is of files that belong to no disk, and adding one adopts it.
requests!(StorageDomainDisksService, Disk, list, add);
requests!(StorageDomainDiskService, Disk, get);

/// How a client says that what it added has ended.
fn ended(succeeded: bool) -> Action {
    Action {
        succeeded: Some(succeeded),
        ..Action::default()
    }
}

impl JobService {
    /// Ends a job that a client added.
    ///
    /// ```no_run
    /// use stillpoint_sdk::{CallOptions, Connection, types::Job};
    ///
    /// # async fn example(connection: Connection) -> Result<(), stillpoint_sdk::Error> {
    /// let jobs = connection.system_service().jobs_service();
    /// let mut mine = Job::default();
    /// mine.head.description = Some("Nightly backup".into());
    /// let job = jobs.add(&mine, CallOptions::new()).await?;
    /// let job = jobs.job_service(job.head.id.as_deref().unwrap_or_default());
    /// job.end(true, CallOptions::new()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn end(&self, succeeded: bool, options: CallOptions) -> Request<Action> {
        self.0.action("end", &ended(succeeded), options.0)
    }

    /// Removes a job that a client added from the list.
    pub fn clear(&self, options: CallOptions) -> Request<Action> {
        self.0.action("clear", &Action::default(), options.0)
    }
}

impl StepService {
    /// Ends a step that a client added.
    pub fn end(&self, succeeded: bool, options: CallOptions) -> Request<Action> {
        self.0.action("end", &ended(succeeded), options.0)
    }
}
