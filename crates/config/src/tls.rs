//! TLS in the file: certificates, keys and authorities, which are read from the files that it names.

use std::path::PathBuf;
use std::time::SystemTime;

use ::acme::AcmeParams;
use net::tls::{
    Authorities, Certificate, CertificateError, ClientAuth, ClientTls, ClientTlsParams, MinVersion, Problem,
    ServerName, ServerTls, ServerTlsParams, Trust,
};

use crate::acme::{self, RawAcme};
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, choice, table};
use crate::source::{Place, Sources};
use crate::value::{List, Switch, Text};

table! {
    /// TLS of a listener. One certificate is written as `certificate` and `key`, several as `certificates`.
    "`tls` of `[listener.NAME]`"
    struct RawListenerTls {
        /// File with the certificate and then its intermediates, in PEM, relative to the file that names it. A change of
        /// the file takes effect by itself.
        certificate: Text = optional;
        /// File with its private key, in PEM, without a passphrase.
        key: Text = optional;
        /// Several certificates. Which one is presented follows from the host that a client names; the first one is for
        /// all other clients.
        certificates: List<RawCertificate> = [];
        /// Certificates that an authority issues by itself. By default none.
        acme: RawAcme = optional;
        /// Oldest version of TLS that is spoken.
        min_version: MinVersionWord = "1.2";
        /// File with the certificates of authorities, in PEM: clients are asked for a certificate that one of them has
        /// issued.
        client_ca: Text = optional;
        /// Whether a client without a certificate is refused.
        client_certificate: ClientCertificateWord = "required";
        /// With `kind = "postgres"`: whether clients that do not ask for TLS are refused. By default they are.
        required: Switch = optional;
    }
}

table! {
    /// A certificate and its key.
    "`certificates` of `tls`"
    struct RawCertificate {
        /// File with the certificate and then its intermediates, in PEM.
        certificate: Text = required;
        /// File with its private key, in PEM.
        key: Text = required;
    }
}

table! {
    /// TLS to endpoints, and to the servers of a database. Their certificates are verified.
    "`tls` of `[service.NAME]` and `[database.NAME]`"
    struct RawServiceTls {
        /// File with the certificates of authorities to believe, in PEM. By default the machine's own.
        ca: Text = optional;
        /// Name to ask for, and that the certificate must be for. By default the endpoint's host as written.
        server_name: Text = optional;
        /// File with a certificate to present to endpoints that ask for one, and then its intermediates, in PEM.
        certificate: Text = optional;
        /// File with its private key, in PEM.
        key: Text = optional;
        /// Oldest version of TLS that is spoken.
        min_version: MinVersionWord = "1.2";
        /// `false` believes any certificate. Whoever stands between can read and change everything then.
        verify: Switch = true;
    }
}

choice! {
    /// Versions of TLS.
    enum MinVersionWord {
        Tls12 = "1.2" also "tls1.2", "tlsv1.2", "tls12", "versiontls12";
        Tls13 = "1.3" also "tls1.3", "tlsv1.3", "tls13", "versiontls13";
    }
}

choice! {
    /// What becomes of clients without a certificate.
    enum ClientCertificateWord {
        Required = "required" also "require", "on", "verify", "mandatory";
        Optional = "optional" also "request", "optional_no_ca";
    }
}

impl From<MinVersionWord> for MinVersion {
    fn from(word: MinVersionWord) -> Self {
        match word {
            MinVersionWord::Tls12 => Self::Tls12,
            MinVersionWord::Tls13 => Self::Tls13,
        }
    }
}

/// The files that the configuration names, and which of them were read.
pub(crate) struct Files<'s> {
    sources: &'s Sources,
    now: SystemTime,
    /// A change of any of them changes what runs.
    pub(crate) read: Vec<PathBuf>,
}

impl<'s> Files<'s> {
    pub(crate) fn new(sources: &'s Sources) -> Self {
        Self { sources, now: SystemTime::now(), read: Vec::new() }
    }

    /// The file that a value names, relative to the file where the value stands.
    pub(crate) fn path(&mut self, field: &Field<Text>) -> PathBuf {
        let path = self.folder(field);
        self.read.push(path.clone());
        path
    }

    /// As a path, what a value names whose changes are not the configuration's.
    pub(crate) fn folder(&self, field: &Field<Text>) -> PathBuf {
        let base = self.sources.path(field.place.file).parent();
        base.map_or_else(|| PathBuf::from(&field.value.0), |base| base.join(&field.value.0))
    }

    fn certificate(
        &mut self,
        key: &str,
        (chain, private): (&Field<Text>, &Field<Text>),
        sink: &mut Sink,
    ) -> Option<Certificate> {
        let (chain_file, key_file) = (self.path(chain), self.path(private));
        match Certificate::load(&chain_file, &key_file, self.now) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                let of_key = error.file == key_file && chain_file != key_file;
                let (place, name) = if of_key { (private.place, "key") } else { (chain.place, "certificate") };
                sink.push(unusable(place, &format!("{key}.{name}"), &error));
                None
            }
        }
    }

    pub(crate) fn authorities(&mut self, key: &str, field: &Field<Text>, sink: &mut Sink) -> Option<Authorities> {
        let file = self.path(field);
        let loaded = Authorities::load(&file);
        loaded.map_err(|error| sink.push(unusable(field.place, key, &error))).ok()
    }
}

