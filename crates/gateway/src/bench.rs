//! What benches measure of the insides. Not part of the interface.

use std::sync::Arc;

use http1::Request;

use crate::params::RouteParams;
use crate::router::{Asked, Route, Router, Services, normal_path};
use crate::state::RouteState;

/// The router of a core that has the first listener to itself.
#[derive(Debug)]
pub struct RouterBench(Router);

impl RouterBench {
    /// A router over these routes, whatever listener they name.
    pub fn new(routes: &[RouteParams]) -> Self {
        let route = |params: &RouteParams| {
            let state = RouteState::new(params.name.clone(), 1);
            Route::new(params, Arc::new(state), Services::only(0), Vec::new(), 1)
        };
        Self(Router::new(routes.iter().map(route).collect(), 1))
    }

    /// The position of a request's route.
    pub fn find(&self, request: &Request, head: &[u8]) -> Option<usize> {
        let path = normal_path(request.target.as_origin_form(head, &request.method))?;
        self.0.find(&Asked { core: 0, request, head, path: &path })
    }
}
