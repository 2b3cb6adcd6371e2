//! As whom a step runs, and that it cannot become anybody else.

use super::{House, script};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const STATUS: &str =
    "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|SigIgn|SigBlk|Umask):' /proc/self/status; id -un; pwd";

/// The line of a status that begins so, its fields by single blanks.
fn line<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).split_whitespace().collect()
}

#[test]
fn t31_a_step_with_a_user_is_that_user_alone_and_has_no_privilege() {
    let act = script("user = \"nobody\"", &format!("{STATUS}; touch x && ls -ld . x"));
    let house = House::new("", &[("act", &act)]).start();
    let text = house.output("act");
    let nobody = ["65534"; 4];
    assert_eq!((line(&text, "Uid"), line(&text, "Gid")), (nobody.to_vec(), nobody.to_vec()), "{text}");
    assert_eq!(line(&text, "Groups"), ["65534"], "{text}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(&text, set), ["0000000000000000"], "{text}");
    }
    assert_eq!((line(&text, "NoNewPrivs"), line(&text, "Umask")), (vec!["1"], vec!["0077"]), "{text}");
    assert!(text.contains("\nnobody\n"), "{text}");
    // Its private directory is its own, and gone.
    assert!(text.contains("drwx------ 2 nobody nogroup"), "{text}");
    assert_eq!(fs::read_dir(house.lives.storage().join("work")).unwrap().count(), 0);
    // Passing is all that others may do where it lies.
    for directory in ["store", "outputs"] {
        let mode = fs::metadata(house.lives.storage().join(directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{directory}");
    }
}

#[test]
fn t31_root_and_denied_users_are_refused_and_told_how_to_be_allowed() {
    let (plain, root) = (script("", "id -u"), script("user = \"0\"", "id -u"));
    let daemon = script("user = \"daemon\"", "id -u");
    let runbooks = [("plain", &plain[..]), ("root", &root), ("daemon", &daemon)];
    let house = House::new("[steps]\ndeny_users = [\"daemon\"]", &runbooks)
        .with("RUNBOOKD_STEPS__ALLOW_ROOT", "false")
        .start();
    house.lives.logged("runbookd runs as root, and [steps] allow_root is false", 1);
    let why = house.refusal("plain");
    assert!(
        why.contains("it would run as root because runbookd does") && why.contains("allow_root"),
        "{why}"
    );
    assert!(house.refusal("root").contains("it would run as root, which [steps] allow_root does not allow"));
    assert!(house.refusal("daemon").contains("it would run as daemon, which [steps] deny_users forbids"));
    let allowed = House::new("", &runbooks).start();
    assert_eq!(allowed.output("plain"), "0\n");
    assert!(!allowed.lives.log().contains("runbookd runs as root, and"));
}

#[test]
fn t31_a_set_user_id_program_gains_nothing_unless_the_config_says_so() {
    let house = House::new("", &[]);
    let helper = house.lives.dir().join("helper");
    fs::copy("/usr/bin/id", &helper).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755)).unwrap();
    let as_nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let control = Command::new("setpriv").args(as_nobody).arg(&helper).arg("-u").output().unwrap();
    assert_eq!(control.stdout, b"0\n", "without us it must gain root, or this shows nothing");
    let path = helper.display();
    let held = script("user = \"nobody\"", &format!("{path} -u"));
    let plain = script("", "grep NoNewPrivs /proc/self/status");
    let runbooks = [("held", &held[..]), ("plain", &plain)];
    let house = House::new("", &runbooks).start();
    assert_eq!(house.output("held"), "65534\n");
    assert_eq!(house.output("plain"), "NoNewPrivs:\t1\n");
    let lax = House::new("", &runbooks).with("RUNBOOKD_STEPS__NO_NEW_PRIVILEGES", "false").start();
    assert_eq!(lax.output("held"), "65534\n", "who is switched to gains nothing in any case");
    assert_eq!(lax.output("plain"), "NoNewPrivs:\t0\n");
}

#[test]
fn t31_who_cannot_switch_users_says_so_before_anything_runs() {
    let (other, unknown) = (script("user = \"daemon\"", "id -u"), script("user = \"nobody-here\"", "id -u"));
    let (own, limit) = (script("user = \"65534\"", "id -u"), script("limits = { processes = 9 }", "id -u"));
    let runbooks = [("other", &other[..]), ("unknown", &unknown), ("own", &own), ("limit", &limit)];
    let house = House::new("", &runbooks);
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(house.lives.dir()).status().unwrap();
    assert!(given.success());
    let house = house.by(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]).start();
    assert!(house.refusal("other").contains("runbookd may not switch users"), "{}", house.refusal("other"));
    assert!(house.refusal("unknown").contains("there is no account \"nobody-here\""));
    assert_eq!(house.output("own"), "65534\n");
    assert_eq!(house.output("limit"), "65534\n");
    assert_eq!(house.lives.json("/api/sre/runbooks/integration-status")["containment"], "processes");
    let log = house.lives.logged("no group can be made in", 1);
    assert_eq!(log.matches("no group can be made in").count(), 1, "said once, at the start");
}

#[test]
fn containment_that_is_asked_for_and_cannot_be_had_is_a_refusal_to_start() {
    let house = House::new("[steps]\ncontainment = \"cgroup\"", &[]);
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(house.lives.dir()).status().unwrap();
    assert!(given.success());
    let own = house.lives.command();
    let refused = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(own.get_program())
        .args(own.get_args())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("[steps] containment asks for control groups, but no group can be made"), "{said}");
}
