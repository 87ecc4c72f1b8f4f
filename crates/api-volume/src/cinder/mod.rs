//! OpenStack Cinder v3: one file a noun. What they share: `body` (what is read), `list` (parameters of lists), `show` (what is written).
//!
//! Rules that came with a microversion name it where they are asked: `call.microversion.at_least(66)`.

mod backups;
mod body;
mod extensions;
mod limits;
mod list;
mod messages;
mod metadata;
mod pairs;
mod services;
mod show;
mod snapshot;
mod snapshot_action;
pub(crate) mod transfers;
mod types;
mod versions;
mod volume;
mod volume_action;

use crate::route::{Route, route};
use metadata::{of_snapshot, of_volume};

#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    route!(Cinder Public GET "" "versions/list" => versions::list),
    route!(Cinder Public GET "/" "versions/list" => versions::list),
    route!(Cinder Public GET "/v3" "version/get" => versions::get),
    route!(Cinder Public GET "/v3/" "version/get" => versions::get),

    route!(Cinder Operate POST "/v3/{project}/snapshots" "snapshots/add" => snapshot::add),
    route!(Cinder Read GET "/v3/{project}/snapshots" "snapshots/list" => snapshot::list),
    route!(Cinder Read GET "/v3/{project}/snapshots/detail" "snapshots/detail" => snapshot::detail),
    route!(Cinder Read GET "/v3/{project}/snapshots/{id}" "snapshot/get" => snapshot::get),
    route!(Cinder Operate PUT "/v3/{project}/snapshots/{id}" "snapshot/update" => snapshot::update),
    route!(Cinder Operate DELETE "/v3/{project}/snapshots/{id}" "snapshot/remove" => snapshot::delete),
    route!(Cinder Operate POST "/v3/{project}/snapshots/{id}/action" "snapshot/act" => snapshot_action::act),
    route!(Cinder Read GET "/v3/{project}/snapshots/{id}/metadata" "snapshot/metadata" => of_snapshot::get),
    route!(Cinder Operate POST "/v3/{project}/snapshots/{id}/metadata" "snapshot/metadata/merge" => of_snapshot::merge),
    route!(Cinder Operate PUT "/v3/{project}/snapshots/{id}/metadata" "snapshot/metadata/replace" => of_snapshot::replace),
    route!(Cinder Read GET "/v3/{project}/snapshots/{id}/metadata/{key}" "snapshot/metadata/item" => of_snapshot::get_item),
    route!(Cinder Operate PUT "/v3/{project}/snapshots/{id}/metadata/{key}" "snapshot/metadata/put" => of_snapshot::put_item),
    route!(Cinder Operate DELETE "/v3/{project}/snapshots/{id}/metadata/{key}" "snapshot/metadata/remove" => of_snapshot::delete_item),
    route!(Cinder Admin GET "/v3/{project}/manageable_snapshots" "snapshots/manageable" => snapshot::manageable),
    route!(Cinder Admin GET "/v3/{project}/manageable_snapshots/detail" "snapshots/manageable/detail" => snapshot::manageable),

    route!(Cinder Operate POST "/v3/{project}/volumes" "volumes/add" => volume::add),
    route!(Cinder Read GET "/v3/{project}/volumes" "volumes/list" => volume::list),
    route!(Cinder Read GET "/v3/{project}/volumes/detail" "volumes/detail" => volume::detail),
    route!(Cinder Read GET "/v3/{project}/volumes/summary" "volumes/summary" => volume::summary),
    route!(Cinder Read GET "/v3/{project}/volumes/{id}" "volume/get" => volume::get),
    route!(Cinder Operate PUT "/v3/{project}/volumes/{id}" "volume/update" => volume::update),
    route!(Cinder Operate DELETE "/v3/{project}/volumes/{id}" "volume/remove" => volume::delete),
    route!(Cinder Operate POST "/v3/{project}/volumes/{id}/action" "volume/act" => volume_action::act),
    route!(Cinder Read GET "/v3/{project}/volumes/{id}/encryption" "volume/encryption" => volume::encryption),
    route!(Cinder Read GET "/v3/{project}/volumes/{id}/metadata" "volume/metadata" => of_volume::get),
    route!(Cinder Operate POST "/v3/{project}/volumes/{id}/metadata" "volume/metadata/merge" => of_volume::merge),
    route!(Cinder Operate PUT "/v3/{project}/volumes/{id}/metadata" "volume/metadata/replace" => of_volume::replace),
    route!(Cinder Read GET "/v3/{project}/volumes/{id}/metadata/{key}" "volume/metadata/item" => of_volume::get_item),
    route!(Cinder Operate PUT "/v3/{project}/volumes/{id}/metadata/{key}" "volume/metadata/put" => of_volume::put_item),
    route!(Cinder Operate DELETE "/v3/{project}/volumes/{id}/metadata/{key}" "volume/metadata/remove" => of_volume::delete_item),

    route!(Cinder Read GET "/v3/{project}/types" "types/list" => types::list),
    route!(Cinder Admin POST "/v3/{project}/types" "types/add" => types::add),
    route!(Cinder Read GET "/v3/{project}/types/default" "types/default" => types::get_default),
    route!(Cinder Read GET "/v3/{project}/types/{id}" "type/get" => types::get),
    route!(Cinder Admin PUT "/v3/{project}/types/{id}" "type/update" => types::update),
    route!(Cinder Admin DELETE "/v3/{project}/types/{id}" "type/remove" => types::delete),
    route!(Cinder Admin POST "/v3/{project}/types/{id}/action" "type/act" => types::act),
    route!(Cinder Admin GET "/v3/{project}/types/{id}/os-volume-type-access" "type/access" => types::access),
    route!(Cinder Admin GET "/v3/{project}/types/{id}/encryption" "type/encryption" => types::encryption),
    route!(Cinder Admin POST "/v3/{project}/types/{id}/encryption" "type/encryption/add" => types::add_encryption),
    route!(Cinder Admin GET "/v3/{project}/types/{id}/extra_specs" "type/specs" => types::list_specs),
    route!(Cinder Admin POST "/v3/{project}/types/{id}/extra_specs" "type/specs/add" => types::add_specs),
    route!(Cinder Admin GET "/v3/{project}/types/{id}/extra_specs/{key}" "type/spec" => types::get_spec),
    route!(Cinder Admin PUT "/v3/{project}/types/{id}/extra_specs/{key}" "type/spec/put" => types::put_spec),
    route!(Cinder Admin DELETE "/v3/{project}/types/{id}/extra_specs/{key}" "type/spec/remove" => types::delete_spec),

    route!(Cinder Read GET "/v3/{project}/limits" "limits/get" => limits::limits),
    route!(Cinder Read GET "/v3/{project}/os-quota-sets/{of}" "quota/get" => limits::get),
    route!(Cinder Read GET "/v3/{project}/os-quota-sets/{of}/defaults" "quota/defaults" => limits::defaults),
    route!(Cinder Admin PUT "/v3/{project}/os-quota-sets/{of}" "quota/update" => limits::update),
    route!(Cinder Admin DELETE "/v3/{project}/os-quota-sets/{of}" "quota/reset" => limits::reset),
    route!(Cinder Admin GET "/v3/{project}/os-quota-class-sets/{class}" "quota/class" => limits::get_class),
    route!(Cinder Admin PUT "/v3/{project}/os-quota-class-sets/{class}" "quota/class/update" => limits::update_class),
    route!(Cinder Read GET "/v3/{project}/os-availability-zone" "zones/list" => limits::zones),

    route!(Cinder Admin GET "/v3/{project}/os-services" "services/list" => services::list),
    route!(Cinder Admin PUT "/v3/{project}/os-services/{action}" "services/act" => services::act),
    route!(Cinder Admin GET "/v3/{project}/os-hosts" "hosts/list" => services::hosts),
    route!(Cinder Admin GET "/v3/{project}/os-hosts/{host}" "host/get" => services::host),
    route!(Cinder Admin GET "/v3/{project}/scheduler-stats/get_pools" "pools/list" => services::pools),
    route!(Cinder Admin GET "/v3/{project}/capabilities/{host}" "capabilities/get" => services::capabilities),

    route!(Cinder Read GET "/v3/{project}/extensions" "extensions/list" => extensions::list),
    route!(Cinder Read GET "/v3/{project}/resource_filters" "filters/list" => extensions::filters),
    route!(Cinder Read GET "/v3/{project}/messages" "messages/list" => messages::list),
    route!(Cinder Read GET "/v3/{project}/messages/{id}" "message/get" => messages::get),
    route!(Cinder Operate DELETE "/v3/{project}/messages/{id}" "message/remove" => messages::delete),

    route!(Cinder Operate POST "/v3/{project}/os-volume-transfer" "transfers/add" => transfers::add),
    route!(Cinder Read GET "/v3/{project}/os-volume-transfer" "transfers/list" => transfers::list),
    route!(Cinder Read GET "/v3/{project}/os-volume-transfer/detail" "transfers/detail" => transfers::detail),
    route!(Cinder Read GET "/v3/{project}/os-volume-transfer/{id}" "transfers/get" => transfers::get),
    route!(Cinder Operate DELETE "/v3/{project}/os-volume-transfer/{id}" "transfers/remove" => transfers::delete),
    route!(Cinder Operate POST "/v3/{project}/os-volume-transfer/{id}/accept" "transfers/accept" => transfers::accept),
    route!(Cinder Operate POST "/v3/{project}/volume-transfers" "new-transfers/add" => transfers::add),
    route!(Cinder Read GET "/v3/{project}/volume-transfers" "new-transfers/list" => transfers::list),
    route!(Cinder Read GET "/v3/{project}/volume-transfers/detail" "new-transfers/detail" => transfers::detail),
    route!(Cinder Read GET "/v3/{project}/volume-transfers/{id}" "new-transfers/get" => transfers::get),
    route!(Cinder Operate DELETE "/v3/{project}/volume-transfers/{id}" "new-transfers/remove" => transfers::delete),
    route!(Cinder Operate POST "/v3/{project}/volume-transfers/{id}/accept" "new-transfers/accept" => transfers::accept),

    route!(Cinder Read GET "/v3/{project}/backups" "backups/list" => backups::list),
    route!(Cinder Read GET "/v3/{project}/backups/detail" "backups/detail" => backups::detail),
    route!(Cinder Operate POST "/v3/{project}/backups" "backups/add" => backups::add),
    route!(Cinder Read GET "/v3/{project}/backups/{id}" "backup/get" => backups::get),
    route!(Cinder Operate PUT "/v3/{project}/backups/{id}" "backup/update" => backups::update),
    route!(Cinder Operate DELETE "/v3/{project}/backups/{id}" "backup/remove" => backups::remove),
];
