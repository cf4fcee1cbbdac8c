use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;
use crate::control::placing::{self, Placed};

const NOW: SystemTime = UNIX_EPOCH;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn target(last: u8) -> Target {
    Target { host: Host::Address(ip(last)), port: 80 }
}

fn name(host: &str) -> Host {
    Host::Name(host.to_owned())
}

fn endpoint(last: u8, weight: u16) -> EndpointParams {
    EndpointParams { weight, ..EndpointParams::new(Host::Address(ip(last)), 80) }
}

fn edit(target: Target, weight: Edit<u16>, drain: Edit<bool>) -> Change {
    Change::Edit { service: "api".to_owned(), target, weight, drain }
}

fn add(endpoint: EndpointParams) -> Change {
    Change::Add { service: "api".to_owned(), endpoint }
}

fn remove(target: Target) -> Change {
    Change::Remove { service: "api".to_owned(), target }
}

fn reset(target: Target) -> Change {
    Change::Reset { service: "api".to_owned(), target }
}

/// The layer over a file of one service.
struct Scene {
    overrides: Overrides,
    service: Name,
    file: Vec<EndpointParams>,
    resolved: HashMap<Source, Set>,
}

impl Scene {
    fn new(endpoints: Vec<EndpointParams>) -> Self {
        let service = "api".parse().unwrap();
        Self { overrides: Overrides::default(), service, file: endpoints, resolved: HashMap::new() }
    }

    fn stands_for(&mut self, lasts: &[u8]) {
        let member = |last: &u8| Member { priority: 0, address: ip(*last), port: None, host: None, weight: None };
        self.resolved.insert(Source::Host("api.example.com".to_owned()), lasts.iter().map(member).collect());
    }

    fn change(&mut self, change: &Change) -> Result<usize, ChangeError> {
        self.overrides.change(
            change,
            Below { service: &self.service, endpoints: &self.file, resolved: &self.resolved },
            NOW,
        )
    }

    fn reload(&mut self, endpoints: Vec<EndpointParams>) -> Vec<&'static str> {
        self.file = endpoints;
        let below = Below { service: &self.service, endpoints: &self.file, resolved: &self.resolved };
        let dropped = self.overrides.adopt(|name| (name.as_str() == "api").then_some(below));
        dropped.into_iter().map(|(_, reason)| reason).collect()
    }

    /// What is served: weight and drain by address.
    fn effective(&self) -> BTreeMap<SocketAddr, (u16, bool)> {
        let overlay = self.overrides.overlay(&self.service);
        let mut served = BTreeMap::new();
        for Placed { address, written, params } in placing::placed(&overlay.extended(&self.file), &self.resolved) {
            if let Some(applied) = overlay.apply(&written, &params, address) {
                served.entry(address).or_insert((applied.weight, applied.drain));
            }
        }
        served
    }

    fn at(&self, last: u8) -> Option<(u16, bool)> {
        self.effective().get(&SocketAddr::new(ip(last), 80)).copied()
    }
}

#[test]
fn settings_lie_over_the_file_and_are_taken_away() {
    let mut scene = Scene::new(vec![endpoint(1, 3), endpoint(2, 1)]);
    assert_eq!(scene.change(&edit(target(1), Edit::Set(7), Edit::Keep)), Ok(1));
    assert_eq!(scene.change(&edit(target(1), Edit::Keep, Edit::Set(true))), Ok(1));
    assert_eq!(scene.at(1), Some((7, true)));
    assert_eq!(scene.change(&edit(target(1), Edit::Set(7), Edit::Keep)), Ok(0), "it is so already");
    assert_eq!(scene.change(&edit(target(1), Edit::Reset, Edit::Keep)), Ok(1));
    assert_eq!(scene.at(1), Some((3, true)));
    // What the file says is no override.
    assert_eq!(scene.change(&edit(target(1), Edit::Set(3), Edit::Set(false))), Ok(1));
    assert_eq!(scene.overrides, Overrides::default());
    assert_eq!(scene.change(&remove(target(2))), Ok(1));
    assert_eq!((scene.at(1), scene.at(2)), (Some((3, false)), None));
    assert_eq!(scene.change(&reset(target(2))), Ok(1));
    assert_eq!(scene.at(2), Some((1, false)));
    scene.change(&remove(target(2))).unwrap();
    scene.change(&edit(target(1), Edit::Set(0), Edit::Keep)).unwrap();
    assert_eq!(scene.change(&Change::ResetAll), Ok(2));
    assert_eq!(scene.effective().len(), 2);
}

#[test]
fn additions_are_endpoints_like_others() {
    let mut scene = Scene::new(vec![endpoint(1, 1)]);
    assert_eq!(scene.change(&add(endpoint(9, 4))), Ok(1));
    assert_eq!(scene.at(9), Some((4, false)));
    assert_eq!(scene.change(&edit(target(9), Edit::Set(2), Edit::Set(true))), Ok(2));
    assert_eq!(scene.at(9), Some((2, true)));
    assert_eq!(scene.change(&edit(target(9), Edit::Reset, Edit::Keep)), Ok(1));
    assert_eq!(scene.at(9), Some((4, true)), "below is the addition");
    assert_eq!(scene.change(&remove(target(9))), Ok(2), "with the drain");
    assert_eq!((scene.at(9), scene.overrides.services().len()), (None, 0));
}

