use testkit::message::{self, Read, Request, Response};

use super::row::{Answer, Expect, Meaning, Row};

/// What was seen of a row from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// Every byte that the client received.
    pub(super) received: Vec<u8>,
    /// Whether the connection had ended when the row was over.
    pub(super) ended: bool,
    /// What arrived at the upstream, by connection.
    pub(super) upstream: Vec<Vec<u8>>,
}

/// What the client's bytes and the upstream's say when they are read strictly.
struct Reading {
    responses: Vec<Response>,
    /// Whether bytes are left over that are no whole response.
    torn: bool,
    requests: Vec<Request>,
    ended: bool,
}

/// The methods of the requests whose answers a row awaits at most.
pub(super) fn methods(row: &Row) -> Vec<&'static str> {
    match &row.expect {
        Expect::Forwarded(meanings) | Expect::Either(_, meanings) => meanings.iter().map(|m| m.method).collect(),
        Expect::Answered(answers) => answers.iter().map(|answer| answer.method).collect(),
        Expect::Then(first, []) => vec![first.method],
        Expect::Then(first, _) => vec![first.method, "GET"],
        Expect::Isolated { .. } => vec!["GET", "GET"],
        Expect::Refused(_) | Expect::Dropped | Expect::Broken => vec!["GET"],
    }
}

/// Judges what was seen.
///
/// # Errors
/// Why it is not what the row allows.
pub(super) fn judge(row: &Row, seen: &Observed) -> Result<(), String> {
    let reading = read(row, seen)?;
    match &row.expect {
        Expect::Refused(statuses) => refused(&reading, statuses),
        Expect::Dropped => dropped(&reading),
        Expect::Forwarded(meanings) => forwarded(&reading, meanings),
        Expect::Either(statuses, meanings) => match reading.responses.first() {
            Some(response) if statuses.contains(&response.status) => refused(&reading, statuses),
            _ => forwarded(&reading, meanings),
        },
        Expect::Then(first, statuses) => then(&reading, first, statuses),
        Expect::Answered(answers) => answered(&reading, answers),
        Expect::Isolated { status, targets } => isolated(&reading, *status, targets),
        Expect::Broken => broken(&reading),
    }
}

fn read(row: &Row, seen: &Observed) -> Result<Reading, String> {
    let mut requests = Vec::new();
    for bytes in &seen.upstream {
        // In a tunnel, what follows the head is no HTTP; rows with tunnels send nothing after it.
        let (whole, _) =
            message::requests(bytes).map_err(|error| format!("to the upstream: {error}: {}", shown(bytes)))?;
        requests.extend(whole);
    }
    let mut responses = Vec::new();
    let mut rest = seen.received.as_slice();
    for method in methods(row) {
        let read = message::response(rest, method, seen.ended).map_err(|error| format!("to the client: {error}"))?;
        let Read::Whole(response, len) = read else { break };
        rest = &rest[len..];
        let is_last = response.status == 101;
        responses.push(response);
        if is_last {
            rest = &[];
            break;
        }
    }
    Ok(Reading { responses, torn: !rest.is_empty(), requests, ended: seen.ended })
}

fn refused(reading: &Reading, statuses: &[u16]) -> Result<(), String> {
    ensure(reading.requests.is_empty(), || format!("reached the upstream: {:?}", reading.requests))?;
    let found = statuses_of(reading);
    ensure(found.len() == 1 && statuses.contains(&found[0]), || format!("answered {found:?}, expected {statuses:?}"))?;
    ensure(!reading.torn, || "more bytes follow the answer".to_owned())?;
    ensure(reading.ended, || "the connection stays open after it was refused".to_owned())
}

fn dropped(reading: &Reading) -> Result<(), String> {
    ensure(reading.requests.is_empty(), || format!("reached the upstream: {:?}", reading.requests))?;
    let found = statuses_of(reading);
    ensure(found.iter().all(|status| [400, 408].contains(status)), || format!("answered {found:?}"))?;
    ensure(!reading.torn, || "bytes that are no answer".to_owned())?;
    ensure(reading.ended, || "the connection stays open".to_owned())
}

fn forwarded(reading: &Reading, meanings: &[Meaning]) -> Result<(), String> {
    let found = statuses_of(reading);
    ensure(found.len() == meanings.len() && found.iter().all(|&status| status == 200), || {
        format!("answered {found:?}, expected {} times 200", meanings.len())
    })?;
    ensure(!reading.torn, || "more bytes follow the answers".to_owned())?;
    same(&reading.requests, meanings)
}

