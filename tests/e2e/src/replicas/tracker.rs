//! Who has which guard, as a watch of the namespace's Leases shows it: for how long runs have no host, and how fast guards change hands.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use crate::kubectl::Kubectl;

/// Follows the Leases until it is dropped.
#[derive(Debug)]
pub(super) struct Tracker {
    child: Child,
    ledger: Arc<Mutex<Ledger>>,
}

/// What was observed.
#[derive(Debug, Default, Clone)]
pub(super) struct Periods {
    /// For how long each guard that had lost its host had none. Times in which no replica was there do not count.
    pub(super) undriven: Vec<Duration>,
    /// From the release of a guard to its next acquisition by another run.
    pub(super) handovers: Vec<Duration>,
}

impl Tracker {
    pub(super) fn start(kubectl: &Kubectl) -> Result<Tracker> {
        let arguments =
            ["get", "leases.coordination.k8s.io", "--watch", "--output-watch-events", "-o", "json"];
        let (child, stdout) = kubectl.watch(&arguments)?;
        let ledger = Arc::<Mutex<Ledger>>::default();
        let shared = Arc::clone(&ledger);
        std::thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(BufReader::new(stdout)).into_iter::<Value>();
            for event in events.map_while(Result::ok) {
                lock(&shared).take(Instant::now(), &event);
            }
        });
        Ok(Tracker { child, ledger })
    }

    /// A replica that advertises this address drives nothing from now on, whatever its Lease says.
    pub(super) fn lose(&self, address: &str) {
        lock(&self.ledger).set_lost(Instant::now(), address, true);
    }

    /// A replica is there again; its Lease says whether it drives.
    pub(super) fn find(&self, address: &str) {
        lock(&self.ledger).set_lost(Instant::now(), address, false);
    }

    /// Whether any replica could drive runs from now on.
    pub(super) fn set_any_alive(&self, is_any: bool) {
        let now = Instant::now();
        let mut ledger = lock(&self.ledger);
        ledger.is_any_alive = is_any;
        ledger.judge(now);
    }

    pub(super) fn periods(&self) -> Periods {
        lock(&self.ledger).periods.clone()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Guard {
    instance: String,
    /// Since when it has no host, and for how long it had none before the last time in which no replica was there.
    undriven: Option<(Option<Instant>, Duration)>,
}

#[derive(Debug)]
struct Ledger {
    guards: BTreeMap<String, Guard>,
    /// The addresses of instances.
    hosts: BTreeMap<String, String>,
    lost: Vec<String>,
    is_any_alive: bool,
    /// When guards were deleted, with their last holders.
    released: BTreeMap<String, (Instant, String)>,
    periods: Periods,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            guards: BTreeMap::new(),
            hosts: BTreeMap::new(),
            lost: Vec::new(),
            is_any_alive: true,
            released: BTreeMap::new(),
            periods: Periods::default(),
        }
    }
}

impl Ledger {
    fn take(&mut self, now: Instant, event: &Value) {
        let (is_deleted, object) = (event["type"] == "DELETED", &event["object"]);
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&metadata["name"]);
        if metadata["labels"]["app.kubernetes.io/component"] == "host" {
            if is_deleted {
                self.hosts.remove(&name);
            } else {
                self.hosts.insert(name, text(&metadata["annotations"]["paperclip.io/address"]));
            }
        } else if metadata["annotations"]["paperclip.io/guard-key"].is_string() {
            let holder = text(&object["spec"]["holderIdentity"]);
            if is_deleted {
                self.guards.remove(&name);
                self.released.insert(name, (now, holder));
            } else {
                if let Some((at, before)) = self.released.remove(&name)
                    && before != holder
                {
                    self.periods.handovers.push(now - at);
                }
                let instance = text(&metadata["annotations"]["paperclip.io/host-instance"]);
                let undriven = self.guards.remove(&name).and_then(|guard| guard.undriven);
                self.guards.insert(name, Guard { instance, undriven });
            }
        }
        self.judge(now);
    }

    fn set_lost(&mut self, now: Instant, address: &str, is_lost: bool) {
        self.lost.retain(|one| one != address);
        if is_lost {
            self.lost.push(address.to_owned());
        }
        self.judge(now);
    }

    /// Compares guards with the hosts that live.
    fn judge(&mut self, now: Instant) {
        let Ledger { guards, hosts, lost, is_any_alive, periods, .. } = self;
        for guard in guards.values_mut() {
            let is_driven = hosts.get(&guard.instance).is_some_and(|address| !lost.contains(address));
            guard.undriven = match (guard.undriven.take(), is_driven) {
                (None, true) => None,
                (None, false) => Some((is_any_alive.then_some(now), Duration::ZERO)),
                (Some((since, before)), true) => {
                    periods.undriven.push(before + since.map_or(Duration::ZERO, |since| now - since));
                    None
                }
                (Some((Some(since), before)), false) if !*is_any_alive => {
                    Some((None, before + (now - since)))
                }
                (Some((None, before)), false) if *is_any_alive => Some((Some(now), before)),
                (undriven, false) => undriven,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn guard(holder: &str, instance: &str) -> Value {
        json!({"type": "MODIFIED", "object": {
            "metadata": {"name": "guard", "annotations": {"paperclip.io/guard-key": "k", "paperclip.io/host-instance": instance}},
            "spec": {"holderIdentity": holder},
        }})
    }

    fn host(kind: &str, name: &str) -> Value {
        json!({"type": kind, "object": {"metadata": {
            "name": name, "labels": {"app.kubernetes.io/component": "host"},
            "annotations": {"paperclip.io/address": format!("http://{name}")},
        }}})
    }

    fn deleted(mut event: Value) -> Value {
        event["type"] = json!("DELETED");
        event
    }

    #[test]
    fn a_guard_is_undriven_from_the_loss_of_its_host_to_its_takeover() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for name in ["a", "b"] {
            ledger.take(at(0), &host("ADDED", name));
        }
        ledger.take(at(1), &guard("r1", "a"));
        ledger.set_lost(at(100), "http://a", true);
        ledger.take(at(40_100), &host("DELETED", "a"));
        ledger.take(at(40_300), &guard("r1", "b"));
        assert_eq!(ledger.periods.undriven, [Duration::from_millis(40_200)]);
        ledger.take(at(41_000), &deleted(guard("r1", "b")));
        ledger.take(at(41_020), &guard("r2", "b"));
        assert_eq!(ledger.periods.handovers, [Duration::from_millis(20)]);
    }

    #[test]
    fn time_without_any_replica_does_not_count() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        ledger.take(at(0), &host("ADDED", "a"));
        ledger.take(at(1), &guard("r1", "a"));
        ledger.take(at(100), &guard("r1", ""));
        ledger.is_any_alive = false;
        ledger.judge(at(300));
        ledger.is_any_alive = true;
        ledger.judge(at(9_000));
        ledger.take(at(9_050), &host("ADDED", "b"));
        ledger.take(at(9_400), &guard("r1", "b"));
        assert_eq!(ledger.periods.undriven, [Duration::from_millis(200 + 400)]);
    }
}