#[test]
fn mistakes_name_the_place() {
    let mut scene = Scene::new(vec![endpoint(1, 1), endpoint(2, 1)]);
    scene.change(&remove(target(2))).unwrap();
    let mut check = |change: Change, expected: &str| {
        let before = scene.overrides.clone();
        assert_eq!(scene.change(&change).unwrap_err().to_string(), expected);
        assert_eq!(scene.overrides, before);
    };
    check(edit(target(9), Edit::Set(1), Edit::Keep), "service api: no endpoint 10.0.0.9:80");
    check(remove(target(9)), "service api: no endpoint 10.0.0.9:80");
    check(reset(target(9)), "service api: no endpoint 10.0.0.9:80");
    check(reset(target(1)), "service api: endpoint 10.0.0.1:80 has no override");
    check(add(endpoint(1, 1)), "service api: endpoint 10.0.0.1:80 is there already");
    let removed = "service api: endpoint 10.0.0.2:80 is removed by an override; reset it first";
    check(add(endpoint(2, 1)), removed);
    check(remove(target(2)), removed);
    check(edit(target(2), Edit::Set(1), Edit::Keep), removed);
}

#[test]
fn a_reload_keeps_what_still_names_something() {
    let mut scene = Scene::new(vec![endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]);
    scene.change(&edit(target(1), Edit::Set(5), Edit::Set(true))).unwrap();
    scene.change(&remove(target(2))).unwrap();
    scene.change(&add(endpoint(9, 4))).unwrap();
    scene.change(&edit(target(9), Edit::Keep, Edit::Set(true))).unwrap();
    assert_eq!(scene.reload(vec![endpoint(1, 2), endpoint(2, 1), endpoint(3, 8)]), [""; 0]);
    assert_eq!(scene.effective().into_values().collect::<Vec<_>>(), [(5, true), (8, false), (4, true)]);
    // The file comes to say what was set.
    assert_eq!(scene.reload(vec![endpoint(1, 5), endpoint(2, 1)]), ["the file says the same now"]);
    // It comes to have what was added: the drain stays over it.
    assert_eq!(scene.reload(vec![endpoint(1, 5), endpoint(2, 1), endpoint(9, 6)]), ["the file has the endpoint now"]);
    assert_eq!(scene.at(9), Some((6, true)));
    // What goes does not come back with its override.
    assert_eq!(scene.reload(vec![endpoint(1, 5), endpoint(9, 6)]), ["its endpoint has left the file"]);
    assert_eq!(scene.reload(vec![endpoint(1, 5), endpoint(2, 1), endpoint(9, 6)]), [""; 0]);
    assert_eq!(scene.at(2), Some((1, false)));
    let none = scene.overrides.adopt(|_| None);
    assert!(none.iter().all(|(_, reason)| *reason == "its service has left the file"), "{none:?}");
    assert_eq!((none.len(), scene.overrides), (2, Overrides::default()));
}

#[test]
fn one_address_of_a_name_can_be_overridden() {
    let of_name = |weight| EndpointParams { weight, ..EndpointParams::new(name("api.example.com"), 80) };
    let mut scene = Scene::new(vec![of_name(3)]);
    scene.stands_for(&[1, 2]);
    let whole = Target { host: name("api.example.com"), port: 80 };
    scene.change(&edit(whole.clone(), Edit::Set(6), Edit::Keep)).unwrap();
    scene.change(&edit(target(1), Edit::Keep, Edit::Set(true))).unwrap();
    assert_eq!((scene.at(1), scene.at(2)), (Some((6, true)), Some((6, false))));
    scene.change(&remove(target(2))).unwrap();
    assert_eq!(scene.at(2), None);
    // The name stands for others for a while.
    scene.stands_for(&[3]);
    assert_eq!(scene.at(3), Some((6, false)));
    scene.stands_for(&[1, 2]);
    assert_eq!((scene.at(1), scene.at(2)), (Some((6, true)), None));
    scene.stands_for(&[1]);
    assert_eq!(scene.reload(vec![of_name(3)]), ["its endpoint has left the file"], "of the address that is gone");
    assert_eq!(scene.at(1), Some((6, true)));
    let shown = scene
        .overrides
        .shown(|_| Some(Below { service: &scene.service, endpoints: &scene.file, resolved: &scene.resolved }));
    assert!(shown.iter().all(|shown| shown.below == Some(of_name(3))), "{shown:?}");
}

#[test]
fn there_is_a_bound() {
    let mut scene = Scene::new(vec![endpoint(1, 1)]);
    let other = |at: usize| EndpointParams::new(name(&format!("n{at}.example.com")), 80);
    for at in 0..OVERRIDES_MAX {
        scene.change(&add(other(at))).unwrap();
    }
    assert_eq!(scene.change(&add(other(OVERRIDES_MAX))), Err(ChangeError::TooMany { max: OVERRIDES_MAX }));
    assert_eq!(scene.change(&remove(Target::of(&other(0)))), Ok(1));
    assert_eq!(scene.change(&add(other(OVERRIDES_MAX))), Ok(1));
}

