//! What an authority knows, and how it answers.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::jws::{PublicKey, Signed, decode};
use super::{AcmeMood, Shared, validate};
use crate::message::Request;

/// What an authority knows.
pub(super) struct State {
    pub(super) mood: AcmeMood,
    pub(super) violations: Vec<String>,
    pub(super) orders_asked: usize,
    pub(super) issued: Vec<String>,
    pub(super) replacements: usize,
    pub(super) contacts: Vec<Vec<String>>,
    pub(super) advice: Option<(String, String)>,
    nonces: HashSet<String>,
    nonces_made: u64,
    /// By position, which is part of their URLs; `None` once forgotten.
    accounts: Vec<Option<PublicKey>>,
    orders: Vec<Order>,
    /// Public keys that a certificate was issued for.
    keys: HashSet<Vec<u8>>,
}

struct Order {
    account: usize,
    host: String,
    replaces: Option<Value>,
    token: String,
    status: &'static str,
    /// Of its one authorisation, and of that one's challenges.
    proof: &'static str,
    doubt: Option<String>,
    chain: Option<String>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Default for State {
    fn default() -> Self {
        Self {
            mood: AcmeMood::Well,
            violations: Vec::new(),
            orders_asked: 0,
            issued: Vec::new(),
            replacements: 0,
            contacts: Vec::new(),
            advice: None,
            nonces: HashSet::new(),
            nonces_made: 0,
            accounts: Vec::new(),
            orders: Vec::new(),
            keys: HashSet::new(),
        }
    }
}

impl State {
    pub(super) fn forget_accounts(&mut self) {
        self.accounts.iter_mut().for_each(|account| *account = None);
    }

    fn nonce(&mut self) -> String {
        self.nonces_made += 1;
        let nonce = format!("nonce-{}", self.nonces_made);
        self.nonces.insert(nonce.clone());
        nonce
    }
}

impl Answer {
    fn json(status: u16, body: &Value) -> Self {
        Self { status, fields: vec![("Content-Type", "application/json".to_owned())], body: body.to_string() }
    }

    fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Self::json(status, &json!({ "type": kind, "detail": detail, "status": status }))
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }
}

/// Answers a request.
pub(super) fn answer(shared: &Arc<Shared>, request: &Request) -> Answer {
    if shared.state().mood == AcmeMood::Down {
        return Answer::json(503, &json!({ "status": 503, "detail": "down for a while" }));
    }
    let answer = match (request.method.as_str(), request.target.as_str()) {
        _ if request.fields.get("user-agent").is_none_or(str::is_empty) => Err(anyhow::anyhow!("no User-Agent")),
        ("GET", "/dir") => Ok(directory(shared)),
        ("HEAD", "/nonce") => Ok(Answer::json(200, &json!({}))),
        ("GET", target) if target.starts_with("/advice/") => advice(shared, target),
        ("POST", target) => post(shared, target, request).with_context(|| format!("POST {target}")),
        (method, target) => Err(anyhow::anyhow!("{method} {target} is not there")),
    };
    let answer = answer.unwrap_or_else(|error| {
        shared.state().violations.push(format!("{error:#}"));
        Answer::problem(400, "malformed", &format!("{error:#}"))
    });
    let nonce = shared.state().nonce();
    answer.with("Replay-Nonce", nonce)
}

fn directory(shared: &Shared) -> Answer {
    let url = |path: &str| format!("{}/{path}", shared.base);
    let mut directory = json!({
        "newNonce": url("nonce"), "newAccount": url("account"), "newOrder": url("order"),
        "revokeCert": url("revoke"), "keyChange": url("rollover"),
        "meta": { "termsOfService": url("terms"), "externalAccountRequired": shared.options.binding.is_some() },
    });
    if shared.options.advises {
        directory["renewalInfo"] = url("advice").into();
    }
    Answer::json(200, &directory)
}

fn advice(shared: &Shared, target: &str) -> Result<Answer> {
    ensure!(shared.options.advises, "advice was not offered");
    let id = target.trim_start_matches("/advice/");
    ensure!(id.split('.').count() == 2, "{id:?} is not the id of a certificate");
    let Some((start, end)) = shared.state().advice.clone() else {
        return Ok(Answer::problem(404, "malformed", "nothing is known of it").with("Retry-After", "60".to_owned()));
    };
    let window = json!({ "suggestedWindow": { "start": start, "end": end } });
    Ok(Answer::json(200, &window).with("Retry-After", "60".to_owned()))
}

