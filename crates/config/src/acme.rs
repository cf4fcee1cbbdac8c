//! Certificates from an authority, in the file. Nothing is asked of the network here.

use std::time::Duration;

use ::acme::{AcmeParams, BindingParams, Challenge, IssuerParams};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use breaker::BackoffParams;
use net::tls::{ClientTls, ClientTlsParams, HTTP11, MinVersion, Trust};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::address::is_host_name;
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value, choice, table};
use crate::node::Node;
use crate::quantity::Time;
use crate::tls::Files;
use crate::value::{List, Secret, Switch, Text, invalid, text};

table! {
    /// Certificates that an authority issues by ACME, and that are renewed in time.
    "`acme` of `tls`"
    struct RawAcme {
        /// Hosts to have a certificate for, each its own.
        hosts: List<CertificateHost> = required;
        /// `true` agrees to the authority's terms of service.
        terms_agreed: Switch = false;
        /// Whom the authority may write to.
        email: Email = optional;
        /// URL of the authority's directory. The default is that of Let's Encrypt.
        directory: DirectoryUrl = "https://acme-v02.api.letsencrypt.org/directory";
        /// How it is proven that a host is held here: by an answer on port 80, or in a TLS handshake on port 443.
        challenge: ChallengeWord = "http-01";
        /// Folder of the account and the certificates, relative to the file that names it.
        storage: Text = "./acme";
        /// File with the certificates of authorities to believe when the directory is asked, in PEM. By default the
        /// machine's own.
        ca: Text = optional;
        /// An account that the authority knows already, for those that want one.
        external_account: RawExternalAccount = optional;
        /// Pauses after orders that failed.
        backoff: RawOrderBackoff = {};
    }
}

table! {
    /// External account binding.
    "`external_account` of `acme`"
    struct RawExternalAccount {
        /// Id of the key.
        key_id: Text = required;
        /// The key, as the authority shows it: in base64url. Best taken from a variable.
        hmac_key: Secret = required;
    }
}

table! {
    /// Pauses after orders that failed. Each is drawn from the upper half below a bound that doubles.
    "`backoff` of `acme`"
    struct RawOrderBackoff {
        /// Upper bound of the first pause. An authority that cannot be reached is asked again sooner at first.
        base: Time<1_000, 86_400_000> = "5m";
        /// Upper bound of any pause.
        max: Time<1_000, 604_800_000> = "6h";
    }
}

choice! {
    /// Ways to prove that a host is held here.
    enum ChallengeWord {
        Http01 = "http-01" also "http", "http01", "http_01";
        TlsAlpn01 = "tls-alpn-01" also "tls", "alpn", "tls_alpn", "tlsalpn01", "tls_alpn_01";
    }
}

/// A host that a certificate can be had for, lower case.
#[derive(Clone, Debug)]
pub(crate) struct CertificateHost(pub(crate) String);

/// An address for mail.
#[derive(Clone, Debug)]
pub(crate) struct Email(pub(crate) String);

/// Where an authority begins.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryUrl(pub(crate) String);

/// Implements [`Value`] for a text that a function reads, or says what is wrong and how to mend it.
macro_rules! checked_text {
    ($type:ident, $expected:literal, $read:expr) => {
        impl Value for $type {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
                let read: fn(&str) -> Result<String, (&'static str, Option<String>)> = $read;
                let text = text(node, key, $expected, None, sink)?;
                let wrong = |(problem, fix)| sink.push(invalid(node, key, problem).allowed($expected).fix(fix));
                read(text).map(Self).map_err(wrong).ok()
            }

            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-value": $expected })
            }

            fn effective(&self) -> Json {
                self.0.clone().into()
            }
        }
    };
}

checked_text!(CertificateHost, "a host name such as \"shop.example.com\"", |text| {
    let lower = text.to_ascii_lowercase();
    let write = |text: String| Some(format!("write \"{text}\"")).filter(|_| is_host_name(&text));
    if text.contains('*') {
        return Err((
            "is a wildcard, which needs the challenge dns-01; that is not there",
            Some("name each host, or take a certificate from a file".to_owned()),
        ));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(("has more than a host name", write(host.to_owned())));
    }
    let last = lower.rsplit('.').next().unwrap_or_default();
    if text.starts_with('[') || last.bytes().all(|byte| byte.is_ascii_digit()) && !last.is_empty() {
        return Err(("is an address; certificates are ordered for names", None));
    }
    if let Some((host, _)) = text.rsplit_once(':') {
        return Err(("has a port, which certificates know nothing of", write(host.to_owned())));
    }
    if !is_host_name(&lower) || lower.contains('_') { Err(("is not a host name", None)) } else { Ok(lower) }
});

