//! The watch of a namespace's Leases, as inputs of the ownership protocol.

use k8s_openapi::api::coordination::v1::Lease as KubeLease;
use kube::runtime::watcher::Event;
use paperclip_engine::ownership::{Input, LeaseView};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::calls::leases::view;
use crate::connect::Cluster;
use crate::watches::LastActivity;
use crate::watches::supervise::{Notice, of_the_product, supervise};

/// Watches the Leases of ours in a namespace. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct LeaseWatch {
    pub(super) inputs: mpsc::UnboundedReceiver<Input>,
    task: AbortHandle,
}

impl LeaseWatch {
    pub(super) fn start(cluster: &Cluster, namespace: &str) -> LeaseWatch {
        let (sender, inputs) = mpsc::unbounded_channel();
        let mut listed = Vec::new();
        let unread = LastActivity::new(std::sync::Mutex::new(Instant::now()));
        let client = cluster.streams().clone();
        let watch =
            supervise::<KubeLease>(client, namespace.to_owned(), of_the_product(), unread, move |notice| {
                if let Some(input) = input(&mut listed, notice) {
                    // The task that receives it ends this watch.
                    let _ = sender.send(input);
                }
            });
        LeaseWatch { inputs, task: tokio::spawn(watch).abort_handle() }
    }
}

impl Drop for LeaseWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Translates what the watch reports. A list becomes one input, once it is complete.
fn input(listed: &mut Vec<LeaseView>, notice: Notice<KubeLease>) -> Option<Input> {
    match notice {
        Notice::Event(Event::Init) => listed.clear(),
        Notice::Event(Event::InitApply(lease)) => listed.push(view(lease)),
        Notice::Event(Event::InitDone) => return Some(Input::LeasesListed(std::mem::take(listed))),
        Notice::Event(Event::Apply(lease)) => return Some(Input::LeaseSeen(view(lease))),
        Notice::Event(Event::Delete(lease)) => {
            return Some(Input::LeaseDeleted { name: lease.metadata.name.unwrap_or_default() });
        }
        // It was logged; nothing is adopted until the watch is granted.
        Notice::Refused(_) => {}
    }
    None
}