fn post(shared: &Arc<Shared>, target: &str, request: &Request) -> Result<Answer> {
    let kind = request.fields.get("content-type");
    ensure!(kind == Some("application/jose+json"), "the content type is {kind:?}");
    let signed = Signed::read(&serde_json::from_slice(&request.body)?)?;
    let header = &signed.header;
    ensure!(header["url"] == format!("{}{target}", shared.base), "signed for {}", header["url"]);
    let nonce = header["nonce"].as_str().context("no nonce")?;
    if !shared.state().nonces.remove(nonce) {
        bail!("the nonce {nonce} is not one, or was used before");
    }
    let (jwk, kid) = (header.get("jwk"), header.get("kid"));
    if target == "/account" {
        ensure!(kid.is_none(), "a new account has no kid");
        return new_account(shared, &signed, jwk.context("no jwk")?);
    }
    ensure!(jwk.is_none(), "a request of an account has no jwk");
    let kid = kid.and_then(Value::as_str).context("no kid")?;
    let prefix = format!("{}/account/", shared.base);
    let account: usize = kid.strip_prefix(&prefix).context("an unknown kid")?.parse()?;
    let Some(key) = shared.state().accounts.get(account).context("no such account")?.clone() else {
        return Ok(Answer::problem(400, "accountDoesNotExist", "the account is forgotten"));
    };
    signed.verify(&key)?;
    if target == "/order" {
        return new_order(shared, account, signed.payload.as_ref().context("no payload")?);
    }
    let (what, index) = target[1..].split_once('/').context("no such place")?;
    let index: usize = index.parse()?;
    ensure!(shared.state().orders.get(index).is_some_and(|order| order.account == account), "another's order");
    match (what, &signed.payload) {
        ("order", None) => Ok(order(shared, index)),
        ("proof", None) => Ok(proof(shared, index)),
        ("http" | "tls", Some(payload)) => {
            ensure!(*payload == json!({}), "the payload is {payload}");
            challenge(shared, index, what, &key)
        }
        ("finalize", Some(payload)) => finalize(shared, index, payload),
        ("chain", None) => {
            let chain = shared.state().orders[index].chain.clone().context("it is not issued")?;
            Ok(Answer { status: 200, fields: Vec::new(), body: chain })
        }
        _ => bail!("no such place, or not this way"),
    }
}

fn new_account(shared: &Shared, signed: &Signed, jwk: &Value) -> Result<Answer> {
    let key = PublicKey::read(jwk)?;
    signed.verify(&key)?;
    let payload = signed.payload.as_ref().context("no payload")?;
    ensure!(payload["termsOfServiceAgreed"] == true, "the terms are not agreed to");
    match (&shared.options.binding, payload.get("externalAccountBinding")) {
        (None, None) => {}
        (Some(known), Some(binding)) => {
            let url = format!("{}/account", shared.base);
            Signed::read(binding)?.verify_binding(&url, jwk, known).context("the binding")?;
        }
        (Some(_), None) => return Ok(Answer::problem(403, "externalAccountRequired", "a binding is needed")),
        (None, Some(_)) => bail!("a binding was not asked for"),
    }
    let contact = payload["contact"].as_array().cloned().unwrap_or_default();
    let contact: Vec<String> = contact.iter().filter_map(|value| Some(value.as_str()?.to_owned())).collect();
    ensure!(contact.iter().all(|contact| contact.starts_with("mailto:")), "contacts are {contact:?}");
    let mut state = shared.state();
    ensure!(!state.accounts.contains(&Some(key.clone())), "the account is there already");
    state.contacts.push(contact);
    state.accounts.push(Some(key));
    let url = format!("{}/account/{}", shared.base, state.accounts.len() - 1);
    Ok(Answer::json(201, &json!({ "status": "valid" })).with("Location", url))
}

fn new_order(shared: &Shared, account: usize, payload: &Value) -> Result<Answer> {
    let mut state = shared.state();
    state.orders_asked += 1;
    if let AcmeMood::Limiting(secs) = state.mood {
        let refused = Answer::problem(429, "rateLimited", "too many certificates already");
        return Ok(refused.with("Retry-After", secs.to_string()));
    }
    let identifiers = payload["identifiers"].as_array().context("no identifiers")?;
    let [identifier] = identifiers.as_slice() else { bail!("{} identifiers", identifiers.len()) };
    ensure!(identifier["type"] == "dns", "it is not a name: {identifier}");
    let host = identifier["value"].as_str().context("no name")?.to_owned();
    let replaces = payload.get("replaces").cloned();
    if replaces.is_some() {
        ensure!(shared.options.advises, "what is replaced was not asked for");
        state.replacements += 1;
    }
    let index = state.orders.len();
    let token = format!("token-{index}-of-{account}");
    let (status, proof) = ("pending", "pending");
    state.orders.push(Order { account, host, replaces, token, status, proof, doubt: None, chain: None });
    drop(state);
    let mut answer = order(shared, index).with("Location", format!("{}/order/{index}", shared.base));
    answer.status = 201;
    Ok(answer)
}

