//! How a request is copied for another try.

/// Copies requests for further tries. Closures over `&Request` that give an `Option<Request>` do so.
#[diagnostic::on_unimplemented(
    message = "requests of type `{Req}` cannot be copied for another try by `{Self}`",
    note = "a layer that retries says how by `.repeated_by(|request: &{Req}| ...)`; one that does not is `.once()`"
)]
pub trait Repeat<Req> {
    /// The copy, made before the request is sent; `None` for a request that must not be sent twice.
    fn repeat(&self, request: &Req) -> Option<Req>;
}

/// Clones every request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

/// Sends no request twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Once;

impl<Req: Clone> Repeat<Req> for Cloned {
    fn repeat(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

impl<Req> Repeat<Req> for Once {
    fn repeat(&self, _: &Req) -> Option<Req> {
        None
    }
}

impl<Req, F: Fn(&Req) -> Option<Req>> Repeat<Req> for F {
    fn repeat(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}
