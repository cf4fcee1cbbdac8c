//! Certificates for tests, each test's from an authority of its own.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};

use crate::TempDir;

/// A certificate authority, and a folder with what it issued.
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    name: String,
}

/// Files of a certificate and its private key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

impl Authority {
    /// An authority of this name.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let dir = TempDir::new()?;
        dir.write("ca.pem", issuer.pem())?;
        Ok(Self { dir, issuer, name: name.to_owned() })
    }

    /// Its own certificate, in PEM.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Issues a certificate for these host names and addresses, to servers and to clients.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(&self, file: &str, names: &[&str]) -> Result<Issued> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, format!("{file} of {}", self.name));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate: self.dir.write(&format!("{file}.pem"), certificate.pem())?,
            key: self.dir.write(&format!("{file}.key"), key.serialize_pem())?,
        })
    }

    /// Signs a request for a certificate, which must be for this host and for no other, to be valid for `lifetime` from
    /// now on: the chain in PEM, and the public key.
    ///
    /// # Errors
    /// When the request is not sound or is for anything else.
    pub(crate) fn sign(&self, request: &[u8], host: &str, lifetime: Duration) -> Result<(String, Vec<u8>)> {
        let mut request = CertificateSigningRequestParams::from_der(&request.into())?;
        let wanted = [SanType::DnsName(Ia5String::try_from(host)?)];
        ensure!(request.params.subject_alt_names == wanted, "it is for {:?}", request.params.subject_alt_names);
        ensure!(request.params.distinguished_name.iter().next().is_none(), "it names a subject");
        let now = SystemTime::now();
        request.params.not_before = now.into();
        request.params.not_after = (now + lifetime).into();
        request.params.use_authority_key_identifier_extension = true;
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = request.public_key.der_bytes().to_vec();
        let chain = format!("{}{}", request.signed_by(&self.issuer)?.pem(), self.issuer.pem());
        Ok((chain, key))
    }
}
