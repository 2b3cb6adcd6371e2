//! `process_*`: what `/proc` says of this process, read at each scrape.
//!
//! May import: nothing of this crate. Must never: fail; what cannot be read has no value.

use std::fs;

/// The kernel reports CPU time to programs in this unit on every architecture Rust builds for (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// What is known of this process.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct ProcessFacts {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) start_seconds: Option<f64>,
    pub(super) threads: Option<u64>,
}

/// Reads them all.
pub(super) fn read() -> ProcessFacts {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut facts = ProcessFacts::default();
    facts.take_stat(&text("/proc/self/stat"), &text("/proc/stat"));
    facts.take_status(&text("/proc/self/status"));
    facts.max_fds = max_fds(&text("/proc/self/limits"));
    // The listing itself is one of them.
    facts.open_fds =
        fs::read_dir("/proc/self/fd").ok().map(|entries| (entries.count() as u64).saturating_sub(1));
    facts
}

impl ProcessFacts {
    /// CPU and start time. The program's name comes second, in parentheses, and may contain anything.
    fn take_stat(&mut self, own: &str, machine: &str) {
        let Some((_, rest)) = own.rsplit_once(')') else { return };
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc_pid_stat(5) numbers from 1 and `rest` begins with field 3: utime 14, stime 15, starttime 22.
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        if let (Some(user), Some(system)) = (ticks(14), ticks(15)) {
            self.cpu_seconds = Some((user + system) as f64 / TICKS_PER_SECOND);
        }
        let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
        if let (Some(boot), Some(start)) = (boot, ticks(22)) {
            self.start_seconds = Some(boot as f64 + start as f64 / TICKS_PER_SECOND);
        }
    }

    fn take_status(&mut self, text: &str) {
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let number = || value.split_ascii_whitespace().next()?.parse::<u64>().ok();
            match name {
                "VmRSS" => self.resident_bytes = number().map(|kib| kib.saturating_mul(1024)),
                "VmSize" => self.virtual_bytes = number().map(|kib| kib.saturating_mul(1024)),
                "Threads" => self.threads = number(),
                _ => {}
            }
        }
    }
}

/// The soft limit; `unlimited` has no number.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_every_value_and_they_are_plausible() {
        let before = read();
        let files: Vec<_> = (0..5).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let now = read();
        assert!(before.cpu_seconds.unwrap() <= now.cpu_seconds.unwrap());
        assert!(now.resident_bytes.unwrap() > 1 << 20);
        assert!(now.virtual_bytes.unwrap() >= now.resident_bytes.unwrap());
        assert!(now.open_fds.unwrap() >= 3 + files.len() as u64);
        assert!(now.max_fds.unwrap() >= now.open_fds.unwrap());
        assert!(now.threads.unwrap() >= 1);
        let written = fs::metadata("/proc/self").unwrap().modified().unwrap();
        let seen = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now.start_seconds.unwrap() - seen).abs() < 3600.0 * 24.0, "{now:?}");
    }

    #[test]
    fn a_program_name_with_parentheses_and_spaces_moves_no_field() {
        let mut facts = ProcessFacts::default();
        let stat = "7 (a) b ) 9) S 1 1 1 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 3 0 1000 4 5";
        facts.take_stat(stat, "cpu 1 2\nbtime 1700000000\n");
        assert_eq!(facts.cpu_seconds, Some(3.0));
        assert_eq!(facts.start_seconds, Some(1_700_000_010.0));
    }

    #[test]
    fn what_cannot_be_read_has_no_value() {
        let mut facts = ProcessFacts::default();
        facts.take_stat("", "");
        facts.take_stat("1 (x) S 1", "btime x");
        facts.take_status("VmRSS: many kB\nThreads");
        assert_eq!(facts, ProcessFacts::default());
        assert_eq!(
            max_fds("Max open files            unlimited            unlimited            files\n"),
            None
        );
    }
}
