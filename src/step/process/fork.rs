//! Starts a child that is held: in a control group from its first instant, as another user, with limits, in
//! namespaces of its own. What nothing holds is started by `spawn`, which costs less.
//!
//! Between fork and exec the child lives in the memory of a program with many threads: it may make system calls and
//! nothing else, no allocation, no lock, no panic. So everything it needs lies ready in [`Fork`], and what fails is
//! told in five bytes through a pipe. May import: `spawn` (what every child is given), `confine`, `cgroup`. Must
//! never: run the program when one of its holds could not be put on.
#![expect(
    unsafe_code,
    reason = "posix_spawn can neither switch users nor start a process in a control group"
)]

use super::cgroup::Cgroup;
use super::confine::{Confined, Maps, WRITABLE_MAX};
use super::spawn::{Spawn, pointers};
use rustix::process::{Pid, WaitOptions};
use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

/// Makes the child in a control group (Linux 5.7). `libc` has it in a type too small for it.
#[cfg(target_arch = "x86_64")]
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The child's stack, in bytes; it needs a small part of it.
const STACK: usize = 256 * 1024;

/// The numbers of signals.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=64;

/// More than there are capabilities; the kernel says where they end.
const CAPABILITIES: usize = 64;

/// All that the child needs.
pub(super) struct Fork<'a> {
    /// What every child is given.
    pub(super) spawn: &'a Spawn<'a>,
    /// How it is held.
    pub(super) confined: &'a Confined,
    /// Its control group.
    pub(super) group: Option<&'a Cgroup>,
}

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Session,
    Group,
    Limits,
    UserNamespace,
    Network,
    Mounts,
    Writable,
    Privileges,
    User,
    Descriptors,
    Directory,
    Program,
}

impl Stage {
    const ALL: [Self; 12] = [
        Self::Session,
        Self::Group,
        Self::Limits,
        Self::UserNamespace,
        Self::Network,
        Self::Mounts,
        Self::Writable,
        Self::Privileges,
        Self::User,
        Self::Descriptors,
        Self::Directory,
        Self::Program,
    ];

    /// What could not be done, for people; `None` where the cause alone says it.
    fn words(self) -> Option<&'static str> {
        match self {
            Self::Program => None,
            Self::Session => Some("it got no session of its own"),
            Self::Group => Some("it could not enter its cgroup"),
            Self::Limits => Some("its limits could not be set"),
            Self::UserNamespace => Some(
                "the sandbox cannot be made: neither is runbookd privileged, nor is a user namespace to be had",
            ),
            Self::Network => Some("the sandbox cannot be made: there is no network namespace to be had"),
            Self::Mounts => Some("the sandbox cannot be made: the files cannot be made read-only"),
            Self::Writable => {
                Some("the sandbox cannot be made: what is to stay writable cannot be put in its place")
            }
            Self::Privileges => Some("its privileges could not be taken away"),
            Self::User => Some("its user could not be switched"),
            Self::Descriptors => Some("its standard streams could not be put in their places"),
            Self::Directory => Some("its user cannot enter the working directory"),
        }
    }
}

/// Starts the child and gives its process id.
///
/// # Errors
/// What could not be done to it, or the error of exec itself; then no child remains.
pub(super) fn start(fork: &Fork<'_>) -> io::Result<i32> {
    let null = fork.spawn.stdin.is_none().then(|| std::fs::File::open("/dev/null")).transpose()?;
    let stdin = match &null {
        Some(null) => null.as_raw_fd(),
        None => fork.spawn.stdin.map_or(0, |fd| fd.as_raw_fd()),
    };
    let (argv, env) = (pointers(fork.spawn.argv), pointers(fork.spawn.env));
    let (heard, told) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child =
        Child { fork, stdin, argv: argv.as_ptr(), env: env.as_ptr(), tell: told.as_raw_fd(), join: false };
    let before = block_signals()?;
    let pid = match fork.confined.user_namespace {
        Some(_) => copy(child),
        None => borrow(child),
    };
    unblock_signals(&before);
    let pid = pid?;
    drop(told);
    match hear(&heard) {
        None => Ok(pid),
        Some((stage, cause)) => {
            if let Some(pid) = Pid::from_raw(pid) {
                // It ends right after telling; nobody else waits for a child that was never announced.
                rustix::process::waitpid(Some(pid), WaitOptions::empty()).map(drop).unwrap_or_default();
            }
            Err(match stage.words() {
                None => cause,
                Some(words) => io::Error::other(format!("{words}: {cause}")),
            })
        }
    }
}

