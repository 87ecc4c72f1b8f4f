//! The root, and what a server has beside VMs and disks.

use super::{
    ClusterService, ClustersService, EventService, EventsService, JobService, JobsService, StepService, StepsService,
    StorageDomainService, StorageDomainsService, SystemService, requests,
};
use crate::types::{Api, Cluster, Event, Job, Step, StorageDomain};

requests!(SystemService, Api, get);
requests!(JobsService, Job, list);
requests!(JobService, Job, get);
requests!(StepsService, Step, list);
requests!(StepService, Step, get);
requests!(EventsService, Event, list);
requests!(EventService, Event, get);
requests!(ClustersService, Cluster, list);
requests!(ClusterService, Cluster, get);
requests!(StorageDomainsService, StorageDomain, list);
requests!(StorageDomainService, StorageDomain, get);
