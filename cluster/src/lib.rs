//! A local cluster: a stand-in, inside one process, for the part of the Kubernetes API that agent runs need.
//!
//! It serves that part of the API with its wire format, so that `kube` and `kubectl` work against it, and it runs a
//! Job's containers as local processes. It makes a first run and the tests work on a machine that has no cluster.
//!
//! It is **not** Kubernetes and is never called so in front of a user: it pulls no image, isolates nothing (a container is
//! a process of the same user on the same disk), schedules nothing, and serves only the resources in [`Resource`]. Its
//! responses and errors, however, are those of a real API server. `docs/local-cluster.md` lists what it does and its limits.

mod access;
mod api;
mod cluster;
mod error;
mod kubeconfig;
pub mod node;
mod patch;
mod random;
mod resource;
mod rules;
mod schema;
mod serve;
pub mod store;

pub use cluster::{LocalCluster, Options};
pub use error::ApiError;
pub use resource::Resource;
