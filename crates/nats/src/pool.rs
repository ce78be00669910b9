//! Which server is tried next, and when.
//!
//! The pool holds the servers of the settings for ever, and those that a cluster names for as long as it
//! names them. The one with the fewest failures since the last settled connection is tried first;
//! among equals chance decides, so that clients spread, and the server that was just left comes last.
//!
//! [Delays](crate::backoff) grow from try to try, over all servers, until a connection has settled.

use std::net::IpAddr;
use std::time::Duration;

use crate::backoff::{delay, scatter};

/// So many servers of a cluster are remembered.
const MAX_DISCOVERED: usize = 64;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS must be used.
    pub tls: bool,
    /// The name that its certificate must bear, where that is not the host.
    pub tls_name: Option<String>,
}

impl Address {
    /// `host:port`, IPv6 in brackets, as servers name each other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port, tls: false, tls_name: None })
    }

    /// `host:port`, IPv6 in brackets.
    #[must_use]
    pub fn text(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

#[derive(Clone, Debug)]
struct Server {
    address: Address,
    discovered: bool,
    failures: u32,
    /// When it was last left, in the order of leaving; 0 if never.
    left: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Pool {
    servers: Vec<Server>,
    jitter: u64,
    tries: u32,
    refused: bool,
    is_settled: bool,
    leavings: u64,
}

impl Pool {
    /// The servers of the settings. Equal seeds give equal choices and delays.
    #[must_use]
    pub fn new(addresses: &[Address], seed: u64) -> Self {
        let server =
            |address: &Address| Server { address: address.clone(), discovered: false, failures: 0, left: 0 };
        // Zero is the one state that xorshift never leaves.
        Self {
            servers: addresses.iter().map(server).collect(),
            jitter: seed.max(1),
            tries: 0,
            refused: false,
            is_settled: false,
            leavings: 0,
        }
    }

    /// The server to try next, and how long to wait before. `None` if there is none at all.
    pub fn choose(&mut self) -> Option<(Address, Duration)> {
        self.tries = self.tries.saturating_add(1);
        let random = self.random();
        let delay = delay(self.tries, self.refused, random);
        let best = self.servers.iter().map(|s| (s.failures, s.left)).min()?;
        let equals: Vec<usize> = self
            .servers
            .iter()
            .enumerate()
            .filter(|(_, server)| (server.failures, server.left) == best)
            .map(|(n, _)| n)
            .collect();
        let pick = usize::try_from(self.random() % equals.len().max(1) as u64).unwrap_or(0);
        let server = self.servers.get(*equals.get(pick)?)?;
        Some((server.address.clone(), delay))
    }

    /// Whether there is a server at another address.
    #[must_use]
    pub fn has_other(&self, address: &Address) -> bool {
        self.servers.iter().any(|server| !server.address.is(address))
    }

    /// How many servers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// A try came to nothing; `refused`: for who we are.
    pub fn failed(&mut self, address: &Address, refused: bool) {
        self.refused = refused;
        if let Some(server) = self.find(address) {
            server.failures = server.failures.saturating_add(1);
        }
    }

    /// A connection was made. Delays begin anew only once it has [settled](Self::settled): a server may
    /// accept connections and end them at once.
    pub const fn connected(&mut self) {
        self.refused = false;
        self.is_settled = false;
    }

    /// The connection has lasted for a while: clears all failure counts.
    pub fn settled(&mut self) {
        self.tries = 0;
        self.is_settled = true;
        for server in &mut self.servers {
            server.failures = 0;
        }
    }

    /// The connection was lost, or is about to be. One that had not settled counts as a try that failed.
    pub fn left(&mut self, address: &Address) {
        self.leavings += 1;
        let (leavings, failures) = (self.leavings, u32::from(!self.is_settled));
        if let Some(server) = self.find(address) {
            server.left = leavings;
            server.failures = server.failures.saturating_add(failures);
        }
    }

    /// The server that is connected names its cluster. Servers named by address have the certificate of
    /// the one that names them.
    pub fn discovered(&mut self, by: &Address, named: &[String]) {
        let name =
            by.tls_name.clone().or_else(|| by.host.parse::<IpAddr>().is_err().then(|| by.host.clone()));
        let named: Vec<Address> = named
            .iter()
            .take(MAX_DISCOVERED)
            .filter_map(|text| Address::parse(text))
            .map(|address| {
                let by_number = address.host.parse::<IpAddr>().is_ok();
                Address { tls: by.tls, tls_name: name.clone().filter(|_| by_number), ..address }
            })
            .collect();
        self.servers.retain(|server| {
            !server.discovered || server.address.is(by) || named.iter().any(|a| a.is(&server.address))
        });
        for address in named {
            if self.find(&address).is_none() {
                self.servers.push(Server { address, discovered: true, failures: 0, left: 0 });
            }
        }
    }

    fn find(&mut self, address: &Address) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.address.is(address))
    }

    fn random(&mut self) -> u64 {
        self.jitter = scatter(self.jitter);
        self.jitter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn pool(texts: &[&str]) -> Pool {
        Pool::new(&texts.iter().map(|text| address(text)).collect::<Vec<_>>(), 7)
    }

    fn next(pool: &mut Pool) -> String {
        pool.choose().unwrap().0.text()
    }

    #[test]
    fn addresses_are_read_as_servers_write_them() {
        assert_eq!(address("10.0.0.1:4222").text(), "10.0.0.1:4222");
        assert_eq!(
            (address("[::1]:5").host.as_str(), address("[::1]:5").text()),
            ("::1", "[::1]:5".to_owned())
        );
        for text in ["", "a", "a:", ":1", "a:0", "a:65536", "a:x"] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn delays_grow_until_a_connection_has_settled() {
        let mut pool = pool(&["a:1"]);
        let delays: Vec<_> = (0..20).map(|_| pool.choose().unwrap().1).collect();
        assert!(delays[0] < delays[19] && delays[19] >= Duration::from_secs(1), "{delays:?}");
        pool.connected();
        assert!(pool.choose().unwrap().1 >= Duration::from_secs(1), "it may end at once");
        pool.settled();
        assert!(pool.choose().unwrap().1 <= Duration::from_millis(100));
        pool.failed(&address("a:1"), true);
        assert!(pool.choose().unwrap().1 >= Duration::from_millis(500), "a refusal waits longer");
    }

    #[test]
    fn different_seeds_come_at_different_times() {
        let delays = |seed| {
            let mut pool = Pool::new(&[address("a:1")], seed);
            (0..9).map(|_| pool.choose().unwrap().1).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
        assert_eq!(delays(1), delays(1));
    }

    #[test]
    fn every_server_is_tried_and_the_one_just_left_comes_last() {
        let mut pool = pool(&["a:1", "b:1", "c:1"]);
        pool.settled();
        pool.left(&address("b:1"));
        let mut tried = Vec::new();
        for _ in 0..3 {
            let server = next(&mut pool);
            pool.failed(&address(&server), false);
            tried.push(server);
        }
        assert_eq!(tried[2], "b:1");
        tried.sort();
        assert_eq!(tried, ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn a_server_that_ends_connections_at_once_does_not_keep_the_others_from_their_turn() {
        let mut pool = pool(&["a:1", "b:1"]);
        pool.failed(&address("a:1"), false);
        let tried: Vec<_> = (0..6)
            .map(|_| {
                let server = next(&mut pool);
                pool.connected();
                pool.left(&address(&server));
                server
            })
            .collect();
        assert_eq!(tried, ["b:1", "a:1", "b:1", "a:1", "b:1", "a:1"]);
    }

    #[test]
    fn an_outage_of_all_is_forgotten_once_a_connection_has_settled() {
        let mut pool = pool(&["a:1", "b:1"]);
        for _ in 0..100 {
            let server = next(&mut pool);
            pool.failed(&address(&server), false);
        }
        pool.connected();
        pool.settled();
        pool.left(&address("a:1"));
        assert_eq!(next(&mut pool), "b:1");
    }

    #[test]
    fn a_cluster_adds_its_servers_and_takes_them_away() {
        let mut pool = Pool::new(&[Address { tls: true, ..address("nats.example:4222") }], 7);
        let by = pool.choose().unwrap().0;
        pool.discovered(
            &by,
            &["10.0.0.2:4222".to_owned(), "other.example:4222".to_owned(), "junk".to_owned()],
        );
        assert_eq!(pool.len(), 3);
        let found = |pool: &Pool, host: &str| pool.servers.iter().find(|s| s.address.host == host).cloned();
        let second = found(&pool, "10.0.0.2").unwrap().address;
        assert_eq!((second.tls, second.tls_name.as_deref()), (true, Some("nats.example")));
        assert_eq!(found(&pool, "other.example").unwrap().address.tls_name, None);
        pool.discovered(&by, &["10.0.0.3:4222".to_owned()]);
        assert_eq!(
            pool.len(),
            2,
            "what the cluster no longer names is forgotten, what the settings name is not"
        );
        assert!(found(&pool, "nats.example").is_some() && found(&pool, "10.0.0.3").is_some());
    }
}
