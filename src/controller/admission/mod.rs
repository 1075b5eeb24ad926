//! Admission: what people do to our objects is judged before the API server stores it.
//!
//! # Flow
//! A [`Request`] is what the API server asks about, parsed. [`rules`] judges it against the policy as it is and as it
//! would be.

mod request;
mod rules;

pub(super) use request::{Change, Request, Requester, Versions};
pub(super) use rules::{Judgement, Objects, Privileges, judge};
