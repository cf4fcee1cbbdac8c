//! How much a service takes at once, and which requests are refused first.

use std::time::Duration;

use limit::gradient::{Class, GradientParams};

/// How a service sheds load.
#[derive(Clone, Debug, PartialEq)]
pub struct SheddingParams {
    /// How the limit adapts.
    pub gradient: GradientParams,
    /// Most requests that wait for a place; each core has its share of them. 0 when none waits.
    pub waiting_max: u32,
    /// Longest wait.
    pub wait: Duration,
}

/// How important the requests of a route are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriorityParams {
    /// Unless they say something else.
    pub class: Class,
    /// The header field by which they may say it, lower case, and the highest class that is believed.
    pub header: Option<(String, Class)>,
}

impl PriorityParams {
    /// That all requests are of one class.
    pub const fn only(class: Class) -> Self {
        Self { class, header: None }
    }

    /// The class of a request whose first field of the name says this, if there is one.
    pub(crate) fn class_of(&self, said: Option<&[u8]>) -> Class {
        let Some((_, most)) = &self.header else { return self.class };
        let said = said.map(<[u8]>::trim_ascii).and_then(|said| {
            let named = |(name, _): &&(&str, Class)| said.eq_ignore_ascii_case(name.as_bytes());
            NAMES.iter().find(named).map(|(_, class)| *class)
        });
        said.map_or(self.class, |said| said.min(*most).max(Class::Low))
    }
}

/// What a field may say.
const NAMES: [(&str, Class); 3] = [("low", Class::Low), ("normal", Class::Normal), ("critical", Class::Critical)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_promotes_nobody_beyond_what_is_believed() {
        let check = |class: Class, most: Class, said: Option<&str>, expected: Class| {
            let priority = PriorityParams { class, header: Some(("importance".to_owned(), most)) };
            assert_eq!(priority.class_of(said.map(str::as_bytes)), expected, "{class:?}, {most:?}, {said:?}");
        };
        check(Class::Normal, Class::Normal, Some("low"), Class::Low);
        check(Class::Normal, Class::Normal, Some("critical"), Class::Normal);
        check(Class::Normal, Class::Critical, Some(" Critical "), Class::Critical);
        check(Class::Low, Class::Normal, Some("critical"), Class::Normal);
        for unknown in [None, Some(""), Some("exempt"), Some("9"), Some("lowest")] {
            check(Class::Low, Class::Critical, unknown, Class::Low);
        }
        assert_eq!(PriorityParams::only(Class::Exempt).class_of(Some(b"low")), Class::Exempt);
    }
}
