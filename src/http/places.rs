//! Who may hold a connection: so many in all, so many from one address, and who gives way when all is taken.
//!
//! A full house is no reason to refuse everybody: thousands of sockets that never say a word cost an attacker
//! nothing, and would keep out the sender of alerts and the probe that decides whether we are restarted. So the
//! connection that has waited longest without a complete request gives way to the new one, then the one that has
//! rested longest between two requests; whoever speaks at once is served, however many are silent. Only what is
//! being handled never gives way. When nothing else is left, a new connection gets one of a few places in reserve,
//! where health is answered and everything else is told to come back.
//! May import: nothing of this crate. Must never: end a request that has begun.

use crate::model::neighbourhood;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Places beyond the cap, for health and for saying no.
const RESERVE: usize = 64;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    /// No complete request yet, or done and only being closed.
    Waiting(u64),
    /// Answered, nothing new sent.
    Resting(u64),
    /// A request is being handled.
    Busy,
    /// It had to give way.
    Gone,
}

#[derive(Debug, Default)]
struct Peer {
    held: usize,
    waiting: BTreeSet<u64>,
    resting: BTreeSet<u64>,
}

#[derive(Debug)]
struct Holder {
    peer: IpAddr,
    reserve: bool,
    spot: Spot,
    give_way: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    /// Counts up with each move, so that smaller is earlier.
    next: u64,
    holders: HashMap<u64, Holder>,
    peers: HashMap<IpAddr, Peer>,
    /// Turn and holder, outside the reserve.
    waiting: BTreeMap<u64, u64>,
    resting: BTreeMap<u64, u64>,
    held: usize,
    /// Of those in reserve, the ones that wait.
    reserve_waiting: BTreeMap<u64, u64>,
    reserve_held: usize,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_per_peer: usize,
    inner: Mutex<Inner>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    /// Cancelled when the connection has to give way.
    pub(super) give_way: CancellationToken,
    /// Only health is served here.
    pub(super) reserve: bool,
}

impl Places {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `peer`; `None` when even the reserve is taken by requests being answered.
    /// `exempt` is a trusted proxy, behind which everybody has the same address: only the whole cap counts.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr, exempt: bool) -> Option<Place> {
        let peer = neighbourhood(peer);
        let mut inner = self.inner();
        let of_peer = inner.peers.get(&peer).map_or(0, |peer| peer.held);
        let crowded = !exempt && of_peer >= self.most_per_peer;
        let reserve =
            (crowded && !inner.free_of(peer)) || (!crowded && inner.held >= self.most && !inner.free());
        if reserve && inner.reserve_held >= RESERVE && !inner.free_reserve() {
            return None;
        }
        let id = inner.turn();
        let give_way = CancellationToken::new();
        let holder = Holder { peer, reserve, spot: Spot::Busy, give_way: give_way.clone() };
        inner.holders.insert(id, holder);
        if reserve {
            inner.reserve_held += 1;
        } else {
            inner.held += 1;
            inner.peers.entry(peer).or_default().held += 1;
        }
        inner.move_to(id, Spot::Waiting);
        drop(inner);
        Some(Place { places: Arc::clone(self), id, give_way, reserve })
    }
}

impl Inner {
    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes the holder out of where it stands.
    fn lift(&mut self, id: u64) {
        let Some(holder) = self.holders.get_mut(&id) else { return };
        let spot = std::mem::replace(&mut holder.spot, Spot::Busy);
        let (peer, reserve) = (holder.peer, holder.reserve);
        let of_peer = self.peers.get_mut(&peer).filter(|_| !reserve);
        match spot {
            Spot::Waiting(turn) => {
                self.waiting.remove(&turn);
                self.reserve_waiting.remove(&turn);
                if let Some(of_peer) = of_peer {
                    of_peer.waiting.remove(&turn);
                }
            }
            Spot::Resting(turn) => {
                self.resting.remove(&turn);
                self.reserve_waiting.remove(&turn);
                if let Some(of_peer) = of_peer {
                    of_peer.resting.remove(&turn);
                }
            }
            Spot::Busy => {}
            Spot::Gone => holder.spot = Spot::Gone,
        }
    }

    fn move_to(&mut self, id: u64, spot: fn(u64) -> Spot) {
        self.lift(id);
        let turn = self.turn();
        let Some(holder) = self.holders.get_mut(&id).filter(|holder| holder.spot != Spot::Gone) else {
            return;
        };
        holder.spot = spot(turn);
        if holder.reserve {
            // Rest or not, a place in reserve is to be left.
            self.reserve_waiting.insert(turn, id);
            return;
        }
        let of_peer = self.peers.entry(holder.peer).or_default();
        match holder.spot {
            Spot::Waiting(turn) => {
                self.waiting.insert(turn, id);
                of_peer.waiting.insert(turn);
            }
            Spot::Resting(turn) => {
                self.resting.insert(turn, id);
                of_peer.resting.insert(turn);
            }
            Spot::Busy | Spot::Gone => {}
        }
    }

    /// Takes its place from a holder.
    fn evict(&mut self, id: u64) {
        self.lift(id);
        let Some(holder) = self.holders.get_mut(&id) else { return };
        holder.spot = Spot::Gone;
        holder.give_way.cancel();
        let (peer, reserve) = (holder.peer, holder.reserve);
        self.leave(peer, reserve);
    }

