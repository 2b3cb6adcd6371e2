//! Which variables a runbook may set in the environment of a child.
//!
//! One rule for whoever reads a runbook and for whoever starts a process, so that they cannot disagree.
//! Must never: look at the daemon's own environment.

/// Names by which a loader, a shell or an interpreter takes commands.
const DANGEROUS: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "CLASSPATH",
    "ENV",
    "GCONV_PATH",
    "GLOBIGNORE",
    "HOSTALIASES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LOCALDOMAIN",
    "LOCPATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RES_OPTIONS",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "TZDIR",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];

/// Families of such names.
const DANGEROUS_PREFIXES: &[&str] = &["LD_", "DYLD_", "GLIBC_", "MALLOC_", "BASH_FUNC_"];

/// Why `name` cannot be set in a child's environment, or `None` where it can.
///
/// A good name is `[A-Za-z_][A-Za-z0-9_]*`, does not steer a loader, shell or interpreter, and is not
/// one that runbookd sets itself.
pub fn env_name_problem(name: &str) -> Option<&'static str> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    // `BASH_FUNC_x%%` is refused for its prefix, which says more than its characters.
    if DANGEROUS.contains(&name) || DANGEROUS_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        Some("it can make the child run other code than its program")
    } else if !first || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Some("a variable's name is [A-Za-z_][A-Za-z0-9_]*")
    } else if matches!(name, "PATH" | "HOME") || name.starts_with("RUNBOOKD_") || name.starts_with("AMX_") {
        Some("runbookd sets it itself")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_shell_interpreter_and_reserved_variables_are_refused() {
        for bad in [
            "",
            "1A",
            "A-B",
            "A B",
            "A=B",
            "Ä",
            "A\0",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "BASH_ENV",
            "ENV",
            "IFS",
            "SHELLOPTS",
            "BASHOPTS",
            "BASH_FUNC_x%%",
            "PS4",
            "PYTHONPATH",
            "PERL5LIB",
            "NODE_OPTIONS",
            "RUNBOOKD_STEP",
            "AMX_STATUS",
            "PATH",
            "HOME",
        ] {
            assert!(env_name_problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn ordinary_names_are_fine() {
        for good in ["A", "_x", "UNIT", "LANG", "OLD_PATH", "ENVIRONMENT", "PG_HOME", "lower1"] {
            assert_eq!(env_name_problem(good), None, "{good:?}");
        }
    }
}