fn then(reading: &Reading, first: &Meaning, statuses: &[u16]) -> Result<(), String> {
    same(&reading.requests, std::slice::from_ref(first))?;
    let found = statuses_of(reading);
    let fits = match found[..] {
        [200] => statuses.is_empty(),
        [200, second] => statuses.contains(&second),
        _ => false,
    };
    ensure(fits && !reading.torn, || format!("answered {found:?}, expected 200 and then {statuses:?}"))?;
    ensure(reading.ended, || "the connection stays open".to_owned())
}

fn answered(reading: &Reading, answers: &[Answer]) -> Result<(), String> {
    let found = statuses_of(reading);
    ensure(found.len() == answers.len(), || format!("answered {found:?}, expected {} answers", answers.len()))?;
    ensure(!reading.torn, || "more bytes follow the answers".to_owned())?;
    for (response, answer) in reading.responses.iter().zip(answers) {
        ensure(answer.statuses.contains(&response.status), || format!("answered {found:?}"))?;
        if let Some(body) = answer.body {
            ensure(response.text() == body, || format!("body {:?}, expected {body:?}", response.text()))?;
        }
        let unwanted = answer.lacks.iter().find(|name| response.fields.get(name).is_some());
        ensure(unwanted.is_none(), || format!("has the field {unwanted:?}"))?;
    }
    Ok(())
}

fn isolated(reading: &Reading, status: u16, targets: &[&str]) -> Result<(), String> {
    let found = statuses_of(reading);
    let first = found.first() == Some(&status);
    ensure(first, || format!("answered {found:?}, expected {status} first"))?;
    let rest = found[1..].iter().all(|&status| status == 200);
    ensure(rest && !reading.torn, || format!("answered {found:?}, and then something else than 200"))?;
    ensure(found.len() > 1 || reading.ended, || "the second request is not answered".to_owned())?;
    let stray = reading.requests.iter().find(|request| !targets.contains(&request.target.as_str()));
    ensure(stray.is_none(), || format!("reached the upstream: {stray:?}"))
}

fn broken(reading: &Reading) -> Result<(), String> {
    let found = statuses_of(reading);
    ensure(reading.ended || found == [502], || "the connection stays open".to_owned())?;
    let torn = reading.torn && found.is_empty();
    // A connection that ends without a byte of an answer is a failure that every client sees.
    let nothing = !reading.torn && found.is_empty();
    ensure(torn || nothing || found == [502], || format!("passed as whole: {found:?}"))
}

/// Whether requests that reached the upstream mean these and nothing else.
pub(in crate::conformance) fn same(requests: &[Request], meanings: &[Meaning]) -> Result<(), String> {
    let lines = || requests.iter().map(|request| format!("{} {}", request.method, request.target)).collect::<Vec<_>>();
    ensure(requests.len() == meanings.len(), || {
        format!("{} requests reached the upstream: {:?}", requests.len(), lines())
    })?;
    requests.iter().zip(meanings).try_for_each(|(request, meaning)| means(request, meaning))
}

fn means(request: &Request, meaning: &Meaning) -> Result<(), String> {
    let line = (request.method.as_str(), request.target.as_str());
    ensure(line == (meaning.method, meaning.target), || format!("the request line became {line:?}"))?;
    if let Some(host) = meaning.host {
        let found = request.fields.get("host");
        ensure(found == Some(host), || format!("Host became {found:?}, expected {host}"))?;
    }
    ensure(request.body == meaning.body, || format!("the body became {}", shown(&request.body)))?;
    for name in meaning.lacks {
        let found = request.fields.get(name).or_else(|| request.trailers.get(name));
        ensure(found.is_none(), || format!("{name} was passed on: {found:?}"))?;
    }
    for name in ["content-length", "transfer-encoding", "host"] {
        ensure(request.trailers.get(name).is_none(), || format!("{name} was passed on as a trailer"))?;
    }
    for (name, value) in meaning.has {
        let found: Vec<_> = request.fields.all(name).collect();
        let fits = found.len() == 1 && (value.is_empty() || found[0] == *value);
        ensure(fits, || format!("{name} became {found:?}, expected {value:?}"))?;
    }
    for text in meaning.lacks_text {
        let found = request.fields.iter().find(|(_, value)| value.contains(text));
        ensure(found.is_none(), || format!("passed on: {found:?}"))?;
    }
    Ok(())
}

fn statuses_of(reading: &Reading) -> Vec<u16> {
    reading.responses.iter().map(|response| response.status).collect()
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]))
}
