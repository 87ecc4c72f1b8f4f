//! Statistics of VMs and disks: oVirt's names, units and order. A thing that does not run has the same, all zero.

use crate::{answer::Answer, call::Call, fault::Refused, house};
use stillpoint_engine::{
    ports::{DiskUsage, Usage},
    view::{DiskView, VmView},
};
use stillpoint_types::VmStatus;
use stillpoint_wire::model::{self, Header, Identified};

/// Microseconds of a second.
const MICROS: i64 = 1_000_000;

/// `GET /vms/{vm}/statistics`
pub(crate) async fn list_of_vm(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().vm(&call.who, call.id(0)?).await?;
    let shown = of_vm(&call, &view).await?;
    Ok(call.items(&shown))
}

/// `GET /vms/{vm}/statistics/{statistic}`
pub(crate) async fn get_of_vm(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().vm(&call.who, call.id(0)?).await?;
    one(&call, &of_vm(&call, &view).await?)
}

/// `GET /disks/{disk}/statistics`
pub(crate) async fn list_of_disk(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().disk(&call.who, call.id(0)?).await?;
    let shown = of_disk(&call, &view).await?;
    Ok(call.items(&shown))
}

/// `GET /disks/{disk}/statistics/{statistic}`
pub(crate) async fn get_of_disk(call: Call) -> Result<Answer, Refused> {
    let view = call.engine().disk(&call.who, call.id(0)?).await?;
    one(&call, &of_disk(&call, &view).await?)
}

fn one(call: &Call, shown: &[model::Statistic]) -> Result<Answer, Refused> {
    let id = call.segment(1);
    let found = shown.iter().find(|item| item.head.id.as_deref() == Some(id));
    found.map(|item| call.ok(item)).ok_or_else(|| Refused::not_found(id))
}

/// The statistics of a VM.
pub(crate) async fn of_vm(call: &Call, view: &VmView) -> Result<Vec<model::Statistic>, Refused> {
    let Usage {
        user,
        system,
        resident_bytes,
        ..
    } = call.engine().usage(&call.who, view.id).await?;
    let installed = view.config.memory_bytes;
    let used = resident_bytes.min(installed);
    let runs = !matches!(view.status, VmStatus::Down | VmStatus::Suspended);
    let since = view
        .started_at
        .filter(|_| runs)
        .map_or(0, |at| (call.engine().now() - at) / MICROS);
    let elapsed = u64::try_from(since).unwrap_or(0);
    let place = format!("{}/vms/{}", call.base(), view.id);
    let free = if runs { installed - used } else { 0 };
    let rows = [
        (
            "memory.installed",
            "Total memory configured",
            "bytes",
            number(installed),
        ),
        ("memory.used", "Memory used", "bytes", number(used)),
        ("memory.free", "Memory free", "bytes", number(free)),
        (
            "cpu.current.guest",
            "CPU used by guest",
            "percent",
            number(user) / 100.0,
        ),
        (
            "cpu.current.hypervisor",
            "CPU overhead",
            "percent",
            number(system) / 100.0,
        ),
        (
            "cpu.current.total",
            "Total CPU used",
            "percent",
            number(user.saturating_add(system)) / 100.0,
        ),
        ("elapsed.time", "Elapsed VM runtime", "seconds", number(elapsed)),
    ];
    let of = model::Vm::reference(view.id.to_string(), place.clone());
    let with_vm = |statistic| model::Statistic {
        vm: of.clone(),
        ..statistic
    };
    Ok(all(&place, &rows).map(with_vm).collect())
}

/// The statistics of a disk, as the VM that has it uses it.
pub(crate) async fn of_disk(call: &Call, view: &DiskView) -> Result<Vec<model::Statistic>, Refused> {
    let mut usage = DiskUsage::default();
    for vm in &view.vms {
        let found = call.engine().usage(&call.who, *vm).await?;
        usage = found
            .disks
            .iter()
            .find(|(id, _)| *id == view.id)
            .map_or(usage, |(_, usage)| *usage);
    }
    let place = format!("{}/disks/{}", call.base(), view.id);
    let seconds = |nanos: u64| number(nanos) / 1e9;
    let rate = "bytes_per_second";
    let rows = [
        ("data.current.read", "Read data rate", rate, number(usage.read_bytes)),
        (
            "data.current.write",
            "Write data rate",
            rate,
            number(usage.written_bytes),
        ),
        ("disk.read.latency", "Read latency", "seconds", seconds(usage.read_ns)),
        (
            "disk.write.latency",
            "Write latency",
            "seconds",
            seconds(usage.write_ns),
        ),
        (
            "disk.flush.latency",
            "Flush latency",
            "seconds",
            seconds(usage.flush_ns),
        ),
    ];
    let of = model::Disk::reference(view.id.to_string(), place.clone());
    let with_disk = |statistic| model::Statistic {
        disk: of.clone(),
        ..statistic
    };
    Ok(all(&place, &rows).map(with_disk).collect())
}

type Row = (&'static str, &'static str, &'static str, f64);

fn all<'a>(place: &'a str, rows: &'a [Row]) -> impl Iterator<Item = model::Statistic> + 'a {
    rows.iter()
        .enumerate()
        .map(move |(index, (name, description, unit, datum))| {
            let id = house::numbered(index);
            let mut head = Header::new(id.as_str(), format!("{place}/statistics/{id}"));
            head.name = Some((*name).to_owned());
            head.description = Some((*description).to_owned());
            let is_whole = matches!(*unit, "bytes") || *name == "elapsed.time";
            model::Statistic {
                head,
                kind: Some("gauge".into()),
                value_type: Some(if is_whole { "integer" } else { "decimal" }.into()),
                unit: Some((*unit).to_owned()),
                values: Some(vec![model::StatisticValue {
                    datum: Some(*datum),
                    detail: None,
                }]),
                ..model::Statistic::default()
            }
        })
}

/// A number as clients read it: exact up to 2^53, and the nearest beyond.
fn number(value: u64) -> f64 {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).map_or(0.0, f64::from);
    half(value >> 32) * 4_294_967_296.0 + half(value)
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_told_exactly() {
        for value in [0, 1, 4_294_967_295, 4_294_967_296, 9_007_199_254_740_991] {
            assert_eq!(format!("{}", super::number(value)), value.to_string());
        }
    }
}
