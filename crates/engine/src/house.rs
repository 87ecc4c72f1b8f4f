//! The surroundings that clients navigate: one data center, one cluster, one host, one storage domain, one network.
//!
//! Their ids are made at the first start and kept, so that links that a client remembers stay good.

use crate::{fault::Fault, view::House};
use stillpoint_store::{
    Tx,
    disk::{self, DomainRow},
    meta,
};
use stillpoint_types::{DomainId, now_micros};

/// Name of the embedded storage domain.
pub(crate) const DOMAIN_NAME: &str = "data";

impl House {
    /// The embedded storage domain's name, for texts.
    pub(crate) fn domain_name(&self) -> String {
        DOMAIN_NAME.to_owned()
    }
}

/// Reads the house, or builds it at the first start.
pub(crate) fn ensure(tx: &Tx, path: &str, accelerator: &str, version: &str) -> Result<(House, DomainRow), Fault> {
    let id = |key: &str| -> Result<String, Fault> {
        let key = format!("house.{key}");
        if let Some(found) = meta::value(tx, &key)? {
            return Ok(found);
        }
        let fresh = DomainId::fresh().to_string();
        meta::put(tx, &key, &fresh)?;
        Ok(fresh)
    };
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_absent| "localhost".into());
    let house = House {
        instance: id("instance")?,
        data_center: (id("data_center")?, "Default".into()),
        cluster: (id("cluster")?, "Default".into()),
        host: (id("host")?, host_name.trim().into()),
        network: (id("network")?, "ovirtmgmt".into()),
        vnic_profile: (id("vnic_profile")?, "ovirtmgmt".into()),
        host_cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        host_memory_bytes: host_memory_bytes(),
        qemu_version: version.to_owned(),
        accelerator: accelerator.to_owned(),
    };
    Ok((house, disk::ensure_domain(tx, DOMAIN_NAME, path, now_micros())?))
}

/// `MemTotal` of `/proc/meminfo` (proc(5)), in bytes; 0 where it cannot be read.
fn host_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib.saturating_mul(1024))
}
