//! Links between documents lead to files and headings that exist. Links to other sites are left alone: whether they
//! answer is not this repository's to say.

use std::path::Path;

use super::{Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.documents() {
        for (line, target) in links(text) {
            if let Some(problem) = problem(tree, path, text, target) {
                findings.push(Finding::new(format!("{}:{line}", path.display()), format!("({target}): {problem}")));
            }
        }
    }
    findings
}

/// Targets of `[text](target)` and `[name]: target` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        let mut rest = content;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find(')').unwrap_or(rest.len());
            // A title may follow the target.
            found.extend(rest[..end].split_whitespace().next().map(|target| (line, target)));
        }
        let definition = content.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(definition.and_then(|(_, target)| target.split_whitespace().next()).map(|target| (line, target)));
    }
    found
}

/// Lines outside fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((at + 1, line))
    })
}

fn problem(tree: &Tree, path: &Path, text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") || target.starts_with('<') {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    if file.starts_with('/') {
        return Some("write it relative to this document".to_owned());
    }
    let to = if file.is_empty() { path.to_owned() } else { path.parent().unwrap_or(Path::new("")).join(file) };
    if !file.is_empty() && !tree.root().join(&to).exists() {
        return Some("no such file".to_owned());
    }
    let anchor = anchor?;
    let read = if file.is_empty() { Ok(text.to_owned()) } else { std::fs::read_to_string(tree.root().join(&to)) };
    let Ok(content) = read else { return Some("no headings there".to_owned()) };
    let known = headings(&content);
    (!known.iter().any(|heading| heading == anchor)).then(|| format!("no such heading; there are {}", known.join(", ")))
}

/// Anchors of a document's headings, as code hosts make them; a heading that comes again gets `-1`, `-2` and so on.
fn headings(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        if !line.starts_with('#') || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
        let times = seen.entry(anchor.clone()).and_modify(|times| *times += 1).or_insert(0_u32);
        anchors.push(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::super::tree::invented;
    use super::*;

    #[test]
    fn dead_links_are_found() {
        let guide = ("docs/guide.md", "# The guide\n## Retry & budget\n## Again\n## Again\n```\n# not one\n```\n");
        let check = |text: &str, finds: usize| {
            let (tree, _dir) = invented::tree(&[guide, ("docs/a.md", text), ("src/main.rs", "")]);
            let findings = check(&tree);
            assert_eq!(findings.len(), finds, "{text}: {findings:?}");
        };
        check("[a](guide.md) [b](../src/main.rs \"title\") [c](https://example.org/x) [d](guide.md#the-guide)", 0);
        check("[a](guide.md#retry--budget) [b](guide.md#again-1)", 0);
        check("# Own\n[a](#own)", 0);
        check("[a](missing.md)", 1);
        check("[a](guide.md#missing) and [b](guide.md#not-one)", 2);
        check("[a](#other)", 1);
        check("[a](/docs/guide.md)", 1);
        check("[a]\n\n[a]: missing.md", 1);
        check("```\n[a](missing.md)\n```", 0);
    }
}
