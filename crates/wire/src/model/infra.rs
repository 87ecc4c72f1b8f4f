//! The surroundings of VMs: the API root, data centers, clusters, hosts, networks, statistics.

use super::*;
use crate::{Date, describe::describe};

describe! {
    /// The root of the API.
    Api: "api" / "apis" {
        links link: Link,
        el engine_backup: EngineBackupInfo,
        el product_info: ProductInfo,
        el special_objects: SpecialObjects,
        el summary: ApiSummary,
        el time: Date,
        el authenticated_user: Box<User>,
        el effective_user: Box<User>,
    }

    /// What is speaking.
    ProductInfo: "product_info" {
        el4 instance_id: String,
        el name: String,
        el vendor: String,
        el version: Version,
        el3 full_version: String,
    }

    /// What the server can do: of version 3, which had no fixed model.
    Capabilities: "capabilities" / "capabilities_list" {
        many version: CapabilitiesVersion,
    }

    /// What the server can do at a compatibility level.
    CapabilitiesVersion: "version" {
        attr id: String,
        attr3 major: i32,
        attr3 minor: i32,
        el current: bool,
    }

    /// When the server's own state was last saved.
    EngineBackupInfo: "engine_backup" {
        el last_db_backup: Date,
        el last_engine_backup: Date,
    }

    /// Objects that exist everywhere.
    SpecialObjects: "special_objects" {
        el4 blank_template: Box<Template>,
        el4 root_tag: Box<Tag>,
        many3 link: Link,
    }

    /// How much there is of each thing.
    ApiSummary: "summary" {
        el hosts: ApiSummaryItem,
        el storage_domains: ApiSummaryItem,
        el users: ApiSummaryItem,
        el vms: ApiSummaryItem,
    }

    /// How much there is of one thing.
    ApiSummaryItem: "api_summary_item" {
        el active: i32,
        el total: i32,
    }

    /// A data center.
    DataCenter: "data_center" / "data_centers", by head {
        flat head: Header,
        el local: bool,
        el quota_mode: String,
        el status: State,
        el storage_format: String,
        el supported_versions: Vec<Version>,
        el version: Version,
        el clusters: Vec<Cluster>,
        el networks: Vec<Network>,
        el permissions: Vec<Permission>,
        el storage_domains: Vec<StorageDomain>,
    }

    /// A cluster of hosts.
    Cluster: "cluster" / "clusters", by head {
        flat head: Header,
        el ballooning_enabled: bool,
        el4 bios_type: String,
        el cpu: Cpu,
        el firewall_type: String,
        el gluster_service: bool,
        el ha_reservation: bool,
        el switch_type: String,
        el threads_as_cores: bool,
        el trusted_service: bool,
        el tunnel_migration: bool,
        el version: Version,
        el virt_service: bool,
        el data_center: Box<DataCenter>,
        el networks: Vec<Network>,
        el permissions: Vec<Permission>,
    }

    /// A hypervisor host.
    Host: "host" / "hosts", by head {
        flat head: Header,
        el address: String,
        el cpu: Cpu,
        el external_status: State,
        el hardware_information: HardwareInformation,
        /// Bytes.
        el memory: u64,
        el os: OperatingSystem,
        el port: i32,
        el status: State,
        el summary: VmSummary,
        /// `rhel`, `ovirt_node`.
        el kind = "type": String,
        el version: Version,
        el cluster: Box<Cluster>,
        el permissions: Vec<Permission>,
        el statistics: Vec<Statistic>,
        el tags: Vec<Tag>,
    }

    /// Limits for the processors of VMs.
    CpuProfile: "cpu_profile" / "cpu_profiles", by head {
        flat head: Header,
        el cluster: Box<Cluster>,
    }

    /// Limits for the use of a data center.
    Quota: "quota" / "quotas", by head {
        flat head: Header,
        el data_center: Box<DataCenter>,
    }

    /// What the host's firmware says about it.
    HardwareInformation: "hardware_information" {
        el family: String,
        el manufacturer: String,
        el product_name: String,
        el serial_number: String,
        el uuid: String,
        el version: String,
    }

    /// How many VMs a host has.
    VmSummary: "summary" {
        el active: i32,
        el migrating: i32,
        el total: i32,
    }

    /// A logical network.
    Network: "network" / "networks", by head {
        flat head: Header,
        el mtu: i32,
        el status: State,
        el stp: bool,
        el data_center: Box<DataCenter>,
        el vnic_profiles: Vec<VnicProfile>,
    }

    /// How a network card joins a network.
    VnicProfile: "vnic_profile" / "vnic_profiles", by head {
        flat head: Header,
        el port_mirroring: bool,
        el network: Box<Network>,
        el permissions: Vec<Permission>,
    }

    /// A measured quantity.
    Statistic: "statistic" / "statistics", by head {
        flat head: Header,
        /// `gauge`, `counter`.
        el kind: String,
        /// `integer`, `decimal`, `string`.
        el value_type = "type": String,
        /// `bytes`, `percent`, `seconds`, ...
        el unit: String,
        el values: Vec<StatisticValue>,
        el disk: Box<Disk>,
        el host: Box<Host>,
        el nic: Box<Nic>,
        el step: Box<Step>,
        el vm: Box<Vm>,
    }

    /// One value of a statistic.
    StatisticValue: "value" {
        el datum: f64,
        el detail: String,
    }

    /// A guest operating system that can be chosen.
    OperatingSystemInfo: "operating_system" / "operating_systems", by head {
        flat head: Header,
        el architecture: String,
    }

    /// A compatibility level that can be chosen.
    ClusterLevel: "cluster_level" / "cluster_levels", by head {
        flat head: Header,
        el cpu_types: Vec<CpuType>,
    }

    /// A processor model of a compatibility level.
    CpuType: "cpu_type" {
        el architecture: String,
        el level: i32,
        el name: String,
    }
}
