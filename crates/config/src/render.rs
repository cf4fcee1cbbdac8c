use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{Line, Place, Sources};

/// Longer lines are not shown: they are no longer meant for people, and would take long to lay out.
const LINE_BYTES_MAX: usize = 2_000;

/// The same everywhere, so that the output does not depend on the terminal.
const WIDTH: usize = 140;

/// One finding: title with the key, place, the line with the text underlined, what is allowed, and the fix.
pub(crate) fn diagnostic(sources: &Sources, diagnostic: &Diagnostic, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = match diagnostic.key.as_str() {
        "" => diagnostic.message.clone(),
        key => format!("{key}: {}", diagnostic.message),
    };
    let mut group = Group::with_title(level.primary_title(title));
    if let Some(place) = diagnostic.place {
        group = quoted(group, sources, place, &diagnostic.label, AnnotationKind::Primary);
    }
    if let Some((place, label)) = &diagnostic.related {
        group = quoted(group, sources, *place, label, AnnotationKind::Context);
    }
    if let Some(allowed) = &diagnostic.allowed {
        group = group.element(Level::NOTE.with_name("allowed").message(allowed));
    }
    if let Some(fix) = &diagnostic.fix {
        group = group.element(Level::HELP.with_name("fix").message(fix));
    }
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH).render(&[group])
}

fn quoted<'a>(group: Group<'a>, sources: &'a Sources, place: Place, label: &'a str, kind: AnnotationKind) -> Group<'a> {
    let path = sources.path(place.file).display().to_string();
    let line = sources.line(place);
    if line.text.len() > LINE_BYTES_MAX || line.text.is_empty() {
        let location = sources.location(place);
        let origin = Origin::path(path).line(location.line).char_column(location.column);
        return group.element(origin);
    }
    let number = line.number;
    let (text, marked) = masked(line, &sources.hidden(place));
    let annotation = kind.span(marked).label(label);
    group.element(Snippet::source(text).line_start(number).path(path).annotation(annotation))
}

/// The line with one `*` for each hidden character, so that columns stay what they were.
fn masked(line: Line<'_>, hidden: &[std::ops::Range<usize>]) -> (String, std::ops::Range<usize>) {
    if hidden.is_empty() {
        return (line.text.to_owned(), line.marked);
    }
    let mut text = String::new();
    let (mut start, mut end) = (None, None);
    for (at, c) in line.text.char_indices() {
        if at >= line.marked.start && start.is_none() {
            start = Some(text.len());
        }
        if at >= line.marked.end && end.is_none() {
            end = Some(text.len());
        }
        let secret = hidden.iter().any(|range| range.contains(&at));
        text.push(if secret { '*' } else { c });
    }
    let start = start.unwrap_or(text.len());
    let marked = start..end.unwrap_or(text.len()).max(start);
    (text, marked)
}
