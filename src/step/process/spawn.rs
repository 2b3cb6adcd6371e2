//! Starts a child with `posix_spawn`: one system call's worth of isolation, no code between fork and exec.
//!
//! For children that nothing holds; the others are started by `fork`. May import: nothing of this crate. Must never: decide what runs; it is given finished strings.
#![expect(unsafe_code, reason = "posix_spawn has no safe wrapper, and fork in a threaded daemon is worse")]

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Everything a child is given. Its descriptors are these three and no others.
pub(super) struct Spawn<'a> {
    /// The program's path.
    pub(super) program: &'a CStr,
    /// Its arguments, the program's own name first.
    pub(super) argv: &'a [CString],
    /// Its whole environment, as `NAME=value`.
    pub(super) env: &'a [CString],
    /// Its working directory.
    pub(super) cwd: &'a CStr,
    /// Standard input; `/dev/null` when absent.
    pub(super) stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub(super) stdout: BorrowedFd<'a>,
    /// Standard error.
    pub(super) stderr: BorrowedFd<'a>,
}

/// Lets the runtime wait for `descriptor`.
pub(super) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives the same descriptor each time it is asked and keeps it open until it is dropped; the
    // AsyncFd owns it, and `Child`, its one holder, never takes it mutably.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// The calls return an error number instead of setting errno.
fn check(number: libc::c_int) -> io::Result<()> {
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(number)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A session of its own, every signal at its default, no signal blocked.
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: init writes the whole object, or fails and leaves it unused.
        let mut this = unsafe {
            check(libc::posix_spawnattr_init(raw.as_mut_ptr()))?;
            Self(raw.assume_init())
        };
        // All bits, not sigfillset: that one leaves out the two signals glibc keeps for itself, and a child would
        // then inherit them as ignored.
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        let flags = libc::POSIX_SPAWN_SETSID
            | (libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK) as libc::c_short;
        // SAFETY: a sigset_t is plain bits, so any byte pattern is one; both sets are written before they are read,
        // and `this.0` was initialised above.
        unsafe {
            ptr::write_bytes(all.as_mut_ptr(), 0xff, 1);
            ptr::write_bytes(none.as_mut_ptr(), 0, 1);
            check(libc::posix_spawnattr_setsigdefault(&raw mut this.0, all.as_ptr()))?;
            check(libc::posix_spawnattr_setsigmask(&raw mut this.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(&raw mut this.0, flags))?;
        }
        Ok(this)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, destroyed once; its result is always 0 in glibc.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new(spawn: &Spawn<'_>) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: init writes the whole object, or fails and leaves it unused.
        let mut this = unsafe {
            check(libc::posix_spawn_file_actions_init(raw.as_mut_ptr()))?;
            Self(raw.assume_init())
        };
        let actions = &raw mut this.0;
        // SAFETY: `actions` is initialised; glibc copies the two paths; the descriptors are open for as long as
        // `spawn` lives, which is longer than the spawn itself.
        unsafe {
            match spawn.stdin {
                Some(fd) => check(libc::posix_spawn_file_actions_adddup2(actions, fd.as_raw_fd(), 0))?,
                None => check(libc::posix_spawn_file_actions_addopen(
                    actions,
                    0,
                    c"/dev/null".as_ptr(),
                    libc::O_RDONLY,
                    0,
                ))?,
            }
            check(libc::posix_spawn_file_actions_adddup2(actions, spawn.stdout.as_raw_fd(), 1))?;
            check(libc::posix_spawn_file_actions_adddup2(actions, spawn.stderr.as_raw_fd(), 2))?;
            check(libc::posix_spawn_file_actions_addclosefrom_np(actions, 3))?;
            check(libc::posix_spawn_file_actions_addchdir_np(actions, spawn.cwd.as_ptr()))?;
        }
        Ok(this)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, destroyed once; its result is always 0 in glibc.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

pub(super) fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|s| s.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// Starts the child and gives its process id.
///
/// # Errors
/// The error of the directory change or of exec itself; then no child remains.
pub(super) fn posix_spawn(spawn: &Spawn<'_>) -> io::Result<i32> {
    let attributes = Attributes::new()?;
    let actions = Actions::new(spawn)?;
    let (argv, env) = (pointers(spawn.argv), pointers(spawn.env));
    let mut pid = 0;
    // SAFETY: both objects are initialised; both arrays end with a null pointer and point to strings that end with
    // NUL and outlive the call; posix_spawn does not write to them, whatever its old C prototype says.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            spawn.program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Ok(pid)
}
