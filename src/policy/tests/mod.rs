//! Properties that hold for every policy, and policies made at random to try them on.

mod generate;
mod properties;

pub(crate) use generate::{Everything, MemberSpec, NOW, actions, everything, identities, repositories};
