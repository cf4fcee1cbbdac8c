//! Names that endpoints are behind, for all services together: each is asked for once, by one task, and what came last
//! stays until something else does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use discovery::Outcome;
use discovery::{Report, Resolver, ResolverParams, Set, Source, Watch};
use tokio::sync::mpsc;

use super::Event;

/// What is known of names.
pub(super) struct Names {
    resolver: Resolver,
    watched: HashMap<Source, Watched>,
    /// What names stand for: those that are watched, and those that the process before this one knew.
    sets: HashMap<Source, Set>,
    /// Whether one came to stand for something else, or was looked up with another outcome, since they were last viewed.
    has_news: bool,
}

struct Watched {
    /// Asks until it is dropped.
    _watch: Watch,
    view: NameView,
}

/// A name as it stands now, for whoever looks.
#[derive(Clone, Debug)]
pub(crate) struct NameView {
    /// The name.
    pub(crate) source: Arc<Source>,
    /// Lookups by [`Outcome`], in the order of [`Outcome::ALL`].
    pub(crate) lookups: [u64; Outcome::ALL.len()],
    /// How the last lookup went; `None` before the first.
    pub(crate) outcome: Option<Outcome>,
    /// What was wrong with it, if anything.
    pub(crate) trouble: Option<Arc<str>>,
    /// When a good answer came last, in seconds since 1970.
    pub(crate) good_at: Option<u64>,
    /// Endpoints that it stands for.
    pub(crate) members: usize,
}

impl Names {
    /// Nothing asked yet. `inherited` is what is known from before.
    pub(super) fn new(inherited: HashMap<Source, Set>) -> Self {
        Self {
            resolver: Resolver::new(ResolverParams::default()),
            watched: HashMap::new(),
            sets: inherited,
            has_news: false,
        }
    }

    /// Asks in another way from now on, if it is another.
    pub(super) fn configure(&mut self, params: &ResolverParams, events: &mpsc::Sender<Event>) {
        if self.resolver.params() == params {
            return;
        }
        self.resolver = Resolver::new(params.clone());
        let Self { resolver, watched, sets, .. } = self;
        for (source, watched) in watched {
            watched._watch = start(resolver, source, sets.contains_key(source), events);
        }
    }

    /// Asks for these names too.
    pub(super) fn watch(&mut self, sources: &BTreeSet<Source>, events: &mpsc::Sender<Event>) {
        for source in sources {
            if !self.watched.contains_key(source) {
                let _watch = start(&self.resolver, source, self.sets.contains_key(source), events);
                let view = NameView::new(source, self.sets.get(source).map_or(0, |set| set.len()));
                self.watched.insert(source.clone(), Watched { _watch, view });
            }
        }
    }

    /// Asks for these names alone, and forgets the others.
    pub(super) fn retain(&mut self, sources: &BTreeSet<Source>) {
        self.watched.retain(|source, _| sources.contains(source));
        self.sets.retain(|source, _| sources.contains(source));
    }

    /// Whether one of these is neither known nor asked for in vain.
    pub(super) fn is_waiting(&self, sources: &BTreeSet<Source>) -> bool {
        let is_open = |source| self.watched.get(source).is_some_and(|watched| watched.view.outcome.is_none());
        sources.iter().any(|source| !self.sets.contains_key(source) && is_open(source))
    }

    /// What names stand for.
    pub(super) fn sets(&self) -> &HashMap<Source, Set> {
        &self.sets
    }

    /// Whether there is more to tell than counts, which can wait.
    pub(super) fn has_news(&self) -> bool {
        self.has_news
    }

    /// All that are watched, in a stable order.
    pub(super) fn views(&mut self) -> Vec<NameView> {
        self.has_news = false;
        let mut views: Vec<NameView> = self.watched.values().map(|watched| watched.view.clone()).collect();
        views.sort_by(|one, other| one.source.cmp(&other.source));
        views
    }

    /// Takes what came of a lookup: the set, if it is another one.
    pub(super) fn on_report(&mut self, source: &Source, report: Report) -> Option<Set> {
        let watched = self.watched.get_mut(source)?;
        let is_known = self.sets.contains_key(source);
        self.has_news |= watched.view.outcome != Some(report.outcome);
        watched.view.note(&report, is_known);
        let set = report.set?;
        watched.view.members = set.len();
        let old = self.sets.insert(source.clone(), Arc::clone(&set));
        if old.as_ref() == Some(&set) {
            return None;
        }
        let old = old.unwrap_or_default();
        let added = set.iter().filter(|member| !old.contains(member)).count();
        let gone = old.iter().filter(|member| !set.contains(member)).count();
        self.has_news = true;
        tracing::info!(name = %source, endpoints = set.len(), added, gone, "what a name stands for has changed");
        Some(set)
    }
}

impl NameView {
    fn new(source: &Source, members: usize) -> Self {
        Self {
            source: Arc::new(source.clone()),
            lookups: Default::default(),
            outcome: None,
            trouble: None,
            good_at: None,
            members,
        }
    }

    /// Counts a lookup, and tells the log when it went otherwise than the one before.
    fn note(&mut self, report: &Report, is_known: bool) {
        let Report { outcome, set, trouble, again_in } = report;
        let at = Outcome::ALL.iter().position(|other| other == outcome).unwrap_or_default();
        self.lookups[at] += 1;
        let is_good = matches!(outcome, Outcome::Success | Outcome::Partial);
        if is_good {
            self.good_at = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        }
        let before = self.outcome.replace(*outcome);
        self.trouble = trouble.as_deref().map(Arc::from);
        if before == Some(*outcome) && set.as_ref().is_none_or(|set| is_good || !set.is_empty()) {
            return;
        }
        let (name, result) = (&self.source, outcome.as_str());
        let trouble = trouble.as_deref().unwrap_or_default();
        match set {
            Some(_) if *outcome == Outcome::Success => {
                if before.is_some() {
                    tracing::info!(%name, "a name is resolved again");
                }
            }
            Some(_) if is_good => tracing::warn!(%name, result, trouble, ?again_in, "a name is resolved in part"),
            Some(_) => tracing::warn!(%name, result, trouble, "cannot resolve a name; its endpoints go"),
            None if is_known => {
                tracing::warn!(%name, result, trouble, ?again_in, "cannot resolve a name; the last answer stays");
            }
            None => tracing::warn!(%name, result, trouble, ?again_in, "cannot resolve a name yet; it is tried again"),
        }
    }
}

fn start(resolver: &Resolver, source: &Source, is_known: bool, events: &mpsc::Sender<Event>) -> Watch {
    let (events, told) = (events.clone(), source.clone());
    resolver.watch(source.clone(), is_known, move |report| {
        let (events, source) = (events.clone(), told.clone());
        async move { events.send(Event::Found { source, report }).await.is_ok() }
    })
}
