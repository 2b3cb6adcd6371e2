//! How the process of a step is held: as whom it runs, what it may use up, what it may touch.
//!
//! May import: nothing of this crate. Must never: hold what a template makes; who may do what is written in the file.

use std::fmt;

/// Everything a step asks for; by default nothing, and then its process is started the cheapest way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// As whom it runs, by name or number; as the daemon itself where absent.
    pub user: Option<String>,
    /// What it may touch.
    pub sandbox: Sandbox,
    /// What it may use up.
    pub limits: StepLimits,
}

/// What a step's process may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether it has no network at all, its own loopback included.
    pub no_network: bool,
    /// Whether every file system is read-only but the private directory and `writable`.
    pub read_only: bool,
    /// Directories and files that stay as they are, by absolute paths.
    pub writable: Vec<String>,
}

impl Sandbox {
    /// Whether it asks for anything.
    pub fn is_needed(&self) -> bool {
        self.no_network || self.read_only
    }
}

/// What a step's processes may use up together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepLimits {
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processor time, in percent of one processor.
    pub cpu: Option<u32>,
    /// Open files of one process.
    pub files: Option<u32>,
}

impl StepLimits {
    /// These, and where they say nothing, `defaults`.
    pub fn over(self, defaults: Self) -> Self {
        Self {
            processes: self.processes.or(defaults.processes),
            memory: self.memory.or(defaults.memory),
            cpu: self.cpu.or(defaults.cpu),
            files: self.files.or(defaults.files),
        }
    }
}

impl fmt::Display for StepLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.processes.map(|count| format!("{count} processes")),
            self.memory.map(|bytes| format!("{bytes} bytes of memory")),
            self.cpu.map(|percent| format!("{percent}% of a processor")),
            self.files.map(|count| format!("{count} open files")),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Confinement {
    /// For people who are shown a plan: empty where nothing is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.user.as_ref().map(|user| format!("as {user}")));
        if self.sandbox.no_network {
            words.push("without network".to_owned());
        }
        if self.sandbox.read_only {
            let but = self.sandbox.writable.join(", ");
            words.push(if but.is_empty() { "read-only".to_owned() } else { format!("read-only but {but}") });
        }
        if self.limits != StepLimits::default() {
            words.push(format!("with at most {}", self.limits));
        }
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_all_of_it_and_nothing_where_nothing_is_asked_for() {
        assert_eq!(Confinement::default().to_string(), "");
        let all = Confinement {
            user: Some("backup".into()),
            sandbox: Sandbox { no_network: true, read_only: true, writable: vec!["/srv".into()] },
            limits: StepLimits { processes: Some(8), memory: Some(1024), cpu: Some(50), files: Some(64) },
        };
        assert_eq!(
            all.to_string(),
            "as backup, without network, read-only but /srv, with at most 8 processes, 1024 bytes of memory, \
             50% of a processor, 64 open files"
        );
    }
}
