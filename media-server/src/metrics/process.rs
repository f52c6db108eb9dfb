//! Numbers of this process out of /proc (proc(5)), under the names that Prometheus' client libraries use. Where there
//! is no /proc they are absent.
//!
//! They are written as text here because CPU time is a counter of fractions, which the `metrics` crate lacks.

use rustix::process::{Resource, getrlimit};
use std::fmt::Write as _;
use std::fs;

/// Appends them.
pub(super) fn write(out: &mut String) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    if let Some(cpu) = parse_stat(&read("/proc/self/stat")) {
        let boot = parse_boot(&read("/proc/stat"));
        line(out, "process_cpu_seconds_total", "counter", "User and system CPU time of all threads.", cpu.seconds);
        if let Some(boot) = boot {
            let started = boot + cpu.started_after_boot;
            line(out, "process_start_time_seconds", "gauge", "When it was started, in Unix time.", started);
        }
    }
    let status = read("/proc/self/status");
    for (key, scale, name, help) in [
        ("VmRSS", 1024.0, "process_resident_memory_bytes", "Memory in RAM."),
        ("VmSize", 1024.0, "process_virtual_memory_bytes", "Address space."),
        ("Threads", 1.0, "process_threads", "Threads."),
    ] {
        if let Some(value) = parse_status(&status, key) {
            line(out, name, "gauge", help, value * scale);
        }
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        line(out, "process_open_fds", "gauge", "Open file descriptors.", entries.count() as f64);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        line(out, "process_max_fds", "gauge", "File descriptors that it may have open.", most as f64);
    }
}

/// Appends one number with help and type.
pub(super) fn line(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
}

#[derive(Debug, PartialEq)]
struct Cpu {
    seconds: f64,
    started_after_boot: f64,
}

/// Ticks a second in /proc: USER_HZ, 100 on every architecture that Linux runs this on.
const TICKS: f64 = 100.0;

fn parse_stat(text: &str) -> Option<Cpu> {
    // The name in parentheses may hold spaces and parentheses; fields are counted from behind it (field 3 is first).
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index - 3)?.parse::<f64>().ok();
    Some(Cpu { seconds: (number(14)? + number(15)?) / TICKS, started_after_boot: number(22)? / TICKS })
}

fn parse_status(text: &str, key: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

fn parse_boot(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_though_the_name_has_parentheses() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1000 8192000 300 18446744073709551615";
        assert_eq!(parse_stat(text), Some(Cpu { seconds: 3.0, started_after_boot: 10.0 }));
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    fn status_is_read_by_name() {
        let text = "Name:\tx\nVmSize:\t  8000 kB\nVmRSS:\t  1200 kB\nThreads:\t9\n";
        assert_eq!(parse_status(text, "VmRSS"), Some(1200.0));
        assert_eq!(parse_status(text, "Threads"), Some(9.0));
        assert_eq!(parse_status(text, "Vm"), None);
    }
}
