//! The description of this interface for programs.

/// OpenAPI 3.1, as `/api/openapi.json` answers and `docs/openapi.json` shows it.
pub const OPENAPI: &str = include_str!("../../../docs/openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::watch;

    use crate::pages;

    /// That each method of each path is in it, and answers as it says, is tested from outside.
    #[test]
    fn every_path_of_the_router_is_in_it_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(super::OPENAPI).expect("JSON");
        let described: BTreeSet<&str> =
            document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        let (_, token) = watch::channel(None);
        let routed: BTreeSet<&str> =
            pages::guarded().into_iter().chain(pages::open(token)).map(|(path, _)| path).collect();
        assert_eq!(described, routed);
    }
}
