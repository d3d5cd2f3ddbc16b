//! The algorithms of `fips: required`: those that NIST approves and that validated modules offer, for TLS and for
//! SSH. Approved algorithms are not a validated module: what that takes is in docs/security.md.
//!
//! Ed25519 is approved since FIPS 186-5, but few validated modules have it: it is left out. X25519, ChaCha20 and
//! SHA-1 are not approved.

use std::sync::LazyLock;

use hms_actors::failure::Failure;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{SignatureVerificationAlgorithm, alg_id};
use rustls::{CipherSuite, NamedGroup, SignatureScheme};
use ssh2::{MethodType, Session};

type Verifiers = &'static [&'static dyn SignatureVerificationAlgorithm];

const SUITES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

const GROUPS: [NamedGroup; 3] = [NamedGroup::secp256r1, NamedGroup::secp384r1, NamedGroup::secp521r1];

const KEX: &[&str] = &[
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
];
const HOST_KEYS: &[&str] =
    &["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256"];
const CIPHERS: &[&str] =
    &["aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr"];
const MACS: &[&str] =
    &["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"];

/// What is negotiated in an SSH handshake, and what may come of it.
pub fn ssh() -> [(MethodType, &'static str, &'static [&'static str]); 6] {
    [
        (MethodType::Kex, "key exchange", KEX),
        (MethodType::HostKey, "host key", HOST_KEYS),
        (MethodType::CryptCs, "cipher to the server", CIPHERS),
        (MethodType::CryptSc, "cipher from the server", CIPHERS),
        (MethodType::MacCs, "MAC to the server", MACS),
        (MethodType::MacSc, "MAC from the server", MACS),
    ]
}

/// Whether a type of host key, or a method that signs with one, is approved.
pub fn is_host_key(method: &str) -> bool {
    HOST_KEYS.contains(&method)
}

/// `provider` with nothing but approved algorithms.
pub fn tls(provider: CryptoProvider) -> CryptoProvider {
    let mut provider = provider;
    provider.cipher_suites.retain(|suite| SUITES.contains(&suite.suite()));
    provider.kx_groups.retain(|group| GROUPS.contains(&group.name()));
    provider.signature_verification_algorithms = WebPkiSupportedAlgorithms { all: &VERIFIERS, mapping: &MAPPING };
    provider
}

/// Of rustls, which wants them to live as long as the process.
static VERIFIERS: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
    let all = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    all.iter().copied().filter(|verifier| verifier.public_key_alg_id() != alg_id::ED25519).collect()
});

static MAPPING: LazyLock<Vec<(SignatureScheme, Verifiers)>> = LazyLock::new(|| {
    let all = rustls::crypto::ring::default_provider().signature_verification_algorithms.mapping;
    all.iter().copied().filter(|(scheme, _)| *scheme != SignatureScheme::ED25519).collect()
});

/// Whether the libraries that are linked can do with approved algorithms alone. A node that can't does not start.
pub fn check() -> Result<(), Failure> {
    let missing = |what: &str, why: &dyn std::fmt::Display| {
        Failure::configuration(format!(
            "`fips: required`: the linked libraries have no approved algorithm for {what} ({why}); use another build, \
             or remove the key from hms.yaml"
        ))
    };
    let tls = tls(rustls::crypto::ring::default_provider());
    if tls.cipher_suites.is_empty() || tls.kx_groups.is_empty() || MAPPING.is_empty() {
        return Err(missing("TLS", &"cipher suites, groups or signatures"));
    }
    let session = Session::new().map_err(|error| missing("SSH", &error))?;
    for (method, words, approved) in ssh() {
        session.method_pref(method, &approved.join(",")).map_err(|error| missing(&format!("SSH, {words}"), &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linked_libraries_can_do_with_approved_algorithms() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn nothing_that_is_not_approved_is_offered_over_tls() {
        let provider = tls(rustls::crypto::ring::default_provider());
        let shown = format!("{provider:?}");
        for offender in ["CHACHA20", "X25519", "ED25519"] {
            assert!(!shown.contains(offender), "{offender}: {shown}");
        }
        let plain = format!("{:?}", rustls::crypto::ring::default_provider());
        assert!(plain.contains("CHACHA20") && plain.contains("X25519") && plain.contains("ED25519"));
        assert!(provider.cipher_suites.len() == SUITES.len() && provider.kx_groups.len() >= 2, "{shown}");
    }

    #[test]
    fn nothing_that_is_not_approved_is_offered_over_ssh() {
        for (_, _, approved) in ssh() {
            for offender in ["25519", "chacha20", "sha1", "md5", "cbc", "3des", "mlkem", "umac"] {
                assert!(!approved.iter().any(|name| name.contains(offender)), "{offender}: {approved:?}");
            }
        }
    }
}
