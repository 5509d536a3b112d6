//! A local cluster: a stand-in, inside one process, for the part of the Kubernetes API that agent runs need.
//!
//! It serves that part of the API with its wire format, so that `kube` and `kubectl` work against it, and it runs a
//! Job's containers as local processes. It makes a first run and the tests work on a machine that has no cluster.
//!
//! It is **not** Kubernetes, and no user is told that it is: it pulls no image, isolates nothing (a container is a
//! process of the same user on the same disk), schedules nothing, and knows only the resources in [`Resource`]. What
//! it refuses or answers, however, it refuses and answers as a real API server would.

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
