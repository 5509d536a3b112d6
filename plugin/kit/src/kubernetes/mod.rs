//! Kubernetes' own validation, so that a mistake in a configuration is reported before anything is created.
//!
//! The rules are those of [`paperclip_kubernetes`] and of `k8s.io/kubernetes/pkg/apis/core/validation`; each check returns
//! what would be right, as a phrase that follows the value at fault.

pub mod label;
pub mod name;
pub mod path;
pub mod quantity;
pub mod resource;
pub mod toleration;
