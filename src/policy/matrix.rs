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
