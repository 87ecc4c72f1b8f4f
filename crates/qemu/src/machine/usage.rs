//! What a machine uses: processor time and memory as the kernel counts them, transfers of its disks as QEMU does.
//!
//! All are sums since the process began, and what is shown are rates. So the last sums are kept: rates are of the time
//! between two of them, at least [`LEAST`], so that clients who ask at the same time do not spoil each other's; the first
//! rates are of all the process's life.

use crate::{monitor::Monitor, names::disk_of_device};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};
use stillpoint_engine::ports::{DiskUsage, Driven, DriverError, DriverErrorKind, Usage};
use stillpoint_types::DiskId;

const OP: &str = "measure a machine";
/// Ticks a second in `/proc`: the kernel's ABI on x86-64 (`proc_pid_stat(5)`, USER_HZ).
const TICKS: u64 = 100;
/// Bytes of a page on x86-64.
const PAGE: u64 = 4096;
/// Shortest time that a rate is of.
const LEAST: Duration = Duration::from_secs(1);

/// The sums of one moment.
#[derive(Debug, Clone, Default)]
struct Sums {
    user_ticks: u64,
    system_ticks: u64,
    resident_bytes: u64,
    disks: HashMap<DiskId, Counters>,
}

/// What QEMU counts of a disk.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Counters {
    rd_bytes: u64,
    wr_bytes: u64,
    rd_operations: u64,
    wr_operations: u64,
    flush_operations: u64,
    rd_total_time_ns: u64,
    wr_total_time_ns: u64,
    flush_total_time_ns: u64,
}

/// The last sums of a machine, and the rates until then.
#[derive(Debug)]
pub(super) struct Meter {
    at: Instant,
    sums: Sums,
    rates: Usage,
}

/// The rates now, and what the next ones are measured against.
pub(super) async fn measure(monitor: &Monitor, pid: u32, last: Option<Meter>) -> Driven<(Usage, Meter)> {
    let now = Instant::now();
    if let Some(last) = last.as_ref().filter(|last| now.duration_since(last.at) < LEAST) {
        let meter = Meter {
            at: last.at,
            sums: last.sums.clone(),
            rates: last.rates.clone(),
        };
        return Ok((last.rates.clone(), meter));
    }
    let disks = counters(monitor).await?;
    let (mut sums, age) = tokio::task::spawn_blocking(move || of_process(pid))
        .await
        .map_err(|error| DriverError::new(DriverErrorKind::Io, OP, "the thread ended early").caused_by(error))??;
    sums.disks = disks;
    let (before, time) = match last {
        Some(last) => (last.sums, now.duration_since(last.at)),
        None => (Sums::default(), age),
    };
    let rates = rates(&before, &sums, time);
    let meter = Meter {
        at: now,
        sums,
        rates: rates.clone(),
    };
    Ok((rates, meter))
}

fn rates(before: &Sums, after: &Sums, time: Duration) -> Usage {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let a_second = |before: u64, after: u64| after.saturating_sub(before).saturating_mul(1_000_000) / micros;
    // Hundredths of a percent: 10,000 of them are one processor.
    let share = |before: u64, after: u64| a_second(before, after).saturating_mul(10_000 / TICKS);
    let mean = |time: u64, count: u64| time.checked_div(count).unwrap_or(0);
    let disk = |(id, now): (&DiskId, &Counters)| {
        let was = before.disks.get(id).copied().unwrap_or_default();
        let of = |part: fn(&Counters) -> u64| part(now).saturating_sub(part(&was));
        let usage = DiskUsage {
            read_bytes: a_second(was.rd_bytes, now.rd_bytes),
            written_bytes: a_second(was.wr_bytes, now.wr_bytes),
            read_ns: mean(of(|c| c.rd_total_time_ns), of(|c| c.rd_operations)),
            write_ns: mean(of(|c| c.wr_total_time_ns), of(|c| c.wr_operations)),
            flush_ns: mean(of(|c| c.flush_total_time_ns), of(|c| c.flush_operations)),
        };
        (*id, usage)
    };
    Usage {
        user: share(before.user_ticks, after.user_ticks),
        system: share(before.system_ticks, after.system_ticks),
        resident_bytes: after.resident_bytes,
        disks: after.disks.iter().map(disk).collect(),
    }
}

async fn counters(monitor: &Monitor) -> Driven<HashMap<DiskId, Counters>> {
    #[derive(Deserialize)]
    struct Device {
        #[serde(default)]
        qdev: String,
        stats: Counters,
    }
    let devices: Vec<Device> = monitor.call(OP, "query-blockstats", json!({})).await?;
    let ours = |device: Device| Some((disk_of_device(&device.qdev)?, device.stats));
    Ok(devices.into_iter().filter_map(ours).collect())
}

/// The kernel's sums of a process, and how old it is.
fn of_process(pid: u32) -> Driven<(Sums, Duration)> {
    let read = |path: String| {
        fs::read_to_string(&path).map_err(|error| DriverError::new(DriverErrorKind::Io, OP, path).caused_by(error))
    };
    let (stat, statm) = (read(format!("/proc/{pid}/stat"))?, read(format!("/proc/{pid}/statm"))?);
    parse(&stat, &statm, &read("/proc/uptime".into())?).ok_or_else(|| {
        DriverError::new(
            DriverErrorKind::Protocol,
            OP,
            format!("/proc/{pid} says what nobody knows"),
        )
    })
}

fn parse(stat: &str, statm: &str, uptime: &str) -> Option<(Sums, Duration)> {
    // The program's name may hold blanks and parentheses: count from the last one. The state is field 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let resident_pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let up: u64 = uptime.split('.').next()?.trim().parse().ok()?;
    let age = Duration::from_secs(up.saturating_sub(field(22)? / TICKS).max(1));
    let sums = Sums {
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        resident_bytes: resident_pages.saturating_mul(PAGE),
        disks: HashMap::new(),
    };
    Some((sums, age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_becomes_rates() {
        let stat = "7 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 400 100 0 0 20 0 3 0 5000 1 2";
        let (sums, age) = parse(stat, "900 25 3", "60.25 100.0\n").unwrap();
        assert_eq!(
            (sums.user_ticks, sums.system_ticks, sums.resident_bytes),
            (400, 100, 102_400)
        );
        assert_eq!(age, Duration::from_secs(10));
        let usage = rates(&Sums::default(), &sums, age);
        assert_eq!((usage.user, usage.system), (4000, 1000), "40 and 10 percent");
        assert!(parse("7 (a) S 1", "1 2", "3.0").is_none());
    }

    #[test]
    fn a_disk_is_measured_between_two_moments() {
        let id = DiskId::fresh();
        let sums = |rd_bytes, rd_operations, rd_total_time_ns| Sums {
            disks: HashMap::from([(
                id,
                Counters {
                    rd_bytes,
                    rd_operations,
                    rd_total_time_ns,
                    ..Counters::default()
                },
            )]),
            ..Sums::default()
        };
        let usage = rates(&sums(1000, 10, 500), &sums(5000, 14, 900), Duration::from_secs(2));
        let expected = DiskUsage {
            read_bytes: 2000,
            read_ns: 100,
            ..DiskUsage::default()
        };
        assert_eq!(usage.disks, [(id, expected)]);
        // A new process counts from zero.
        let usage = rates(&sums(1000, 10, 500), &sums(0, 0, 0), Duration::ZERO);
        assert_eq!(usage.disks, [(id, DiskUsage::default())]);
    }
}