fn order(shared: &Shared, index: usize) -> Answer {
    let mut state = shared.state();
    let order = &mut state.orders[index];
    let url = |what: &str| format!("{}/{what}/{index}", shared.base);
    let mut body = json!({
        "status": order.status,
        "identifiers": [{ "type": "dns", "value": order.host }],
        "authorizations": [url("proof")],
        "finalize": url("finalize"),
    });
    if let Some(replaces) = &order.replaces {
        body["replaces"] = replaces.clone();
    }
    match order.status {
        "valid" => body["certificate"] = url("chain").into(),
        // Issued by the time that somebody asks again.
        "processing" => order.status = "valid",
        _ => {}
    }
    Answer::json(200, &body)
}

fn proof(shared: &Shared, index: usize) -> Answer {
    let state = shared.state();
    let order = &state.orders[index];
    let challenge = |kind: &str, what: &str| {
        let url = format!("{}/{what}/{index}", shared.base);
        let mut challenge = json!({ "type": kind, "url": url, "token": order.token, "status": order.proof });
        if let Some(doubt) = &order.doubt {
            challenge["error"] = json!({ "type": "urn:ietf:params:acme:error:incorrectResponse", "detail": doubt });
        }
        challenge
    };
    Answer::json(
        200,
        &json!({
            // Only challenges are processed.
            "status": if order.proof == "processing" { "pending" } else { order.proof },
            "identifier": { "type": "dns", "value": order.host },
            "challenges": [
                { "type": "dns-01", "url": format!("{}/dns/{index}", shared.base), "token": order.token,
                  "status": "pending" },
                challenge("http-01", "http"),
                challenge("tls-alpn-01", "tls"),
            ],
        }),
    )
}

fn challenge(shared: &Arc<Shared>, index: usize, what: &str, key: &PublicKey) -> Result<Answer> {
    let (host, token, doubts) = {
        let mut state = shared.state();
        let doubts = state.mood == AcmeMood::Doubting;
        let order = &mut state.orders[index];
        ensure!(order.proof == "pending", "the challenge is {}", order.proof);
        order.proof = "processing";
        (order.host.clone(), order.token.clone(), doubts)
    };
    let (kind, port) = match what {
        "http" => ("http-01", shared.options.http_port),
        _ => ("tls-alpn-01", shared.options.tls_port),
    };
    let url = format!("{}/{what}/{index}", shared.base);
    let body = json!({ "type": kind, "url": url, "token": token, "status": "processing" });
    let (shared, expected) = (Arc::clone(shared), format!("{token}.{}", key.thumbprint));
    std::thread::spawn(move || {
        let found = match kind {
            _ if doubts => Err(anyhow::anyhow!("nobody is believed today")),
            "http-01" => validate::by_http(port, &host, &token, &expected),
            _ => validate::by_tls(port, &host, &expected),
        };
        let mut state = shared.state();
        let order = &mut state.orders[index];
        match found {
            Ok(()) => (order.proof, order.status) = ("valid", "ready"),
            Err(error) => {
                (order.proof, order.status) = ("invalid", "invalid");
                order.doubt = Some(format!("{error:#}"));
            }
        }
    });
    Ok(Answer::json(200, &body))
}

fn finalize(shared: &Shared, index: usize, payload: &Value) -> Result<Answer> {
    let mut state = shared.state();
    ensure!(state.orders[index].status == "ready", "the order is {}", state.orders[index].status);
    let host = state.orders[index].host.clone();
    let request = decode(&payload["csr"])?;
    let signed = shared.issuer.sign(&request, &host, shared.options.lifetime).context("the signing request")?;
    let (chain, key) = signed;
    ensure!(state.keys.insert(key), "a key that a certificate was issued for before");
    state.issued.push(host);
    let found = &mut state.orders[index];
    (found.status, found.chain) = ("processing", Some(chain));
    drop(state);
    Ok(order(shared, index))
}
