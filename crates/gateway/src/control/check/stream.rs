//! One request over HTTP/2, on a connection of its own.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use net::Stream;

use crate::control::AbortOnDrop;

/// What came back: the head, the body as far as it was wanted, and the trailers of a body that came whole.
pub(super) struct Answer {
    pub(super) head: Response<()>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
}

/// Asks. The body is read until it ends or `enough` says so, and never beyond `bytes_max`.
pub(super) async fn ask(
    stream: Stream,
    request: Request<()>,
    question: Option<Bytes>,
    bytes_max: usize,
    enough: impl Fn(&[u8]) -> bool,
) -> Result<Answer, String> {
    let failed = |error: h2::Error| format!("no answer: {error}");
    let (sender, connection) = h2::client::handshake(stream).await.map_err(failed)?;
    // The connection lives as long as the check.
    let _connection = AbortOnDrop(tokio::spawn(async move {
        let _ended_with_the_check = connection.await;
    }));
    let mut sender = sender.ready().await.map_err(failed)?;
    let (response, mut out) = sender.send_request(request, question.is_none()).map_err(failed)?;
    if let Some(question) = question {
        out.send_data(question, true).map_err(failed)?;
    }
    let (head, mut body) = response.await.map_err(failed)?.into_parts();
    let head = Response::from_parts(head, ());
    let mut all = Vec::new();
    while !enough(&all) {
        let Some(piece) = body.data().await else {
            let trailers = body.trailers().await.map_err(failed)?;
            return Ok(Answer { head, body: all, trailers });
        };
        let piece = piece.map_err(failed)?;
        // A window that cannot be opened belongs to a stream that has ended.
        let _ended = body.flow_control().release_capacity(piece.len());
        if all.len() + piece.len() > bytes_max {
            break;
        }
        all.extend_from_slice(&piece);
    }
    Ok(Answer { head, body: all, trailers: None })
}
