//! Where this runs, and where its files are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the directories of a run are made: beside the build, so on a real file system.
pub(crate) fn scratch() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// The machine, as a list.
pub(crate) fn facts() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = first_line_of("/proc/meminfo", "MemTotal:");
    let kib: f64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0.0);
    let processor = first_line_of("/proc/cpuinfo", "model name").replacen(':', "", 1);
    format!(
        "- date: {}\n- version: {} ({})\n- processors: {cores} × {}\n- memory: {:.1} GiB\n- kernel: {}\n- file system: {}\n",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        env!("CARGO_PKG_VERSION"),
        said("git", &["describe", "--always", "--dirty"]),
        processor.trim(),
        kib / f64::from(1 << 20),
        kernel.trim(),
        file_system(&scratch()),
    )
}

fn first_line_of(file: &str, start: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().trim().to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

/// The type of the mount with the longest path above `dir`.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(place), Some(kind)) = (words.next(), words.next()) else { continue };
        if dir.starts_with(place) && place.len() >= best.0 {
            best = (place.len(), kind);
        }
    }
    best.1.to_owned()
}