    fn leave(&mut self, peer: IpAddr, reserve: bool) {
        if reserve {
            self.reserve_held -= 1;
            return;
        }
        self.held -= 1;
        if let Some(of_peer) = self.peers.get_mut(&peer) {
            of_peer.held -= 1;
            if of_peer.held == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    /// Makes room among all; `false` where everybody is busy.
    fn free(&mut self) -> bool {
        let first = self.waiting.first_key_value().or_else(|| self.resting.first_key_value());
        let Some(id) = first.map(|(_, id)| *id) else { return false };
        self.evict(id);
        true
    }

    /// Makes room among those of one address.
    fn free_of(&mut self, peer: IpAddr) -> bool {
        let Some(of_peer) = self.peers.get(&peer) else { return false };
        let waiting = of_peer.waiting.first().and_then(|turn| self.waiting.get(turn));
        let Some(id) = waiting.or_else(|| self.resting.get(of_peer.resting.first()?)).copied() else {
            return false;
        };
        self.evict(id);
        true
    }

    fn free_reserve(&mut self) -> bool {
        let Some(id) = self.reserve_waiting.first_key_value().map(|(_, id)| *id) else { return false };
        self.evict(id);
        true
    }
}

impl Place {
    /// A request is complete enough to be handled.
    pub(super) fn busy(&self) {
        self.places.inner().lift(self.id);
    }

    /// Everything asked for is answered.
    pub(super) fn resting(&self) {
        self.places.inner().move_to(self.id, Spot::Resting);
    }

    /// Some of a next request has come, or the connection is only being closed.
    pub(super) fn waiting(&self) {
        self.places.inner().move_to(self.id, Spot::Waiting);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.places.inner();
        inner.lift(self.id);
        if let Some(holder) = inner.holders.remove(&self.id)
            && holder.spot != Spot::Gone
        {
            inner.leave(holder.peer, holder.reserve);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Places>, peer: &str) -> Option<Place> {
        places.take(peer.parse().unwrap(), false)
    }

    fn gave_way(place: &Place) -> bool {
        place.give_way.is_cancelled()
    }

    #[test]
    fn t27_the_longest_silent_gives_way_then_the_longest_resting_and_never_the_busy() {
        let places = Places::new(3, 3);
        let [one, two, three] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|peer| take(&places, peer).unwrap());
        two.busy();
        two.resting();
        one.busy();
        let fourth = take(&places, "10.0.0.4").unwrap();
        assert!(gave_way(&three) && !gave_way(&two) && !fourth.reserve);
        fourth.busy();
        let fifth = take(&places, "10.0.0.4").unwrap();
        assert!(gave_way(&two) && !gave_way(&one) && !gave_way(&fourth) && !fifth.reserve);
        fifth.busy();
        let sixth = take(&places, "10.0.0.5").unwrap();
        assert!(sixth.reserve && ![&one, &fourth, &fifth].into_iter().any(gave_way));
        drop(one);
        assert!(!take(&places, "10.0.0.5").unwrap().reserve);
    }

    #[test]
    fn t27_one_address_fills_its_share_and_then_only_its_own_give_way() {
        let places = Places::new(10, 2);
        let other = take(&places, "10.0.0.1").unwrap();
        let mine = [take(&places, "10.0.0.2").unwrap(), take(&places, "10.0.0.2").unwrap()];
        let third = take(&places, "10.0.0.2").unwrap();
        assert!(gave_way(&mine[0]) && !gave_way(&mine[1]) && !gave_way(&other) && !third.reserve);
        mine[1].busy();
        third.busy();
        assert!(take(&places, "10.0.0.2").unwrap().reserve, "all of it is busy");
        assert!(!places.take("10.0.0.2".parse().unwrap(), true).unwrap().reserve, "a trusted proxy");
        assert!(!take(&places, "10.0.0.3").unwrap().reserve);
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_peer() {
        let places = Places::new(10, 1);
        let first = take(&places, "2001:db8::1").unwrap();
        let second = take(&places, "2001:db8::ffff:2").unwrap();
        assert!(gave_way(&first) && !gave_way(&second));
        take(&places, "2001:db8:0:1::1").unwrap();
        assert!(!gave_way(&second));
    }

    #[test]
    fn t27_the_reserve_is_bounded_and_its_silent_give_way_too() {
        let places = Places::new(1, 1);
        let held = take(&places, "10.0.0.1").unwrap();
        held.busy();
        let reserve: Vec<Place> = (0..RESERVE).map(|_| take(&places, "10.0.0.2").unwrap()).collect();
        assert!(reserve.iter().all(|place| place.reserve && !gave_way(place)));
        let next = take(&places, "10.0.0.3").unwrap();
        assert!(gave_way(&reserve[0]) && !gave_way(&reserve[1]));
        next.busy();
        reserve[1..].iter().for_each(Place::busy);
        assert!(take(&places, "10.0.0.3").is_none());
        drop((next, reserve, held));
        let inner = places.inner();
        assert_eq!((inner.held, inner.reserve_held, inner.holders.len(), inner.peers.len()), (0, 0, 0, 0));
        assert!(inner.waiting.is_empty() && inner.resting.is_empty() && inner.reserve_waiting.is_empty());
    }
}