/// One endpoint as the naive model keeps it.
#[derive(Clone, Copy, Debug, Default)]
struct Naive {
    added: Option<u16>,
    removed: bool,
    weight: Option<u16>,
    drain: Option<bool>,
}

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    Reload(BTreeMap<u8, u16>),
}

fn file() -> impl Strategy<Value = BTreeMap<u8, u16>> {
    prop::collection::btree_map(0u8..4, 0u16..3, 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![Just(Edit::Keep), Just(Edit::Reset), (0u16..3).prop_map(Edit::Set)];
    let drain = prop_oneof![Just(Edit::Keep), Just(Edit::Reset), any::<bool>().prop_map(Edit::Set)];
    prop_oneof![
        (0u8..4, 0u16..3).prop_map(|(at, weight)| Step::Change(add(endpoint(at, weight)))),
        (0u8..4, weight, drain).prop_map(|(at, weight, drain)| Step::Change(edit(target(at), weight, drain))),
        (0u8..4).prop_map(|at| Step::Change(remove(target(at)))),
        (0u8..4).prop_map(|at| Step::Change(reset(target(at)))),
        Just(Step::Change(Change::ResetAll)),
        file().prop_map(Step::Reload),
    ]
}

/// Does to the model what a change does, if it may.
fn naively(model: &mut BTreeMap<u8, Naive>, file: &BTreeMap<u8, u16>, change: &Change) {
    let at = |target: &Target| match target.host {
        Host::Address(IpAddr::V4(v4)) => v4.octets()[3],
        _ => unreachable!("addresses only"),
    };
    match change {
        Change::Add { endpoint, .. } => {
            let at = at(&Target::of(endpoint));
            let one = model.entry(at).or_default();
            if !file.contains_key(&at) && one.added.is_none() {
                *one = Naive { added: Some(endpoint.weight), ..Naive::default() };
            }
        }
        Change::Edit { target, weight, drain, .. } => {
            let at = at(target);
            let one = model.entry(at).or_default();
            if one.removed || (one.added.is_none() && !file.contains_key(&at)) {
                return;
            }
            match weight {
                Edit::Keep => {}
                Edit::Set(value) => one.weight = Some(*value),
                Edit::Reset => one.weight = None,
            }
            match drain {
                Edit::Keep => {}
                Edit::Set(value) => one.drain = Some(*value),
                Edit::Reset => one.drain = None,
            }
        }
        Change::Remove { target, .. } => {
            let at = at(target);
            *model.entry(at).or_default() = Naive { removed: file.contains_key(&at), ..Naive::default() };
        }
        Change::Reset { target, .. } => drop(model.remove(&at(target))),
        Change::Breaker { .. } => {}
        Change::ResetAll => model.clear(),
    }
    settle(model, file);
}

/// What says the same as what is below it is no override.
fn settle(model: &mut BTreeMap<u8, Naive>, file: &BTreeMap<u8, u16>) {
    for (at, one) in model.iter_mut() {
        if file.contains_key(at) {
            one.added = None;
        }
        let Some(below) = one.added.or_else(|| file.get(at).copied()) else {
            *one = Naive::default();
            continue;
        };
        one.weight = one.weight.filter(|weight| *weight != below);
        one.drain = one.drain.filter(|drain| *drain);
    }
}

proptest! {
    #[test]
    fn the_layer_is_what_a_table_of_endpoints_would_be(first in file(), steps in prop::collection::vec(step(), 0..40)) {
        let endpoints = |file: &BTreeMap<u8, u16>| file.iter().map(|(at, weight)| endpoint(*at, *weight)).collect();
        let (mut file, mut model) = (first, BTreeMap::new());
        let mut scene = Scene::new(endpoints(&file));
        for step in steps {
            match step {
                Step::Change(change) => {
                    let before = scene.overrides.clone();
                    if scene.change(&change).is_err() {
                        prop_assert_eq!(&scene.overrides, &before, "a refusal changes nothing");
                    }
                    naively(&mut model, &file, &change);
                }
                Step::Reload(other) => {
                    file = other;
                    scene.reload(endpoints(&file));
                    settle(&mut model, &file);
                }
            }
            let expected: BTreeMap<SocketAddr, (u16, bool)> = (0..4)
                .filter_map(|at| {
                    let one = model.get(&at).copied().unwrap_or_default();
                    let weight = one.added.or_else(|| file.get(&at).copied())?;
                    let applied = (one.weight.unwrap_or(weight), one.drain.unwrap_or(false));
                    (!one.removed).then(|| (SocketAddr::new(ip(at), 80), applied))
                })
                .collect();
            prop_assert_eq!(scene.effective(), expected);
            let settings = |one: &Naive| {
                usize::from(one.added.is_some()) + usize::from(one.removed)
                    + usize::from(one.weight.is_some()) + usize::from(one.drain.is_some())
            };
            prop_assert_eq!(scene.overrides.0.len(), model.values().map(settings).sum::<usize>());
        }
    }
}
