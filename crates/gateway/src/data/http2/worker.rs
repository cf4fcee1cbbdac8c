//! Tasks that serve one stream after another.
//!
//! The task of an exchange has some kilobytes. To make and drop one for each stream costs more than what the stream says,
//! so a core keeps those that have nothing to do.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::serve::Job;
use crate::data::core::Core;

/// Tasks kept at most; some kilobytes each.
const KEPT_MAX: usize = 256;

/// A core's tasks that wait for a stream.
#[derive(Default)]
pub(crate) struct Workers(RefCell<Vec<Rc<Worker>>>);

#[derive(Default)]
struct Worker {
    job: Cell<Option<Job>>,
    waker: Cell<Option<Waker>>,
}

/// Has a stream served.
pub(super) fn give(core: &Rc<Core>, job: Job) {
    let waiting = core.stream_workers.0.borrow_mut().pop();
    let worker = waiting.unwrap_or_else(|| {
        let worker = Rc::new(Worker::default());
        tokio::task::spawn_local(work(Rc::clone(core), Rc::clone(&worker)));
        worker
    });
    worker.job.set(Some(job));
    if let Some(waker) = worker.waker.take() {
        waker.wake();
    }
}

async fn work(core: Rc<Core>, worker: Rc<Worker>) {
    loop {
        poll_fn(|cx| worker.poll_job(cx)).await.run().await;
        let mut waiting = core.stream_workers.0.borrow_mut();
        if waiting.len() >= KEPT_MAX {
            return;
        }
        waiting.push(Rc::clone(&worker));
    }
}

impl Worker {
    fn poll_job(&self, cx: &Context<'_>) -> Poll<Job> {
        match self.job.take() {
            Some(job) => Poll::Ready(job),
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}
