//! What a caller may do: six permissions, the built-in roles, and a site's own roles.
//!
//! Pure data and set arithmetic: deny is the default, and a role nobody defined allows nothing. May import:
//! `model`. Must never: know where the roles came from.

use crate::model::Permission;
use std::collections::BTreeMap;

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// All six.
    pub const ALL: Self = Self(0b11_1111);

    /// The set of exactly these.
    pub fn of(permissions: &[Permission]) -> Self {
        Self(permissions.iter().fold(0, |bits, permission| bits | 1 << *permission as u8))
    }

    /// Whether `permission` is in it.
    pub fn allow(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// What either allows.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why a site's own roles cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// The name belongs to a built-in role, whose meaning is fixed.
    #[error("the role {0:?} is built in and cannot be redefined; choose another name")]
    BuiltIn(String),
    /// A role without a name, or with a comma in it, could never be claimed.
    #[error("{0:?} cannot be a role's name: it must not be blank or contain a comma")]
    Name(String),
}

/// What each role allows: the built-in ones and the site's own.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    own: BTreeMap<String, Permissions>,
}

impl Roles {
    /// The built-in roles together with `own`.
    ///
    /// # Errors
    /// [`RoleError`] for a name that is taken or cannot be claimed.
    pub fn new(own: BTreeMap<String, Permissions>) -> Result<Self, RoleError> {
        for name in own.keys() {
            if Self::built_in(name).is_some() {
                return Err(RoleError::BuiltIn(name.clone()));
            }
            if name.trim().is_empty() || name.trim() != name || name.contains(',') {
                return Err(RoleError::Name(name.clone()));
            }
        }
        Ok(Self { own })
    }

    /// What all of `roles` allow together; an unknown role adds nothing.
    pub fn permissions(&self, roles: &[String]) -> Permissions {
        roles.iter().fold(Permissions::NONE, |sum, role| {
            sum.union(Self::built_in(role).or_else(|| self.own.get(role).copied()).unwrap_or_default())
        })
    }

    fn built_in(role: &str) -> Option<Permissions> {
        use Permission::{Audit, Edit, Execute, Read, Secrets};
        Some(match role {
            "viewer" => Permissions::of(&[Read]),
            "operator" => Permissions::of(&[Read, Execute]),
            "editor" => Permissions::of(&[Read, Edit]),
            "developer" => Permissions::of(&[Read, Execute, Edit]),
            "sre" => Permissions::of(&[Read, Execute, Edit, Secrets, Audit]),
            "admin" => Permissions::ALL,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(roles: &[&str], expected: &str) {
        let own = BTreeMap::from([
            ("oncall".to_owned(), Permissions::of(&[Permission::Read, Permission::Execute])),
            ("nothing".to_owned(), Permissions::NONE),
        ]);
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let got = Roles::new(own).unwrap().permissions(&roles);
        let words: Vec<_> =
            Permission::ALL.iter().copied().filter(|p| got.allow(*p)).map(Permission::as_str).collect();
        assert_eq!(words.join(" "), expected, "{roles:?}");
    }

    #[test]
    fn built_in_roles_allow_exactly_what_is_documented() {
        check(&["viewer"], "read");
        check(&["operator"], "read execute");
        check(&["editor"], "read edit");
        check(&["developer"], "read execute edit");
        check(&["sre"], "read execute edit secrets audit");
        check(&["admin"], "read execute edit secrets audit admin");
    }

    #[test]
    fn unknown_roles_allow_nothing_and_roles_add_up() {
        check(&[], "");
        check(&["root", "Admin", "ADMIN", "admin ", "", "*"], "");
        check(&["nothing"], "");
        check(&["oncall"], "read execute");
        check(&["viewer", "editor", "nobody"], "read edit");
    }

    #[test]
    fn a_built_in_role_cannot_be_redefined() {
        let own = |name: &str| Roles::new(BTreeMap::from([(name.to_owned(), Permissions::ALL)]));
        assert_eq!(own("viewer").unwrap_err(), RoleError::BuiltIn("viewer".into()));
        for bad in ["", " ", "a,b", " a"] {
            assert_eq!(own(bad).unwrap_err(), RoleError::Name(bad.into()));
        }
    }

    #[test]
    fn a_permission_is_read_back_from_its_word() {
        for permission in Permission::ALL.iter().copied() {
            assert_eq!(Permission::parse(permission.as_str()), Some(permission));
        }
        assert_eq!(Permission::parse("write"), None);
    }
}
