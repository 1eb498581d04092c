//! What the system says of this process, by the names that every Prometheus client uses.

use super::row::{Row, Value, counter, gauge};

#[cfg(target_os = "linux")]
pub(super) fn rows() -> Vec<Row> {
    use procfs::WithCurrentSystemInfo;
    use procfs::process::{LimitValue, Process};

    let Ok(process) = Process::myself() else { return Vec::new() };
    let Ok(stat) = process.stat() else { return Vec::new() };
    let ticks = procfs::ticks_per_second() as f64;
    let cpu = (stat.utime + stat.stime) as f64 / ticks;
    let began =
        procfs::boot_time_secs().map(|boot| Value::Float(boot as f64 + stat.starttime as f64 / ticks));
    let files = process.fd_count().map(|count| Value::Whole(count as u64));
    let files_max = process.limits().map(|limits| match limits.max_open_files.soft_limit {
        LimitValue::Value(max) => Value::Whole(max),
        LimitValue::Unlimited => Value::Float(f64::INFINITY),
    });
    let resident = stat.rss_bytes().get();
    vec![
        counter("process_cpu_seconds", "CPU time of this process", [Value::Float(cpu)]),
        gauge("process_resident_memory_bytes", "Memory that it holds", [Value::Whole(resident)]),
        gauge("process_virtual_memory_bytes", "Addresses that it holds", [Value::Whole(stat.vsize)]),
        gauge("process_threads", "Its threads", [Value::Float(stat.num_threads as f64)]),
        gauge("process_open_fds", "File descriptors that it holds", files.ok()),
        gauge("process_max_fds", "Of so many that it may", files_max.ok()),
        gauge("process_start_time_seconds", "When it began, since the epoch", began.ok()),
    ]
}

/// Not told.
#[cfg(not(target_os = "linux"))]
pub(super) fn rows() -> Vec<Row> {
    Vec::new()
}
