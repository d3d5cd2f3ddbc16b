//! How often one address may present a wrong token. The memory is of a fixed size: addresses that fall into one place share
//! their count, which harms nobody, because a valid token is never asked for it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens in a row that are answered as such, and how long it takes until there is room for one more.
const BURST: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

const PLACES: usize = 4_096;

pub struct Throttle {
    /// Until when each place's failures are remembered.
    forgotten_at: Mutex<Vec<Option<Instant>>>,
    /// Seeded at random: nobody can aim at another's place.
    hasher: RandomState,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { forgotten_at: Mutex::new(vec![None; PLACES]), hasher: RandomState::new() }
    }
}

impl Throttle {
    /// Counts a wrong token; an error says how long to wait, and does not count.
    pub fn failed(&self, peer: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let place = self.hasher.hash_one(peer.map(network)) as usize % PLACES;
        let mut all = self.forgotten_at.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten_at = all[place].map_or(now, |at| at.max(now)) + PAUSE;
        let ahead = forgotten_at.duration_since(now);
        if ahead > PAUSE * BURST {
            return Err(ahead - PAUSE * BURST);
        }
        all[place] = Some(forgotten_at);
        Ok(())
    }
}

/// Who has one address of IPv6 has a network of them.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(peer) => IpAddr::V6((peer.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_goes_on_failing_is_told_to_wait_and_others_are_not() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let guesser = "192.0.2.1".parse().ok();
        for _ in 0..BURST {
            assert_eq!(throttle.failed(guesser, now), Ok(()));
        }
        assert_eq!(throttle.failed(guesser, now), Err(PAUSE));
        assert_eq!(throttle.failed(guesser, now), Err(PAUSE), "asking does not make it longer");
        // Of a hundred others hardly one shares its place.
        let others = (2..102).filter(|n| throttle.failed(format!("192.0.2.{n}").parse().ok(), now).is_ok());
        assert!(others.count() > 90);
        assert_eq!(throttle.failed(guesser, now + PAUSE), Ok(()));
        assert_eq!(throttle.failed(guesser, now + PAUSE), Err(PAUSE));
        assert_eq!(throttle.failed(guesser, now + PAUSE * 1_000), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_that_of_ipv4() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }
}
