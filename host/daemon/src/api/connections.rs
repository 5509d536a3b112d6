//! Open connections, with a limit for those whose client has not shown who it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::peer::Who;

/// Connections of strangers.
const MAX_STRANGERS: usize = 2_048;
/// Connections of strangers from one address.
const MAX_STRANGERS_PER_PEER: usize = 1_024;

/// The open connections. A client is a stranger until a request of it was authorised; users of this machine's socket never are.
///
/// Beyond a limit of strangers the oldest of them is closed, not the newest refused: whoever has a token shows it with its first request,
/// and so gets in beside others who only hold connections open.
#[derive(Debug)]
pub(super) struct Connections {
    /// All connections together.
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    count: usize,
    next: u64,
    /// By number: the oldest is the first.
    strangers: BTreeMap<u64, (Origin, CancellationToken)>,
}

/// What counts as one peer: an address, of IPv6 the network that one machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Origin {
        match address.to_canonical() {
            IpAddr::V4(address) => Origin::V4(address.to_bits()),
            IpAddr::V6(address) => Origin::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Ticket {
    number: u64,
    closed: CancellationToken,
    connections: Arc<Connections>,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Connections> {
        Arc::new(Connections { limit, open: Mutex::default() })
    }

    /// Returns the place of a new connection; none if there are too many.
    pub(super) fn open(self: &Arc<Self>, who: Who) -> Option<Ticket> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.count >= self.limit {
            return None;
        }
        let (number, closed) = (open.next, CancellationToken::new());
        if let Who::Address(address) = who {
            open.make_place(address.into());
            open.strangers.insert(number, (address.into(), closed.clone()));
        }
        open.next += 1;
        open.count += 1;
        Some(Ticket { number, closed, connections: Arc::clone(self) })
    }
}

impl Open {
    /// Closes the oldest stranger, of this peer if it has too many.
    fn make_place(&mut self, origin: Origin) {
        let of_peer = || self.strangers.iter().filter(|(_, (other, _))| *other == origin);
        let oldest = if of_peer().count() >= MAX_STRANGERS_PER_PEER {
            of_peer().next().map(|(number, _)| *number)
        } else if self.strangers.len() >= MAX_STRANGERS {
            self.strangers.keys().next().copied()
        } else {
            None
        };
        if let Some((_, closed)) = oldest.and_then(|number| self.strangers.remove(&number)) {
            closed.cancel();
        }
    }
}

impl Ticket {
    /// Records that the client has shown who it is.
    pub(super) fn authorised(&self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).strangers.remove(&self.number);
    }

    /// Completes when the connection has to make place for another one.
    pub(super) async fn evicted(&self) {
        self.closed.cancelled().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.strangers.remove(&self.number);
        open.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Who {
        Who::Address(text.parse().expect("an address"))
    }

    #[test]
    fn the_oldest_idle_connection_of_a_peer_makes_place_for_its_next_one() {
        let connections = Connections::new(10_000);
        let other = connections.open(at("10.0.0.2")).expect("a place");
        let known = connections.open(at("10.0.0.1")).expect("a place");
        known.authorised();
        let flood: Vec<Ticket> =
            (0..MAX_STRANGERS_PER_PEER + 3).filter_map(|_| connections.open(at("10.0.0.1"))).collect();
        let closed: Vec<bool> = flood.iter().map(|ticket| ticket.closed.is_cancelled()).collect();
        assert_eq!(closed.iter().filter(|closed| **closed).count(), 3);
        assert!(closed[..3].iter().all(|closed| *closed), "the oldest");
        assert!(!other.closed.is_cancelled() && !known.closed.is_cancelled());
        drop(flood);
        assert_eq!(connections.open.lock().expect("open").strangers.len(), 1);
    }

    #[test]
    fn strangers_are_limited_together_and_users_of_the_socket_are_none() {
        let connections = Connections::new(MAX_STRANGERS + 2);
        let user = connections.open(Who::User(0)).expect("a place");
        let many: Vec<Ticket> = (0..=MAX_STRANGERS)
            .filter_map(|number| connections.open(at(&format!("10.{}.{}.1", number / 250, number % 250))))
            .collect();
        assert!(many[0].closed.is_cancelled() && !many[1].closed.is_cancelled());
        assert!(!user.closed.is_cancelled());
        assert!(connections.open(Who::User(0)).is_none(), "all connections together");
        drop(user);
        assert!(connections.open(Who::User(0)).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
    }
}
