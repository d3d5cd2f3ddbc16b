//! Cipher suites and groups that tell the handshake which is being polled on this thread when keys are made with them:
//! thin wrappers around those of the library, with the same algorithms and the same names. Once keys are made they
//! are out of the way.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
    UnsupportedOperationError,
};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup, ring};
use rustls::{
    CipherSuite, CipherSuiteCommon, ConnectionTrafficSecrets, Error, NamedGroup, SupportedCipherSuite,
    Tls12CipherSuite, Tls13CipherSuite,
};

/// The same suites and groups, watched.
pub(in super::super) fn watched(mut provider: CryptoProvider) -> CryptoProvider {
    for suite in &mut provider.cipher_suites {
        *suite = SUITES.iter().find(|watched| watched.suite() == suite.suite()).copied().unwrap_or(*suite);
    }
    for group in &mut provider.kx_groups {
        if let Some(watched) = GROUPS.iter().find(|watched| watched.0.name() == group.name()) {
            *group = watched;
        }
    }
    provider
}

thread_local! {
    static HANDSHAKE: Cell<Option<Chosen>> = const { Cell::new(None) };
}

/// What a handshake has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chosen {
    suite: Option<(&'static str, CipherSuite)>,
    /// `None` where no keys are exchanged, because a session of TLS 1.2 is resumed.
    group: Option<NamedGroup>,
}

impl Chosen {
    /// Is told what is used while `step` of the handshake runs.
    pub fn during<T>(&mut self, step: impl FnOnce() -> T) -> T {
        HANDSHAKE.set(Some(*self));
        let done = step();
        *self = HANDSHAKE.take().unwrap_or_default();
        done
    }

    /// `TLSv1.3 TLS_AES_256_GCM_SHA384 X25519`. Nothing where there was no handshake.
    pub fn text(&self) -> Option<Arc<str>> {
        let (version, suite) = self.suite?;
        let suite = format!("{suite:?}").replacen("TLS13_", "TLS_", 1);
        let group = self.group.map_or_else(|| "resumed".to_owned(), |group| format!("{group:?}"));
        Some(format!("{version} {suite} {group}").into())
    }

    /// Keys that are made outside of a handshake (they are renewed later on) change nothing.
    fn tell(change: impl FnOnce(&mut Self)) {
        if let Some(mut chosen) = HANDSHAKE.get() {
            change(&mut chosen);
            HANDSHAKE.set(Some(chosen));
        }
    }
}

/// They live as long as the process: the library wants that.
static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
    let watched = |suite: &SupportedCipherSuite| match *suite {
        SupportedCipherSuite::Tls13(suite) => SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
            common: common(&suite.common),
            aead_alg: Box::leak(Box::new(Aead13(suite))),
            ..*suite
        }))),
        SupportedCipherSuite::Tls12(suite) => SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
            common: common(&suite.common),
            aead_alg: Box::leak(Box::new(Aead12(suite))),
            ..*suite
        }))),
    };
    ring::ALL_CIPHER_SUITES.iter().map(watched).collect()
});

static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| ring::ALL_KX_GROUPS.iter().map(|group| Group(*group)).collect());

fn common(of: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: of.suite,
        hash_provider: of.hash_provider,
        confidentiality_limit: of.confidentiality_limit,
    }
}

struct Aead13(&'static Tls13CipherSuite);

impl Tls13AeadAlgorithm for Aead13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Chosen::tell(|chosen| chosen.suite = Some(("TLSv1.3", self.0.common.suite)));
        self.0.aead_alg.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.aead_alg.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.aead_alg.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.aead_alg.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.aead_alg.fips()
    }
}

struct Aead12(&'static Tls12CipherSuite);

impl Tls12AeadAlgorithm for Aead12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Chosen::tell(|chosen| chosen.suite = Some(("TLSv1.2", self.0.common.suite)));
        self.0.aead_alg.encrypter(key, iv, extra)
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.aead_alg.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.aead_alg.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.aead_alg.extract_keys(key, iv, explicit)
    }

    fn fips(&self) -> bool {
        self.0.aead_alg.fips()
    }
}

#[derive(Debug)]
struct Group(&'static dyn SupportedKxGroup);

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Exchange(self.0.start()?)))
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// A share may be offered and not be taken up: it counts when the partner's is there too.
struct Exchange(Box<dyn ActiveKeyExchange>);

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer_pub_key: &[u8]) -> Result<SharedSecret, Error> {
        Chosen::tell(|chosen| chosen.group = Some(self.0.group()));
        self.0.complete(peer_pub_key)
    }

    fn pub_key(&self) -> &[u8] {
        self.0.pub_key()
    }

    fn group(&self) -> NamedGroup {
        self.0.group()
    }
}