/// Waits until the child runs its program, or says why it does not.
fn hear(pipe: &OwnedFd) -> Option<(Stage, io::Error)> {
    let mut word = [0; 5];
    let mut length = 0;
    while length < word.len() {
        match rustix::io::read(pipe, &mut word[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    // Nothing at all means that the pipe was closed by exec; half a word is never written.
    let [stage, number @ ..] = (length == word.len()).then_some(word)?;
    let stage = Stage::ALL.into_iter().find(|known| *known as u8 == stage)?;
    Some((stage, io::Error::from_raw_os_error(c_int::from_ne_bytes(number))))
}

/// Handlers of this process must not run in the copy of it.
fn block_signals() -> io::Result<libc::sigset_t> {
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the first call writes `all`, the second reads it and writes `before`, or fails.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(before.assume_init()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }
}

fn unblock_signals(before: &libc::sigset_t) {
    // SAFETY: the set is whole; the call fails only for an unknown way of setting it.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}

/// Makes a child that borrows this program's memory, on a stack of its own; this thread stands still until it has a
/// program of its own or is gone. It costs the same however much memory this program has.
fn borrow(mut child: Child<'_>) -> io::Result<i32> {
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    #[cfg(target_arch = "x86_64")]
    if let Some(group) = child.fork.group {
        match clone_into(group, &mut stack, &child) {
            // A kernel or a filter of system calls that does not know it. Then the child enters by itself, before it
            // does anything else; only slower, because the kernel must stop everybody for that.
            Err(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::E2BIG) => {}
            other => return other.map_err(io::Error::from_raw_os_error),
        }
    }
    child.join = true;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let (top, arg) = (stack.as_mut_ptr_range().end, &raw mut child);
    // SAFETY: the stack is whole and nobody else's, and it and the child's data outlive the child's use of them, because
    // with CLONE_VFORK this thread goes on only when the child has left this memory. Of what is shared the child
    // writes nothing but this thread's error number.
    let pid = unsafe { libc::clone(run, top.cast(), flags, arg.cast()) };
    told(c_long::from(pid)).map(|pid| pid as i32).map_err(io::Error::from_raw_os_error)
}

/// As [`borrow`], with the child in its control group from the start. The C library cannot be asked for that.
#[cfg(target_arch = "x86_64")]
fn clone_into(group: &Cgroup, stack: &mut [u128], child: &Child<'_>) -> Result<i32, c_int> {
    let args = libc::clone_args {
        flags: CLONE_INTO_CGROUP | (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: group.handle().as_raw_fd() as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: size_of_val(stack) as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
    };
    let answer: isize;
    // SAFETY: as in `borrow`. The child begins behind the system call with the registers of this thread but for its
    // stack, whose end is aligned as a call wants it; all it does is to call `run`, which does not return. In this
    // thread the instruction changes what is declared here, and nothing else.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => answer,
            in("rdi") &raw const args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") &raw const *child,
            in("r13") run as extern "C" fn(*mut c_void) -> c_int,
            out("rcx") _,
            out("r11") _,
        );
    }
    if answer < 0 { Err((-answer) as c_int) } else { Ok(answer as i32) }
}

/// Makes a child with a copy of this program's memory: what it does to that must not be seen here.
fn copy(mut child: Child<'_>) -> io::Result<i32> {
    child.join = true;
    // SAFETY: without CLONE_VM the child has memory of its own and goes on with a copy of this stack; it does nothing
    // but what `run` does.
    match unsafe { call(libc::SYS_clone, [libc::SIGCHLD as usize]) } {
        Ok(0) => {
            run((&raw mut child).cast());
            unreachable!("it has a program of its own, or has ended")
        }
        pid => pid.map(|pid| pid as i32).map_err(io::Error::from_raw_os_error),
    }
}

/// What the child does.
extern "C" fn run(child: *mut c_void) -> c_int {
    // SAFETY: `borrow`, `clone_into` and `copy` give a whole `Child`, which lives as long as the child needs it.
    unsafe { (*child.cast::<Child<'_>>()).become_program() }
}

/// The answer of a system call, or its error number.
fn told(answer: c_long) -> Result<c_long, c_int> {
    if answer >= 0 {
        return Ok(answer);
    }
    // SAFETY: the C library's own place for it, of this thread.
    Err(unsafe { *libc::__errno_location() })
}

/// A system call. Each argument takes a whole register, so that none is read with a half that nobody set.
///
/// # Safety
/// That of the system call.
unsafe fn call<const N: usize>(number: c_long, args: [usize; N]) -> Result<c_long, c_int> {
    let mut all = [0_usize; 5];
    for (place, arg) in all.iter_mut().zip(args) {
        *place = arg;
    }
    let [a, b, c, d, e] = all;
    // SAFETY: the caller's promise.
    told(unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// # Safety
/// Only between fork and exec.
unsafe fn control(what: c_int, value: usize) -> Result<c_long, c_int> {
    // SAFETY: the controls used here take numbers and touch no memory.
    unsafe { call(libc::SYS_prctl, [what as usize, value]) }
}

/// The child, between fork and exec.
struct Child<'a> {
    fork: &'a Fork<'a>,
    stdin: c_int,
    argv: *const *mut c_char,
    env: *const *mut c_char,
    /// Where it says what it could not do.
    tell: c_int,
    /// Whether it must enter its group by itself.
    join: bool,
}

type Outcome<T> = Result<T, (Stage, c_int)>;

/// Puts the stage to an error.
fn at<T>(stage: Stage) -> impl FnOnce(Result<T, c_int>) -> Outcome<T> {
    move |result| result.map_err(|number| (stage, number))
}

impl Child<'_> {
    /// # Safety
    /// Only in a child, between its making and exec.
    unsafe fn become_program(&self) -> ! {
        // SAFETY: the caller's promise.
        let Err((stage, number)) = unsafe { self.try_become() };
        let [a, b, c, d] = number.to_ne_bytes();
        let word = [stage as u8, a, b, c, d];
        // SAFETY: five bytes fit a pipe whole; what follows runs nothing of this program's endings.
        unsafe {
            libc::write(self.tell, word.as_ptr().cast(), word.len());
            libc::_exit(127)
        }
    }

    /// # Safety
    /// As for [`Self::become_program`].
    unsafe fn try_become(&self) -> Outcome<Infallible> {
        let Fork { spawn, confined, group } = self.fork;
        // SAFETY: system calls only, on descriptors and texts that the copied memory holds.
        unsafe {
            at(Stage::Session)(call(libc::SYS_setsid, []))?;
            if let Some(group) = group.filter(|_| self.join) {
                at(Stage::Group)(write_word(group.procs().as_raw_fd(), b"0"))?;
            }
            default_signals();
            for (resource, value) in &confined.rlimits {
                at(Stage::Limits)(limit(*resource, *value))?;
            }
            sandbox(confined)?;
            for (number, fd) in
                [self.stdin, spawn.stdout.as_raw_fd(), spawn.stderr.as_raw_fd()].iter().enumerate()
            {
                at(Stage::Descriptors)(call(libc::SYS_dup3, [*fd as usize, number]))?;
            }
            // All of this program's are closed by exec anyway; these would be those of a library that forgot it.
            let last = libc::c_uint::MAX as usize;
            let _kept = call(libc::SYS_close_range, [3, last, libc::CLOSE_RANGE_CLOEXEC as usize]);
            if confined.drops_privileges {
                drop_privileges(confined)?;
            }
            let stage = if confined.account.is_some() { Stage::Directory } else { Stage::Program };
            at(stage)(call(libc::SYS_chdir, [spawn.cwd.as_ptr() as usize]))?;
            let none = 0_u64;
            let set = [libc::SIG_SETMASK as usize, &raw const none as usize, 0, size_of_val(&none)];
            at(Stage::Session)(call(libc::SYS_rt_sigprocmask, set))?;
            let program = [spawn.program.as_ptr() as usize, self.argv as usize, self.env as usize];
            at(Stage::Program)(call(libc::SYS_execve, program))?;
        }
        Err((Stage::Program, libc::ENOEXEC))
    }
}

/// # Safety
/// Only between fork and exec.
unsafe fn default_signals() {
    // The kernel's own structure, all zero: the default, no flags, no mask. It is at most this long.
    let default = [0_u64; 4];
    for signal in SIGNALS {
        // SAFETY: it reads `default` and nothing else; two signals refuse, and they have no other way anyway.
        unsafe {
            let how = [signal as usize, default.as_ptr() as usize, 0, size_of::<u64>()];
            let _refused = call(libc::SYS_rt_sigaction, how);
        }
    }
}

/// Lowers a limit, never raises it.
///
/// # Safety
/// Only between fork and exec.
unsafe fn limit(resource: u32, value: u64) -> Result<(), c_int> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given one whole structure.
    unsafe {
        call(libc::SYS_prlimit64, [0, resource as usize, 0, &raw mut now as usize])?;
        let value = value.min(now.rlim_max);
        let new = libc::rlimit { rlim_cur: value, rlim_max: value };
        call(libc::SYS_prlimit64, [0, resource as usize, &raw const new as usize]).map(drop)
    }
}

/// # Safety
/// Only between fork and exec.
unsafe fn sandbox(confined: &Confined) -> Outcome<()> {
    // SAFETY: the caller's promise, for each of these.
    unsafe {
        if let Some(maps) = &confined.user_namespace {
            at(Stage::UserNamespace)(user_namespace(maps))?;
        }
        if confined.no_network {
            at(Stage::Network)(call(libc::SYS_unshare, [libc::CLONE_NEWNET as usize]))?;
        }
        if confined.read_only {
            read_only(&confined.writable)?;
        }
    }
    Ok(())
}

/// # Safety
/// Only between fork and exec.
unsafe fn user_namespace(maps: &Maps) -> Result<(), c_int> {
    // SAFETY: system calls on texts that end with NUL.
    unsafe {
        call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize])?;
        // Its own files in /proc belong to root as long as it may not be looked into. Only for the time of writing
        // them, only others of this very user could look, and what they see is a copy.
        control(libc::PR_SET_DUMPABLE, 1)?;
        let written = write_file(c"/proc/self/setgroups", b"deny")
            .and_then(|()| write_file(c"/proc/self/gid_map", &maps.groups))
            .and_then(|()| write_file(c"/proc/self/uid_map", &maps.users));
        control(libc::PR_SET_DUMPABLE, 0)?;
        written
    }
}

/// A copy of all mounts, every one of them read-only but the given paths.
///
/// # Safety
/// Only between fork and exec.
unsafe fn read_only(writable: &[std::ffi::CString]) -> Outcome<()> {
    let (here, recursive) = (libc::AT_FDCWD as usize, libc::AT_RECURSIVE as usize);
    let (root, nothing) = (c"/".as_ptr() as usize, c"".as_ptr() as usize);
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let mut kept = [0; WRITABLE_MAX + 1];
    // SAFETY: system calls on texts that end with NUL and on one whole structure whose size is told.
    unsafe {
        at(Stage::Mounts)(call(libc::SYS_unshare, [libc::CLONE_NEWNS as usize]))?;
        let alone = (libc::MS_REC | libc::MS_PRIVATE) as usize;
        at(Stage::Mounts)(call(libc::SYS_mount, [0, root, 0, alone]))?;
        for (tree, path) in kept.iter_mut().zip(writable) {
            let how = (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize | recursive;
            let opened = call(libc::SYS_open_tree, [here, path.as_ptr() as usize, how]);
            *tree = at(Stage::Writable)(opened)? as usize;
        }
        let set = [here, root, recursive, &raw const attributes as usize, size_of_val(&attributes)];
        at(Stage::Mounts)(call(libc::SYS_mount_setattr, set))?;
        for (tree, path) in kept.iter().zip(writable) {
            let how = libc::MOVE_MOUNT_F_EMPTY_PATH as usize;
            let moved = call(libc::SYS_move_mount, [*tree, nothing, here, path.as_ptr() as usize, how]);
            at(Stage::Writable)(moved)?;
        }
    }
    Ok(())
}

/// Nothing that a privilege could be gained from, and then another user.
///
/// # Safety
/// Only between fork and exec.
unsafe fn drop_privileges(confined: &Confined) -> Outcome<()> {
    // SAFETY: system calls on arrays whose lengths are told.
    unsafe {
        at(Stage::Privileges)(control(libc::PR_SET_NO_NEW_PRIVS, 1))?;
        for capability in 0..CAPABILITIES {
            match control(libc::PR_CAPBSET_DROP, capability) {
                Ok(_) => {}
                // The last one there is.
                Err(libc::EINVAL) => break,
                // Who has no privileges cannot take the last of them away either; what may be gained is nothing.
                Err(libc::EPERM) if confined.account.is_none() => break,
                Err(number) => return Err((Stage::Privileges, number)),
            }
        }
        if let Some(account) = &confined.account {
            let (groups, uid, gid) = (&account.groups, account.uid, account.gid);
            let (uid, gid) = (uid as usize, gid as usize);
            let switch = call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize])
                .and_then(|_| call(libc::SYS_setresgid, [gid; 3]))
                .and_then(|_| call(libc::SYS_setresuid, [uid; 3]));
            at(Stage::User)(switch)?;
        }
        let ambient = control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize);
        at(Stage::Privileges)(ambient)?;
        // Version 3 of the header, this process; effective, permitted and inheritable, twice: all empty.
        let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
        at(Stage::Privileges)(call(libc::SYS_capset, [header.as_ptr() as usize, none.as_ptr() as usize]))?;
    }
    Ok(())
}

/// # Safety
/// Only between fork and exec.
unsafe fn write_file(path: &CStr, text: &[u8]) -> Result<(), c_int> {
    let how = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the path ends with NUL; the descriptor is closed once.
    unsafe {
        let place = [libc::AT_FDCWD as usize, path.as_ptr() as usize, how as usize];
        let fd = call(libc::SYS_openat, place)?;
        let written = write_word(fd as c_int, text);
        let _closed = call(libc::SYS_close, [fd as usize]);
        written
    }
}

/// # Safety
/// Only between fork and exec.
unsafe fn write_word(fd: c_int, text: &[u8]) -> Result<(), c_int> {
    // SAFETY: the length is that of the text.
    unsafe { call(libc::SYS_write, [fd as usize, text.as_ptr() as usize, text.len()]) }.map(drop)
}