fn unusable(place: Place, key: &str, error: &CertificateError) -> Diagnostic {
    let fix = match &error.problem {
        Problem::Unreadable(_) => "paths are relative to the file that names them".to_owned(),
        Problem::EncryptedKey => {
            format!("write it without one: openssl pkey -in {} -out KEY", error.file.display())
        }
        Problem::BrokenChain(_) => "put the intermediates behind the certificate, each before its issuer".to_owned(),
        Problem::Expired(..) => "renew it; clients would refuse it".to_owned(),
        Problem::KeyMismatch(_) => "name the key that the certificate was requested with".to_owned(),
        _ => "name a file in PEM".to_owned(),
    };
    Diagnostic::error(place, key, error.to_string()).fix(fix)
}

/// A listener's TLS, and whose certificates are kept for it; `None` when something is wrong with it, which has been
/// reported.
pub(crate) fn server(
    name: &str,
    (raw, protocols): (&RawListenerTls, &[&'static [u8]]),
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<(ServerTls, Option<AcmeParams>)> {
    let key = format!("listener.{name}.tls");
    let mut certificates = Vec::new();
    let mut failed = false;
    let mut add = |found: Option<Certificate>| match found {
        Some(certificate) => certificates.push(certificate),
        None => failed = true,
    };
    if let Some(pair) = pair(&key, raw.place, (&raw.certificate, &raw.key), &raw.failed, sink) {
        add(pair.and_then(|pair| files.certificate(&key, pair, sink)));
    }
    for (index, field) in raw.certificates.value.0.iter().enumerate() {
        let (Some(chain), Some(private)) = (&field.value.certificate, &field.value.key) else { continue };
        add(files.certificate(&format!("{key}.certificates[{index}]"), (chain, private), sink));
    }
    let acme = match &raw.acme {
        None => None,
        Some(field) => {
            let acme = acme::params(&format!("{key}.acme"), &field.value, files, sink);
            failed |= acme.is_none();
            acme
        }
    };
    let nothing = certificates.is_empty() && acme.is_none();
    if nothing && !failed && raw.failed.is_empty() && raw.certificates.value.1 == 0 {
        let diagnostic = Diagnostic::error(raw.place, &key, "there is no certificate");
        sink.push(diagnostic.fix("add certificate = \"FILE\" and key = \"FILE\", or acme = { ... }".to_owned()));
    }
    let client_auth = match &raw.client_ca {
        None => {
            if raw.client_certificate.set {
                let place = raw.client_certificate.place;
                let message = "nobody is named whose certificates are believed";
                let diagnostic = Diagnostic::error(place, format!("{key}.client_certificate"), message);
                sink.push(diagnostic.fix("add client_ca = \"FILE\"".to_owned()));
            }
            None
        }
        Some(field) => Some(ClientAuth {
            authorities: files.authorities(&format!("{key}.client_ca"), field, sink)?,
            required: raw.client_certificate.value == ClientCertificateWord::Required,
        }),
    };
    if failed || nothing {
        return None;
    }
    let min_version = raw.min_version.value.into();
    let managed = acme.as_ref().map_or_else(Vec::new, |acme| acme.hosts.clone());
    let protocols = protocols.to_vec();
    let made = ServerTls::new(ServerTlsParams { certificates, managed, min_version, client_auth, protocols });
    Some((made.map_err(|error| sink.push(Diagnostic::error(raw.place, &key, error))).ok()?, acme))
}

/// TLS to endpoints that speak this protocol, by its name in ALPN; `None` when something is wrong with it, which has been reported.
pub(crate) fn client(
    key: &str,
    (raw, protocol): (&RawServiceTls, &'static [u8]),
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<ClientTls> {
    let key = format!("{key}.tls");
    let certificate = match pair(&key, raw.place, (&raw.certificate, &raw.key), &raw.failed, sink) {
        None => None,
        Some(pair) => Some(files.certificate(&key, pair?, sink)?),
    };
    if let (Some(ca), false) = (&raw.ca, raw.verify.value.0) {
        let diagnostic =
            Diagnostic::error(raw.verify.place, format!("{key}.verify"), "nothing is verified by this `ca`")
                .related(ca.place, "the authorities");
        sink.push(diagnostic.fix("remove one of the two".to_owned()));
        return None;
    }
    let trust = match &raw.ca {
        Some(field) => Trust::Authorities(files.authorities(&format!("{key}.ca"), field, sink)?),
        None if raw.verify.value.0 => Trust::System,
        None => Trust::Anyone,
    };
    let server_name = match &raw.server_name {
        None => None,
        Some(field) => match ServerName::try_from(field.value.0.clone()) {
            Ok(name) => Some(name),
            Err(_) => {
                let message = format!("{:?} is not a host name", field.value.0);
                sink.push(Diagnostic::error(field.place, format!("{key}.server_name"), message));
                return None;
            }
        },
    };
    let min_version = raw.min_version.value.into();
    let made = ClientTls::new(ClientTlsParams { trust, server_name, certificate, min_version, protocol });
    made.map_err(|error| sink.push(Diagnostic::error(raw.place, &key, error))).ok()
}

/// A certificate and its key, of which there must be both or none. `Some(None)` when one is missing or could not be
/// read.
fn pair<'r>(
    key: &str,
    place: Place,
    (certificate, private): (&'r Option<Field<Text>>, &'r Option<Field<Text>>),
    failed: &[&str],
    sink: &mut Sink,
) -> Option<Option<(&'r Field<Text>, &'r Field<Text>)>> {
    let (present, missing) = match (certificate, private) {
        (None, None) => return None,
        (Some(certificate), Some(private)) => return Some(Some((certificate, private))),
        (Some(_), None) => ("certificate", "key"),
        (None, Some(_)) => ("key", "certificate"),
    };
    if !failed.contains(&missing) {
        let diagnostic = Diagnostic::error(place, key, format!("there is a {present} without its {missing}"));
        sink.push(diagnostic.fix(format!("add {missing} = \"FILE\"")));
    }
    Some(None)
}
