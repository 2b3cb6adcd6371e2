//! Which names a runbook may put into a child's environment.
//!
//! Used by the runbook loader and again before every start. May import: nothing. Must never: read the
//! daemon's own environment.

/// Names that make a loader, a shell or an interpreter run something else than the program named.
const HOSTILE: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "CLASSPATH",
    "CDPATH",
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

/// Beginnings of such names; the last one is the daemon's own.
const HOSTILE_PREFIXES: &[&str] = &["LD_", "DYLD_", "GLIBC_", "MALLOC_", "BASH_FUNC_"];

/// What is wrong with `name` as the name of an environment variable of a command; `None` when it may be set.
pub fn env_name_problem(name: &str) -> Option<&'static str> {
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts_well || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        // An exported bash function has such a name; say what it is rather than what it lacks.
        return Some(if name.starts_with("BASH_FUNC_") { CHANGES_PROGRAM } else { NOT_A_NAME });
    }
    if name.starts_with("RUNBOOKD_") {
        return Some("names that begin with RUNBOOKD_ are set by runbookd itself");
    }
    if HOSTILE.contains(&name) || HOSTILE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Some(CHANGES_PROGRAM);
    }
    None
}

const NOT_A_NAME: &str = "not a variable name: letters, digits and _, not beginning with a digit";
const CHANGES_PROGRAM: &str = "this variable changes which code a loader, shell or interpreter runs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in ["A", "_x", "UNIT", "no_proxy", "PGHOST", "LDAP_URL", "ENVIRONMENT", "AMX_LABEL_job"] {
            assert_eq!(env_name_problem(name), None, "{name}");
        }
    }

    #[test]
    fn loader_shell_and_interpreter_variables_are_refused() {
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "BASH_ENV",
            "ENV",
            "BASH_FUNC_x%%",
            "BASH_FUNC_ls",
            "IFS",
            "PS4",
            "SHELLOPTS",
            "BASHOPTS",
            "PYTHONPATH",
            "PERL5LIB",
            "NODE_OPTIONS",
            "GLIBC_TUNABLES",
        ] {
            assert_eq!(env_name_problem(name), Some(CHANGES_PROGRAM), "{name}");
        }
    }

    #[test]
    fn what_is_no_name_and_what_is_the_daemons_own_is_refused() {
        for name in ["", "1A", "A-B", "A=B", "A B", "ä", "A\0", "A\n"] {
            assert_eq!(env_name_problem(name), Some(NOT_A_NAME), "{name:?}");
        }
        assert!(env_name_problem("RUNBOOKD_STEP").is_some());
    }
}
