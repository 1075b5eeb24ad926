//! What the tests stand on. None of it knows what the product should do: that is the tests' business.

mod audit;
mod bucket;
mod cluster;
mod command;
mod dump;
pub mod environment;
mod flows;
mod gate;
mod image;
mod inventory;
mod objects;
pub mod operator;
mod pods;
mod registry;
mod remote;
mod server;
mod wait;

pub use audit::writes_since;
pub use bucket::Bucket;
pub use cluster::{Cluster, local_test, serial_test, test};
pub use command::{Command, Output};
pub use gate::Gate;
pub use image::{Image, digest, noise};
pub use inventory::Inventory;
pub use objects::{object, yaml};
pub use pods::Pod;
pub use remote::{Answer, Login, Remote, bearer, with_parameter};
pub use server::Server;
pub use wait::{PATIENCE, PROMISED, eventually, within};
