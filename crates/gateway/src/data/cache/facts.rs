//! What the cache knows of a request, read from its head.

use std::borrow::Cow;

use http1::{Fields, Request};
use httpcache::{Field, Lines, Target};

use crate::action::Names;
use crate::router::normal_path;

/// The fields of a head.
pub(super) fn of_head<'a>(fields: &'a Fields, head: &'a [u8]) -> impl Iterator<Item = Field<'a>> + Clone {
    fields.as_slice().iter().map(move |field| (field.name.of_buf(head), field.value.of_buf(head)))
}

/// The fields of a request as its service gets them: those that another service grants take the place of the client's.
pub(super) fn fields<'a>(
    request: &'a Request,
    head: &'a [u8],
    granted: Option<(&'a Names, &'a [u8])>,
) -> impl Iterator<Item = Field<'a>> + Clone {
    let lines = granted.map_or(&b""[..], |(_, lines)| lines);
    of_head(&request.fields, head)
        .filter(move |(name, _)| granted.is_none_or(|(names, _)| !names.have_alike(name)))
        .chain(Lines::new(lines))
}

/// What a request asks for, with its path in the form that is routed by. `room` holds that where it is another.
pub(super) fn target<'a>(request: &'a Request, head: &'a [u8], https: bool, room: &'a mut Vec<u8>) -> Target<'a> {
    let asked = request.target.as_origin_form(head, &request.method);
    let host = request.host.of_buf(head);
    let path_and_query = match normal_path(asked) {
        Some(Cow::Owned(path)) => {
            *room = path;
            room.extend_from_slice(memchr::memchr(b'?', asked).map_or(&b""[..], |at| &asked[at..]));
            room
        }
        _ => asked,
    };
    Target { https, host, path_and_query }
}
