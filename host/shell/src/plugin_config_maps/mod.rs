//! ConfigMaps that have plugins.

mod content;

use std::collections::BTreeMap;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::connect::Cluster;
use crate::watches::LastActivity;
use crate::watches::supervise::{Notice, supervise};

pub use content::{PLUGIN_LABEL, PackError, adapter_type, pack, unpack};

/// The ConfigMaps of a namespace that have plugins, by name.
pub type ConfigMaps = BTreeMap<String, ConfigMap>;

/// Watches the ConfigMaps with [`PLUGIN_LABEL`] in a namespace. Dropping it ends the watch.
#[derive(Debug)]
pub struct PluginConfigMaps {
    /// None until they were listed for the first time.
    known: watch::Receiver<Option<ConfigMaps>>,
    task: AbortHandle,
}

impl PluginConfigMaps {
    /// Starts the watch.
    pub fn watch(cluster: &Cluster, namespace: &str) -> PluginConfigMaps {
        let (sender, known) = watch::channel(None);
        let unread = LastActivity::new(Mutex::new(Instant::now()));
        let (client, labels) = (cluster.streams().clone(), PLUGIN_LABEL.to_owned());
        let mut listed = ConfigMaps::new();
        let watch = supervise::<ConfigMap>(client, namespace.to_owned(), labels, unread, move |notice| {
            sender.send_if_modified(|known| apply(&mut listed, known, notice));
        });
        PluginConfigMaps { known, task: tokio::spawn(watch).abort_handle() }
    }

    /// Waits for a change, and returns all of them.
    pub async fn changed(&mut self) -> ConfigMaps {
        loop {
            // The task that sends lives as long as this.
            if self.known.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(known) = self.known.borrow_and_update().clone() {
                return known;
            }
        }
    }
}

impl Drop for PluginConfigMaps {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Applies what the watch reports. Returns whether the ConfigMaps are others now.
fn apply(listed: &mut ConfigMaps, known: &mut Option<ConfigMaps>, notice: Notice<ConfigMap>) -> bool {
    let name = |config_map: &ConfigMap| config_map.metadata.name.clone().unwrap_or_default();
    match notice {
        Notice::Event(Event::Init) => listed.clear(),
        Notice::Event(Event::InitApply(config_map)) => {
            listed.insert(name(&config_map), config_map);
        }
        Notice::Event(Event::InitDone) => {
            let listed = Some(std::mem::take(listed));
            let is_changed = *known != listed;
            *known = listed;
            return is_changed;
        }
        Notice::Event(Event::Apply(config_map)) => {
            known.get_or_insert_default().insert(name(&config_map), config_map);
            return true;
        }
        Notice::Event(Event::Delete(config_map)) => {
            return known.get_or_insert_default().remove(&name(&config_map)).is_some();
        }
        // It was logged.
        Notice::Refused(_) => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(name: &str) -> ConfigMap {
        let mut config_map = ConfigMap::default();
        config_map.metadata.name = Some(name.to_owned());
        config_map
    }

    #[test]
    fn a_list_is_complete_when_it_is_done_and_what_is_as_before_is_no_change() {
        let (mut listed, mut known) = (ConfigMaps::new(), None);
        let mut event = |event| apply(&mut listed, &mut known, Notice::Event(event));
        assert!(!event(Event::Init));
        assert!(!event(Event::InitApply(config_map("a"))));
        assert!(event(Event::InitDone));
        assert!(event(Event::Apply(config_map("b"))));
        for name in ["b", "a"] {
            assert!(!event(Event::InitApply(config_map(name))));
        }
        assert!(!event(Event::InitDone), "the same after the watch was cut");
        assert!(event(Event::Delete(config_map("a"))));
        assert!(!event(Event::Delete(config_map("a"))));
        assert_eq!(known.unwrap().into_keys().collect::<Vec<_>>(), ["b"]);
    }
}
