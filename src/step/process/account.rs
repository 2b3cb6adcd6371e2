//! Who a name of the system's accounts is: number, group, and the further groups.
//!
//! May import: nothing of this crate. Blocks: a directory service may be asked. Must never: guess; a name without an
//! account is an error.
#![expect(
    unsafe_code,
    reason = "the system's accounts are reached by the C library, as every other program does"
)]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;

/// The largest entry of an account, in bytes.
const ENTRY_MAX: usize = 1 << 20;
/// The most groups one account can be in (NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

/// An account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Its name.
    pub(super) name: String,
    /// Its number.
    pub(super) uid: u32,
    /// The number of its first group.
    pub(super) gid: u32,
    /// The numbers of all its groups.
    pub(super) groups: Vec<u32>,
}

/// The number of the account `word`, a name or a number.
///
/// # Errors
/// A sentence, where there is none.
pub fn account_number(word: &str) -> Result<u32, String> {
    find(word).map(|account| account.uid)
}

/// The account `word`, a name or a number.
///
/// # Errors
/// A sentence, where there is none.
pub(super) fn find(word: &str) -> Result<Account, String> {
    let unknown = || format!("there is no account {word:?} on this machine");
    let name = CString::new(word).map_err(|_| unknown())?;
    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        let (room, length) = (buffer.as_mut_ptr(), buffer.len());
        // SAFETY: the name ends with NUL, the buffer has the length that is told, and the entry is only read below
        // where `found` says that it was written; its texts lie in the buffer, which lives longer than the reading.
        let number = unsafe {
            match word.parse::<u32>() {
                Ok(uid) => libc::getpwuid_r(uid, entry.as_mut_ptr(), room, length, &raw mut found),
                Err(_) => libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), room, length, &raw mut found),
            }
        };
        if number == libc::ERANGE && buffer.len() < ENTRY_MAX {
            buffer.resize(buffer.len() * 4, 0);
            continue;
        }
        if number != 0 && !matches!(number, libc::ENOENT | libc::ESRCH) {
            let cause = std::io::Error::from_raw_os_error(number);
            return Err(format!("the account {word:?} could not be looked up: {cause}"));
        }
        if found.is_null() {
            return Err(unknown());
        }
        // SAFETY: `found` is not null, so the entry was written, its name among it, a text that ends with NUL.
        let (entry, name) = unsafe {
            let entry = entry.assume_init();
            (entry, CStr::from_ptr(entry.pw_name).to_owned())
        };
        let groups = groups(&name, entry.pw_gid)?;
        let name = name.to_string_lossy().into_owned();
        return Ok(Account { name, uid: entry.pw_uid, gid: entry.pw_gid, groups });
    }
}

fn groups(name: &CStr, first: u32) -> Result<Vec<u32>, String> {
    let mut room = 64;
    while room <= GROUPS_MAX {
        let mut groups: Vec<libc::gid_t> = vec![0; room];
        let mut count = libc::c_int::try_from(room).unwrap_or(libc::c_int::MAX);
        // SAFETY: the name ends with NUL; `count` says how many numbers fit, and at most as many are written.
        let told = unsafe { libc::getgrouplist(name.as_ptr(), first, groups.as_mut_ptr(), &raw mut count) };
        if told >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        room *= 4;
    }
    Err(format!("the account {} is in more groups than the kernel takes", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_name_and_by_number_and_nothing_is_guessed() {
        let root = find("root").unwrap();
        assert_eq!((root.uid, root.gid, &root.name[..]), (0, 0, "root"));
        assert!(root.groups.contains(&0));
        assert_eq!(find("0").unwrap(), root);
        let problem = "there is no account \"nobody-of-the-kind\" on this machine";
        assert_eq!(find("nobody-of-the-kind").unwrap_err(), problem);
        assert!(find("4200000000").is_err());
        assert!(find("a\0b").is_err());
    }
}
