//! What a route does with requests and responses, besides sending them on.
//!
//! In this order, and each before the service hears of the request: plain HTTP is sent to HTTPS; preflights of CORS are
//! answered, which have no credentials; names and passwords are asked for; another service is asked, which `data` does;
//! redirections and fixed responses are given. Whatever else is to be asked before a request passes joins [`admit`], after
//! the passwords. Then the path and the fields of the request are changed, and at the end those of the response.
//!
//! The modules are pure but for [`basic_auth`], which checks passwords beside the core. They see heads and write bytes
//! into heads; connections belong to `data`.

mod answer;
mod basic_auth;
mod cors;
pub(crate) mod credential;
mod fields;
mod forward_auth;
mod path;
mod redirect;
pub(crate) mod template;
#[cfg(test)]
mod tests;

pub(crate) use answer::Prepared;
pub(crate) use basic_auth::Checks;
pub(crate) use cors::preflight_method;
pub(crate) use fields::{Edits, Names, push_absent};
pub(crate) use forward_auth::{ForwardAuth, Verdict};

use basic_auth::BasicAuth;
use cors::Cors;
use path::Change;
use redirect::Redirect;

use crate::params::{ActionParams, FixedParams, PathMatch, RedirectParams};
use std::sync::Arc;

use crate::files::Files;
use crate::router::{Asked, Goal, Route, Target};

/// What a route does on the way.
#[derive(Debug)]
pub(crate) struct Actions {
    to_https: Option<Redirect>,
    cors: Option<Cors>,
    basic_auth: Option<BasicAuth>,
    change: Option<Change>,
    /// `Host` to send instead of the client's.
    pub(crate) host: Option<Box<[u8]>>,
    /// Fields of the request.
    pub(crate) request: Edits,
    /// Fields of the response.
    pub(crate) response: Edits,
}

/// What a route answers without a service.
#[derive(Debug)]
pub(crate) enum Answer {
    Redirect(Redirect),
    Fixed(Prepared),
}

/// Where a request goes that may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'r> {
    /// To a service.
    Service(&'r Target),
    /// To a file.
    Files(&'r Arc<Files>),
}

impl Actions {
    /// The actions of a route for these paths. `None` when there is nothing to do.
    pub(crate) fn new(params: &ActionParams, route: &PathMatch, cores: usize) -> Option<Self> {
        if *params == ActionParams::default() {
            return None;
        }
        let own_fields = if params.cors.is_some() { cors::OWN_FIELDS } else { &[] };
        Some(Self {
            to_https: params.https_only.then(Redirect::to_https),
            cors: params.cors.as_ref().map(|cors| Cors::new(cors, cores)),
            basic_auth: params.basic_auth.as_ref().map(BasicAuth::new),
            change: params.path.as_ref().and_then(|change| Change::new(change, route, cores)),
            host: params.host.as_ref().map(|host| host.as_bytes().into()),
            request: Edits::new(&params.request_fields, &[]),
            response: Edits::new(&params.response_fields, own_fields),
        })
    }

    /// Writes the target to send instead of the request's, of at most so many bytes. `Ok(false)` when it stays.
    ///
    /// # Errors
    /// What the client is told when there is no sound one.
    pub(crate) fn rewrite(
        &self,
        out: &mut Vec<u8>,
        asked: &Asked<'_>,
        bytes_max: usize,
    ) -> Result<bool, Box<Prepared>> {
        let Some(change) = &self.change else { return Ok(false) };
        // `*` is no path.
        if asked.request.target.as_origin_form(asked.head, &asked.request.method) == b"*" {
            return Ok(false);
        }
        change.write(out, asked, true, bytes_max).map(|()| true).map_err(|unfit| Box::new(unfit.answer()))
    }

    /// Adds the lines that a response gets.
    pub(crate) fn push_response(&self, lines: &mut Vec<u8>, asked: &Asked<'_>) {
        lines.extend_from_slice(self.response.lines());
        if let Some(cors) = &self.cors {
            cors.push_response(lines, asked);
        }
    }
}

impl Answer {
    /// Redirections of a route for these paths.
    pub(crate) fn redirect(params: &RedirectParams, route: &PathMatch, cores: usize) -> Self {
        Self::Redirect(Redirect::new(params, route, cores))
    }

    /// A response that is always the same.
    pub(crate) fn fixed(params: &FixedParams) -> Self {
        Self::Fixed(Prepared::fixed(params))
    }
}

/// Whether a request may go on, as far as the route can tell by itself. `secure` tells whether it came by HTTPS.
///
/// # Errors
/// The answer that it gets instead.
pub(crate) async fn admit(
    actions: &Actions,
    checks: &Checks,
    asked: &Asked<'_>,
    secure: bool,
) -> Result<(), Box<Prepared>> {
    if let Some(redirect) = actions.to_https.as_ref().filter(|_| !secure) {
        return Err(Box::new(redirect.answer(asked)));
    }
    if let Some(answer) = actions.cors.as_ref().and_then(|cors| cors.preflight(asked)) {
        return Err(Box::new(answer));
    }
    if let Some(auth) = &actions.basic_auth
        && let Some(answer) = auth.refuse(checks, asked).await
    {
        return Err(Box::new(answer));
    }
    Ok(())
}

/// Where a request goes that may go on.
///
/// # Errors
/// The answer, if the route gives one by itself.
pub(crate) fn goal<'r>(route: &'r Route, asked: &Asked<'_>) -> Result<Way<'r>, Box<Prepared>> {
    match &route.goal {
        Goal::Forward(target) => Ok(Way::Service(target)),
        Goal::Files(files) => Ok(Way::Files(files)),
        Goal::Answer(Answer::Redirect(redirect)) => Err(Box::new(redirect.answer(asked))),
        Goal::Answer(Answer::Fixed(prepared)) => Err(Box::new(prepared.clone())),
    }
}
