//! A question about a user, to the server itself.

use crate::classify::literal;
use crate::scan::{Kind, Scanner};

/// The text of the question, with a user's name in the place of `$1`. It is read as a server reads it that nobody has told otherwise.
///
/// ```
/// use pgroute::auth::lookup;
///
/// let text = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1 -- $1";
/// let asked = lookup(text, "o'hara");
/// assert_eq!(asked, "SELECT usename, passwd FROM pg_shadow WHERE usename = E'o''hara' -- $1");
/// ```
pub fn lookup(text: &str, user: &str) -> String {
    let name = literal(user);
    let (mut asked, mut from) = (String::with_capacity(text.len() + name.len()), 0);
    for token in Scanner::new(text.as_bytes(), true) {
        if token.kind == Kind::Parameter && token.text == b"$1" {
            asked.push_str(&text[from..token.at]);
            asked.push_str(&name);
            from = token.at + token.text.len();
        }
    }
    asked.push_str(&text[from..]);
    asked
}
