//! A certificate authority of the test's own.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Issues certificates that only those trust who were given [`Authority::pem`].
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("the ring provider makes P-256 keys");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are complete");
        Self { issuer }
    }

    /// The root certificate, for `tls_ca_file`.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key of a server that is called `name`, in PEM.
    pub fn pair(&self, name: &str) -> (String, String) {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Certificate and key of a client, in PEM.
    pub fn client(&self, name: &str) -> (String, String) {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().expect("the ring provider makes P-256 keys");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("the name is a DNS name or an address");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).expect("the issuer can sign");
        (certificate.pem(), key.serialize_pem())
    }

    /// What a server that is called `name` needs.
    pub fn server(&self, name: &str) -> ServerConfig {
        let key = KeyPair::generate().expect("the ring provider makes P-256 keys");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("the name is a DNS name");
        let certificate = params.signed_by(&key, &self.issuer).expect("the issuer can sign");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together")
    }
}
