//! A connection of a listener for TCP: it is passed to an endpoint of its route's service, and bytes go both ways until
//! both sides have ended.
//!
//! An endpoint that does not accept is left for another, by the service's rules for retries: nothing was sent, so that
//! is always safe. Once a connection stands, how it goes on is between client and endpoint. A side that breaks off has
//! the other one break off too: an end in order would look like the end of what was said.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use balance::Request as Pick;
use net::Stream;
use preface::hello::Hello;
use telemetry::{Limit, RefusedReason};
use vocab::ErrorCode;

use super::attempt::Attempt;
use super::connection::{self, Peer};
use super::core::{ConnectionState, Core};
use super::ends::{ClientSink, ClientSource};
use super::head;
use super::io::{self, Wait};
use super::leave;
use super::local::LocalService;
use super::passage::{InFlight, Passage};
use super::preamble;
use super::retry::{Failure, Retries, Verdict};
use super::tunnel::{Tunnel, Way};
use super::upstream::{self, How, NoConnection, Place};
use crate::state::ListenerView;

/// A connection to an endpoint, and its place among those.
struct Connected {
    stream: Stream,
    _in_flight: InFlight,
    _place: Place,
}

/// Serves a connection until it ends.
pub(crate) async fn run(core: &Rc<Core>, state: &ConnectionState, mut client: Stream, peer: Peer) {
    let listener = &state.listener;
    let passage = Passage::begin(core, listener, peer.address.ip(), "TCP");
    let local = core.local();
    let Some(view) = local.listener(listener) else { return };
    let idle = view.params.idle_timeout;
    let (hello, early) = match hello(state, view, &mut client).await {
        Ok(read) => read,
        Err(reason) => {
            listener.metrics.refused(core.id, reason);
            let late = reason == RefusedReason::HelloTimeout;
            return passage.failed(if late { ErrorCode::HeadTimeout } else { ErrorCode::BadRequest });
        }
    };
    let Some(route) = view.streams.find(hello.host.as_deref(), &hello.alpn) else {
        listener.metrics.refused(core.id, RefusedReason::NoRoute);
        return passage.failed(ErrorCode::NoRoute);
    };
    {
        let mut found = passage.found.borrow_mut();
        found.route.clone_from(&route.name);
        found.host = hello.host.map(String::into_boxed_str);
    }
    let service = Rc::clone(local.service(route.service));
    let (state_of_service, requests_max) = (Arc::clone(&service.view.state), service.view.params.limits.requests_max);
    let Some(_one_of_all) = leave::Place::take(&state_of_service.requests_open.0, requests_max) else {
        state_of_service.metrics.limited(core.id, Limit::Requests);
        return passage.failed(ErrorCode::Overloaded);
    };
    // What is known of the configuration is let go of before the connection's long life.
    drop(local);
    let connected = Box::pin(connect(core, state, &service, peer, &passage)).await;
    drop(service);
    let mut connected = match connected {
        Ok(connected) => connected,
        Err(code) => return passage.failed(code),
    };
    let ended = {
        let (reader, writer) = client.split();
        let (mut source, mut sink) = (ClientSource::Wire(reader), ClientSink::Wire(writer));
        let (mut from, mut to) = connected.stream.split();
        if !early.is_empty() {
            let wait = Wait::after(&state.deadline, idle);
            if io::write_all(&mut to, &early, &[], wait).await.is_err() {
                return passage.failed(ErrorCode::UpstreamClosed);
            }
            passage.moved(Way::Up, early.len());
            drop(early);
        }
        let tunnel = Tunnel { buffers: &core.bodies, pipes: &core.pipes, deadline: &state.deadline, idle };
        let moved = |way, count| passage.moved(way, count);
        let ended = tunnel.run((&mut source, &mut sink), (&mut from, &mut to), (&[], &[]), moved).await;
        if !ended.up {
            to.end_abruptly();
        }
        if !ended.down {
            sink.cut(true);
        }
        ended
    };
    if ended.idle {
        passage.failed(ErrorCode::IdleTimeout);
    }
    drop(connected);
    if ended.down && !ended.up && !ended.idle {
        // The endpoint has said all and gone, and the client is still sending: a reset could overtake the answer.
        connection::linger(core, state, &mut client).await;
    }
}

/// What the client says in its TLS handshake, if the routes go by that, and what was read of it that has to go on.
async fn hello(
    state: &ConnectionState,
    view: &ListenerView,
    client: &mut Stream,
) -> Result<(Hello, Vec<u8>), RefusedReason> {
    if !view.streams.looks() {
        return Ok(Default::default());
    }
    if matches!(client, Stream::Tls(_)) {
        // The handshake is done, and was this process's.
        return Ok((Hello { host: client.server_name(), alpn: Vec::new() }, Vec::new()));
    }
    Box::pin(preamble::hello(state, client, view.params.handshake_timeout)).await
}

/// Connects to an endpoint of the service, or to another one if that fails and may be tried.
async fn connect(
    core: &Rc<Core>,
    state: &ConnectionState,
    service: &Rc<LocalService>,
    peer: Peer,
    passage: &Passage,
) -> Result<Connected, ErrorCode> {
    let view = &service.view;
    view.state.requests.core(core.id).increment();
    passage.found.borrow_mut().service = Some(Arc::clone(&view.state));
    let mut retries = Retries::new(core, service, true);
    let (key, mut tried) = (head::address_key(passage.client()), Vec::new());
    loop {
        let begun = Instant::now();
        let pick = Pick { key, tried: &tried };
        let picked = Attempt::pick(core, service, pick, None, begun);
        let mut attempt = picked.map_err(|why| why.count(core, &view.state))?;
        let endpoint = attempt.endpoint();
        {
            let mut found = passage.found.borrow_mut();
            found.tries += 1;
            found.upstream = Some(endpoint.state.address);
        }
        let wait = Wait::until(&state.deadline, begun + view.params.connect_timeout);
        let error = match Place::take(endpoint, &view.params.pool) {
            None => NoConnection::Full,
            Some(place) => match upstream::connect(endpoint, how(service, attempt.index, peer), wait).await {
                Ok(stream) => {
                    attempt.connected(begun);
                    let in_flight = InFlight::begin(core, &view.state, &endpoint.state);
                    return Ok(Connected { stream, _in_flight: in_flight, _place: place });
                }
                Err(error) => error,
            },
        };
        let code = attempt.unconnected(&error, begun);
        let index = attempt.index;
        drop(attempt);
        let failure = Failure { code, sent: false, stale: false };
        let Verdict::Retry(pause) = retries.after_failure(&failure, None, true) else { return Err(code) };
        tried.push(index);
        super::forward::pause_for(&state.deadline, pause).await;
    }
}

fn how(service: &LocalService, index: u16, peer: Peer) -> How<'_> {
    let view = &service.view;
    let tls = view.params.tls.as_ref().zip(view.endpoints[usize::from(index)].name.as_ref());
    let announced = view.params.send_proxy.map(|version| (version, peer.addresses()));
    How { pool: &view.params.pool, tls, fresh: true, through: true, announced }
}
