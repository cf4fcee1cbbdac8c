//! Variables in values: `${NAME}` and `${NAME:-default}`; `$${` stands for a plain `${`.
//!
//! As in a shell, `:-` also replaces a variable that is set but empty. A default is taken as it is, without variables
//! of its own, up to the next `}`. A lone `$` is an ordinary character.

/// Most bytes that variables may add to one configuration: a file of nothing but `${PATH}` must not fill memory.
const EXPANDED_BYTES_MAX: usize = 4 << 20;

/// Looks variables up and counts what they add.
pub(crate) struct Expander<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    added: usize,
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The part of the text that is to blame.
    pub(crate) variable: String,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

impl<'e> Expander<'e> {
    pub(crate) fn new(env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, added: 0 }
    }

    pub(crate) fn expand(&mut self, text: &str) -> Result<String, Failure> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                expanded.push_str(&rest[..at - 1]);
                expanded.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            expanded.push_str(&rest[..at]);
            let Some(length) = rest[at..].find('}') else {
                let message = "a variable is not closed by '}'".to_owned();
                let fix = Some("write ${NAME}, or $${ for a plain ${".to_owned());
                return Err(Failure { variable: rest[at..].to_owned(), message, fix });
            };
            let variable = &rest[at..=at + length];
            let value = self.value(variable)?;
            self.added = self.added.saturating_add(value.len());
            if self.added > EXPANDED_BYTES_MAX {
                let message = "the values of all variables together exceed 4 MiB".to_owned();
                return Err(Failure { variable: variable.to_owned(), message, fix: None });
            }
            expanded.push_str(&value);
            rest = &rest[at + length + 1..];
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// The value of `${NAME}` or `${NAME:-default}`.
    fn value(&self, variable: &str) -> Result<String, Failure> {
        let inner = &variable[2..variable.len() - 1];
        let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let message = format!("{name:?} is not the name of a variable");
            let fix = Some("names hold letters, digits and '_'; write $${ for a plain ${".to_owned());
            return Err(Failure { variable: variable.to_owned(), message, fix });
        }
        match ((self.env)(name), default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => Ok(default.to_owned()),
            (None, None) => {
                let message = format!("the environment variable {name} is not set");
                let fix = Some(format!("set {name}, or give a default: ${{{name}:-default}}"));
                Err(Failure { variable: variable.to_owned(), message, fix })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${PORT}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Expander::new(&env).expand(text).as_deref(), Ok(expected), "{text:?}");
        };
        check("plain $ {x} $5", "plain $ {x} $5");
        check("127.0.0.1:${PORT}", "127.0.0.1:8080");
        check("${PORT}${PORT}", "80808080");
        check("${NOPE:-80}", "80");
        check("${NOPE:-}", "");
        check("${EMPTY:-x}", "x");
        check("${EMPTY}", "");
        check("$${PORT}", "${PORT}");
        check("$${PORT}${PORT}", "${PORT}8080");
        check("${NESTED}", "${PORT}");
        check("${NOPE:-a:-b}", "a:-b");
        check("\u{e4}${PORT}\u{e4}", "\u{e4}8080\u{e4}");
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let check = |text: &str, variable: &str, message: &str| {
            let failure = Expander::new(&env).expand(text).unwrap_err();
            assert_eq!((failure.variable.as_str(), failure.message.as_str()), (variable, message), "{text:?}");
        };
        check("a${NOPE}b", "${NOPE}", "the environment variable NOPE is not set");
        check("a${PORT", "${PORT", "a variable is not closed by '}'");
        check("${}", "${}", "\"\" is not the name of a variable");
        check("${A B}", "${A B}", "\"A B\" is not the name of a variable");
        check("${1A:-x}", "${1A:-x}", "\"1A\" is not the name of a variable");
    }

    #[test]
    fn what_variables_add_is_bounded() {
        let env = |_: &str| Some("x".repeat(1 << 20));
        let mut expander = Expander::new(&env);
        assert_eq!(expander.expand("${A}${A}${A}${A}").map(|text| text.len()), Ok(4 << 20));
        let failure = expander.expand("${A}").unwrap_err();
        assert_eq!(failure.message, "the values of all variables together exceed 4 MiB");
    }
}
