//! Kubernetes' own validation, so that a mistake in a configuration is told before anything is created.
//!
//! Each check answers with what would be right, to be put behind the value at fault. The rules are those of
//! `k8s.io/apimachinery/pkg/util/validation` and `pkg/apis/core/validation`.

pub mod environment;
pub mod image;
pub mod label;
pub mod name;
pub mod path;
pub mod quantity;
pub mod resource;
pub mod toleration;
