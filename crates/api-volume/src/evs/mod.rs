//! Huawei Cloud EVS, at the root: its own names (`cloudsnapshots`, `cloudvolumes`, `jobs`), and Cinder's under the root's rules.
//!
//! The rules of the root: names of at most 64 and descriptions of at most 85 characters on writing, EVS's statuses, a metadata
//! key that begins with `__system__` is the daemon's own, errors are `{"error":{"code","message"}}`. `/v5` is not served (404),
//! but for its spelling of the rollback.

mod body;
mod job;
mod list;
mod metadata;
mod odds;
mod rollback;
mod show;
mod snapshot;
mod versions;
mod volume;

use crate::{
    cinder::transfers,
    route::{Route, route},
};

pub(crate) static ROUTES: &[Route] = &[
    route!(Evs Public GET "/" "versions/list" => versions::list),
    route!(Evs Public GET "/v1" "version/get" => versions::v1),
    route!(Evs Public GET "/v1/" "version/get" => versions::v1),
    route!(Evs Public GET "/v2" "version/get" => versions::v2),
    route!(Evs Public GET "/v2/" "version/get" => versions::v2),
    route!(Evs Public GET "/v3" "version/get" => versions::v3),
    route!(Evs Public GET "/v3/" "version/get" => versions::v3),
    // Snapshots, as huaweicloudsdkevs spells them.
    route!(Evs Operate POST "/v2/{project}/cloudsnapshots" "snapshots/add" => snapshot::add),
    route!(Evs Read GET "/v2/{project}/cloudsnapshots" "snapshots/list" => snapshot::list),
    route!(Evs Read GET "/v2/{project}/cloudsnapshots/detail" "snapshots/detail" => snapshot::detail),
    route!(Evs Read GET "/v2/{project}/cloudsnapshots/{snapshot}" "snapshot/get" => snapshot::get),
    route!(Evs Operate PUT "/v2/{project}/cloudsnapshots/{snapshot}" "snapshot/update" => snapshot::update),
    route!(Evs Operate DELETE "/v2/{project}/cloudsnapshots/{snapshot}" "snapshot/remove" => snapshot::remove),
    route!(Evs Operate POST "/v2/{project}/cloudsnapshots/{snapshot}/rollback" "snapshot/rollback" => rollback::start),
    route!(Evs Operate POST "/v2/{project}/os-vendor-snapshots/{snapshot}/rollback" "snapshot/rollback" => rollback::start),
    route!(Evs Read GET "/v2/{project}/cloudsnapshots/{snapshot}/metadata" "snapshot/metadata/list" => metadata::list),
    route!(Evs Operate POST "/v2/{project}/cloudsnapshots/{snapshot}/metadata" "snapshot/metadata/merge" => metadata::merge),
    route!(Evs Operate PUT "/v2/{project}/cloudsnapshots/{snapshot}/metadata" "snapshot/metadata/replace" => metadata::replace),
    route!(Evs Read GET "/v2/{project}/cloudsnapshots/{snapshot}/metadata/{key}" "snapshot/metadata/get" => metadata::get),
    route!(Evs Operate PUT "/v2/{project}/cloudsnapshots/{snapshot}/metadata/{key}" "snapshot/metadata/set" => metadata::set),
    route!(Evs Operate DELETE "/v2/{project}/cloudsnapshots/{snapshot}/metadata/{key}" "snapshot/metadata/remove" => metadata::remove),
    // Snapshots in Cinder's old spelling.
    route!(Evs Operate POST "/v2/{project}/snapshots" "snapshots/add" => snapshot::add),
    route!(Evs Read GET "/v2/{project}/snapshots" "snapshots/list" => snapshot::list),
    route!(Evs Read GET "/v2/{project}/snapshots/detail" "snapshots/detail" => snapshot::detail),
    route!(Evs Read GET "/v2/{project}/snapshots/{snapshot}" "snapshot/get" => snapshot::get),
    route!(Evs Operate PUT "/v2/{project}/snapshots/{snapshot}" "snapshot/update" => snapshot::update),
    route!(Evs Operate DELETE "/v2/{project}/snapshots/{snapshot}" "snapshot/remove" => snapshot::remove),
    route!(Evs Operate POST "/v2/{project}/snapshots/{snapshot}/rollback" "snapshot/rollback" => rollback::start),
    route!(Evs Read GET "/v2/{project}/snapshots/{snapshot}/metadata" "snapshot/metadata/list" => metadata::list),
    route!(Evs Operate POST "/v2/{project}/snapshots/{snapshot}/metadata" "snapshot/metadata/merge" => metadata::merge),
    route!(Evs Operate PUT "/v2/{project}/snapshots/{snapshot}/metadata" "snapshot/metadata/replace" => metadata::replace),
    route!(Evs Read GET "/v2/{project}/snapshots/{snapshot}/metadata/{key}" "snapshot/metadata/get" => metadata::get),
    route!(Evs Operate PUT "/v2/{project}/snapshots/{snapshot}/metadata/{key}" "snapshot/metadata/set" => metadata::set),
    route!(Evs Operate DELETE "/v2/{project}/snapshots/{snapshot}/metadata/{key}" "snapshot/metadata/remove" => metadata::remove),
    // Snapshots as the vendor's documents have them, and what stands beside them in other documents.
    route!(Evs Operate POST "/v3/{project}/snapshots" "snapshots/add" => snapshot::add),
    route!(Evs Read GET "/v3/{project}/snapshots" "snapshots/list" => snapshot::list),
    route!(Evs Read GET "/v3/{project}/snapshots/detail" "snapshots/detail" => snapshot::detail),
    route!(Evs Read GET "/v3/{project}/snapshots/{snapshot}" "snapshot/get" => snapshot::get),
    route!(Evs Operate PUT "/v3/{project}/snapshots/{snapshot}" "snapshot/update" => snapshot::update),
    route!(Evs Operate DELETE "/v3/{project}/snapshots/{snapshot}" "snapshot/remove" => snapshot::remove),
    route!(Evs Operate POST "/v3/{project}/snapshots/{snapshot}/rollback" "snapshot/rollback" => rollback::start),
    route!(Evs Operate POST "/v3/{project}/os-vendor-snapshots/{snapshot}/rollback" "snapshot/rollback" => rollback::start),
    route!(Evs Operate POST "/v5/{project}/snapshots/{snapshot}/rollback" "snapshot/rollback" => rollback::start),
    route!(Evs Read GET "/v3/{project}/snapshots/{snapshot}/metadata" "snapshot/metadata/list" => metadata::list),
    route!(Evs Operate POST "/v3/{project}/snapshots/{snapshot}/metadata" "snapshot/metadata/merge" => metadata::merge),
    route!(Evs Operate PUT "/v3/{project}/snapshots/{snapshot}/metadata" "snapshot/metadata/replace" => metadata::replace),
    route!(Evs Read GET "/v3/{project}/snapshots/{snapshot}/metadata/{key}" "snapshot/metadata/get" => metadata::get),
    route!(Evs Operate PUT "/v3/{project}/snapshots/{snapshot}/metadata/{key}" "snapshot/metadata/set" => metadata::set),
    route!(Evs Operate DELETE "/v3/{project}/snapshots/{snapshot}/metadata/{key}" "snapshot/metadata/remove" => metadata::remove),
    // Volumes and the jobs that work on them.
    route!(Evs Operate POST "/v2.1/{project}/cloudvolumes" "volumes/add" => volume::add),
    route!(Evs Operate POST "/v2/{project}/cloudvolumes" "volumes/add" => volume::add_at_once),
    route!(Evs Read GET "/v2/{project}/cloudvolumes" "volumes/list" => volume::list),
    route!(Evs Read GET "/v2/{project}/cloudvolumes/detail" "volumes/list" => volume::list),
    route!(Evs Read GET "/v2/{project}/cloudvolumes/{volume}" "volume/get" => volume::get),
    route!(Evs Operate PUT "/v2/{project}/cloudvolumes/{volume}" "volume/update" => volume::update),
    route!(Evs Operate DELETE "/v2/{project}/cloudvolumes/{volume}" "volume/remove" => volume::remove),
    route!(Evs Operate POST "/v2.1/{project}/cloudvolumes/{volume}/action" "volume/action" => volume::act),
    route!(Evs Operate POST "/v2/{project}/cloudvolumes/{volume}/action" "volume/action" => volume::act),
    route!(Evs Read GET "/v1/{project}/jobs/{job}" "job/get" => job::get),
    // Offers to other projects, which are Cinder's in form, too.
    route!(Evs Operate POST "/v2/{project}/os-volume-transfer" "transfers/add" => transfers::add),
    route!(Evs Read GET "/v2/{project}/os-volume-transfer" "transfers/list" => transfers::list),
    route!(Evs Read GET "/v2/{project}/os-volume-transfer/detail" "transfers/detail" => transfers::detail),
    route!(Evs Read GET "/v2/{project}/os-volume-transfer/{id}" "transfers/get" => transfers::get),
    route!(Evs Operate DELETE "/v2/{project}/os-volume-transfer/{id}" "transfers/remove" => transfers::delete),
    route!(Evs Operate POST "/v2/{project}/os-volume-transfer/{id}/accept" "transfers/accept" => transfers::accept),
    // Odds and ends.
    route!(Evs Read GET "/v2/{project}/os-quota-sets/{target}" "quota/get" => odds::quota),
    route!(Evs Read GET "/v2/{project}/types" "types/list" => odds::types),
    route!(Evs Read GET "/v2/{project}/types/{type}" "type/get" => odds::of_type),
    route!(Evs Read GET "/v2/{project}/os-availability-zone" "zones/list" => odds::zones),
];