checked_text!(Email, "an address for mail, such as \"ops@example.com\"", |text| {
    if let Some(bare) = text.strip_prefix("mailto:") {
        return Err(("has more than an address", Some(format!("write \"{bare}\""))));
    }
    let sound = |byte: u8| byte.is_ascii_graphic() && !b"<>,;:?\"".contains(&byte);
    match text.split_once('@') {
        Some((name, host)) if !name.is_empty() && is_host_name(host) && text.bytes().all(sound) => Ok(text.to_owned()),
        _ => Err(("is not an address for mail", None)),
    }
});

checked_text!(DirectoryUrl, "a URL such as \"https://acme-v02.api.letsencrypt.org/directory\"", |text| {
    if let Some(rest) = text.strip_prefix("http://") {
        return Err(("is not under TLS", Some(format!("write \"https://{rest}\""))));
    }
    let Some(rest) = text.strip_prefix("https://") else {
        return Err(("does not begin with https://", None));
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let sound = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#');
    if sound && is_host_name(host) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        Ok(text.to_owned())
    } else {
        Err(("is not the URL of a directory", None))
    }
});

/// What is kept, and by whom it is issued; `None` when something is wrong with it, which has been reported.
pub(crate) fn params(key: &str, raw: &RawAcme, files: &mut Files<'_>, sink: &mut Sink) -> Option<AcmeParams> {
    let hosts = hosts(key, raw, sink);
    if !raw.terms_agreed.value.0 && !raw.failed.contains(&"terms_agreed") {
        let message = "the authority issues nothing before its terms of service are agreed to";
        let diagnostic = Diagnostic::error(raw.terms_agreed.place, format!("{key}.terms_agreed"), message);
        sink.push(diagnostic.fix("read them, then set terms_agreed = true".to_owned()));
    }
    let (base, max) = (&raw.backoff.value.base, &raw.backoff.value.max);
    if base.value.0 > max.value.0 {
        let diagnostic = Diagnostic::error(base.place, format!("{key}.backoff.base"), "the first pause exceeds `max`");
        sink.push(diagnostic.fix("make it shorter, or `max` longer".to_owned()));
    }
    let binding = match &raw.external_account {
        None => None,
        Some(field) => Some(binding(key, &field.value, sink)?),
    };
    let trust = match &raw.ca {
        Some(field) => Trust::Authorities(files.authorities(&format!("{key}.ca"), field, sink)?),
        None => Trust::System,
    };
    let tls = ClientTls::new(ClientTlsParams {
        trust,
        server_name: None,
        certificate: None,
        min_version: MinVersion::Tls12,
        protocol: HTTP11,
    });
    let tls = tls.map_err(|error| sink.push(Diagnostic::error(raw.place, key, error))).ok()?;
    let issuer = IssuerParams {
        directory: raw.directory.value.0.clone(),
        email: raw.email.as_ref().map(|email| email.value.0.clone()),
        storage: files.folder(&raw.storage),
        challenge: match raw.challenge.value {
            ChallengeWord::Http01 => Challenge::Http01,
            ChallengeWord::TlsAlpn01 => Challenge::TlsAlpn01,
        },
        tls,
        binding,
        backoff: BackoffParams { base: base.value.0, max: max.value.0.max(Duration::from_secs(1)) },
    };
    let sound = raw.failed.is_empty() && raw.terms_agreed.value.0 && base.value.0 <= max.value.0;
    Some(AcmeParams { hosts: hosts?, issuer }).filter(|_| sound)
}

fn hosts(key: &str, raw: &RawAcme, sink: &mut Sink) -> Option<Vec<String>> {
    let field = raw.hosts.as_ref()?;
    if field.value.1 == 0 {
        sink.push(
            Diagnostic::error(field.place, format!("{key}.hosts"), "the list is empty")
                .allowed(CertificateHost::expected()),
        );
    }
    let mut hosts: Vec<(&Field<CertificateHost>, String)> = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for (index, host) in field.value.0.iter().enumerate() {
        if let Some(first) = seen.insert(&host.value.0, host.place) {
            let message = format!("the host {:?} is named twice", host.value.0);
            let diagnostic = Diagnostic::error(host.place, format!("{key}.hosts[{index}]"), message);
            sink.push(diagnostic.label("again here").related(first, "first here").fix("remove one".to_owned()));
            return None;
        }
        hosts.push((host, host.value.0.clone()));
    }
    let all = hosts.len() == field.value.1 && !hosts.is_empty();
    all.then(|| hosts.into_iter().map(|(_, host)| host).collect())
}

fn binding(key: &str, raw: &RawExternalAccount, sink: &mut Sink) -> Option<BindingParams> {
    let hmac_key = raw.hmac_key.as_ref()?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(hmac_key.value.0.trim_end_matches('='));
    let Ok(bytes) = bytes else {
        // What it is instead is not said: the key must not be guessed from the message.
        let key = format!("{key}.external_account.hmac_key");
        let diagnostic = Diagnostic::error(hmac_key.place, key, "the key is not in base64url");
        sink.push(diagnostic.fix("write it as the authority shows it".to_owned()));
        return None;
    };
    Some(BindingParams { key_id: raw.key_id.as_ref()?.value.0.clone(), hmac_key: bytes })
}
