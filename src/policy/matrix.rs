//! The permission matrix, as data: who may do what to a repository of which kind.

use super::{Action, Role, Visibility};

/// The kinds of repositories that the matrix tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// In an official Project: made by the platform for everybody.
    Official,
    Public,
    Internal,
    Private,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Official, Kind::Public, Kind::Internal, Kind::Private];

    /// What it is called in texts.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Official => "official",
            Kind::Public => "Public",
            Kind::Internal => "Internal",
            Kind::Private => "Private",
        }
    }
}

impl From<Visibility> for Kind {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Private => Kind::Private,
            Visibility::Internal => Kind::Internal,
            Visibility::Public => Kind::Public,
        }
    }
}

/// The least that one has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: no login either.
    Anyone,
    /// Logged in, as whoever it may be.
    User,
    /// To have this role or a greater one. In an official Project only a role in the whole Registry counts: membership of
    /// the Project gives nothing there.
    Role(Role),
}

use Needs::{Anyone, User};
const GUEST: Needs = Needs::Role(Role::Guest);
const DEVELOPER: Needs = Needs::Role(Role::Developer);
const ADMIN: Needs = Needs::Role(Role::Admin);

/// One row for each kind, one column for each of [`Action::ALL`].
#[rustfmt::skip]
const MATRIX: [(Kind, [Needs; Action::ALL.len()]); Kind::ALL.len()] = [
    //                view    select  pull    dockerfile push       delete     image type description visibility delete repository
    (Kind::Official, [Anyone, Anyone, Anyone, Anyone,    DEVELOPER, DEVELOPER, DEVELOPER, DEVELOPER,  ADMIN,     ADMIN]),
    (Kind::Public,   [Anyone, Anyone, Anyone, Anyone,    DEVELOPER, DEVELOPER, DEVELOPER, DEVELOPER,  ADMIN,     ADMIN]),
    (Kind::Internal, [User,   User,   User,   User,      DEVELOPER, DEVELOPER, DEVELOPER, DEVELOPER,  ADMIN,     ADMIN]),
    (Kind::Private,  [GUEST,  GUEST,  GUEST,  GUEST,     DEVELOPER, DEVELOPER, DEVELOPER, DEVELOPER,  ADMIN,     ADMIN]),
];

/// The least that one has to be for the action on a repository of this kind.
pub const fn needs(kind: Kind, action: Action) -> Needs {
    MATRIX[kind as usize].1[column(action)]
}

const fn column(action: Action) -> usize {
    let mut index = 0;
    while Action::ALL[index] as usize != action as usize {
        index += 1;
    }
    index
}

/// The rows are where [`needs`] looks for them, and no action is without a column.
const _: () = {
    let mut row = 0;
    while row < MATRIX.len() {
        assert!(MATRIX[row].0 as usize == row);
        row += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Who may, in words. In an official Project membership gives nothing: its roles are those in the whole Registry.
    #[rustfmt::skip]
    const TABLE: [(&str, [&str; 4]); 10] = [
        //                    official            Internal            Private                    Public
        ("pull",              ["Anyone",           "User",             "Admin, Developer, Guest", "Anyone"]),
        ("push",              ["Admin, Developer", "Admin, Developer", "Admin, Developer",        "Admin, Developer"]),
        ("change-visibility", ["Admin",            "Admin",            "Admin",                   "Admin"]),
        ("change-image-type", ["Admin, Developer", "Admin, Developer", "Admin, Developer",        "Admin, Developer"]),
        ("change-description",["Admin, Developer", "Admin, Developer", "Admin, Developer",        "Admin, Developer"]),
        ("delete-repository", ["Admin",            "Admin",            "Admin",                   "Admin"]),
        ("view",              ["Anyone",           "User",             "Admin, Developer, Guest", "Anyone"]),
        ("select-in-builds",  ["Anyone",           "User",             "Admin, Developer, Guest", "Anyone"]),
        ("view-dockerfile",   ["Anyone",           "User",             "Admin, Developer, Guest", "Anyone"]),
        ("delete",            ["Admin, Developer", "Admin, Developer", "Admin, Developer",        "Admin, Developer"]),
    ];

    fn in_words(needs: Needs) -> String {
        let roles = [Role::Admin, Role::Developer, Role::Guest];
        match needs {
            Needs::Anyone => "Anyone".to_owned(),
            Needs::User => "User".to_owned(),
            Needs::Role(least) => {
                let enough = roles.into_iter().filter(|role| *role >= least);
                enough.map(Role::name).collect::<Vec<_>>().join(", ")
            }
        }
    }

    #[test]
    fn every_cell_is_as_the_table_says() {
        for (action, row) in TABLE {
            let action = Action::from_name(action).unwrap();
            for (kind, expected) in [Kind::Official, Kind::Internal, Kind::Private, Kind::Public].into_iter().zip(row) {
                assert_eq!(in_words(needs(kind, action)), expected, "{} {}", kind.name(), action.name());
            }
        }
    }
}
