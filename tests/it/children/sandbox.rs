//! Steps without a network and with files they cannot change; and that none runs where that cannot be had.

use super::{House, script};
use std::fs;
use std::process::Command;

const LOOK: &str = "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '";

fn runbooks(dir: &str) -> [(&'static str, String); 3] {
    let write = format!(
        "for f in /tmp/x-$$ /etc/x-$$ {dir}/shut/x; do if (echo x > $f) 2>/dev/null; then echo \"wrote $f\"; fi; done\n\
         echo x > own && cat own && echo y > {dir}/open/y && echo z > /dev/null && cat {dir}/open/y\n\
         if mount -o remount,rw,bind / 2>/dev/null; then echo remounted; fi\n\
         chmod 777 {dir}/shut 2>/dev/null && echo changed\n\
         grep -E '^(NoNewPrivs|CapEff|CapBnd)' /proc/self/status; id -u"
    );
    let read_only = format!("sandbox = {{ read_only = true, writable = [\"{dir}/open\"] }}");
    [
        ("cut_off", script("sandbox = { network = false }", LOOK)),
        ("connected", script("sandbox = { network = true }", LOOK)),
        ("read_only", script(&read_only, &write)),
    ]
}

fn house_of(runbooks: impl Fn(&str) -> [(&'static str, String); 3]) -> House {
    let house = House::new("", &[]);
    let dir = house.lives.dir().to_str().unwrap().to_owned();
    for name in ["open", "shut"] {
        fs::create_dir(house.lives.dir().join(name)).unwrap();
    }
    for (id, text) in runbooks(&dir) {
        fs::write(house.lives.dir().join("runbooks").join(format!("{id}.toml")), text).unwrap();
    }
    house
}

fn check(house: &House, uid: &str) {
    assert_eq!(house.output("cut_off"), "lo\n");
    assert_ne!(house.output("connected"), "", "there is a network without the sandbox");
    let text = house.output("read_only");
    let none = "0000000000000000";
    let bounding = text.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    assert_eq!(text, format!("x\ny\nCapEff:\t{none}\n{bounding}\nNoNewPrivs:\t1\n{uid}\n"));
    assert_eq!(fs::read_dir(house.lives.dir().join("shut")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(house.lives.dir().join("open/y")).unwrap(), "y\n");
    assert_eq!(
        fs::read_dir(house.lives.storage().join("work")).unwrap().count(),
        0,
        "the private directory is gone"
    );
}

#[test]
fn a_sandboxed_step_of_root_reaches_no_network_and_changes_only_what_is_its_own() {
    let house = house_of(runbooks).start();
    check(&house, "0");
}

#[test]
fn a_daemon_without_privileges_makes_the_sandbox_in_a_user_namespace() {
    let house = house_of(runbooks);
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(house.lives.dir()).status().unwrap();
    assert!(given.success());
    let house = house.by(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]).start();
    check(&house, "65534");
}

#[test]
fn a_sandbox_that_cannot_be_had_is_refused_before_anything_runs() {
    // In a user namespace whose own limit of further ones is zero, and without the privilege to do without.
    let inside = "echo 0 > /proc/sys/user/max_user_namespaces; \
                  exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$0\" \"$@\"";
    let house = house_of(runbooks).by(&["unshare", "--user", "--map-root-user", "sh", "-c", inside]).start();
    assert_ne!(house.output("connected"), "", "what asks for nothing runs");
    for id in ["cut_off", "read_only"] {
        let why = house.refusal(id);
        assert!(why.contains("the sandbox cannot be made"), "{why}");
    }
    assert!(!house.lives.dir().join("open/y").exists());
}

#[test]
fn what_is_to_stay_writable_must_be_there() {
    let text = script("sandbox = { read_only = true, writable = [\"/no/such/place\"] }", "true");
    let house = House::new("", &[("act", &text)]).start();
    assert!(house.refusal("act").contains("/no/such/place is to stay writable, but it is not there"));
}
