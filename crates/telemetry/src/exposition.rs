//! Whole pages of metrics, in the two text formats that scrapers ask for.
//!
//! OpenMetrics 1.0 is what `prometheus-client` writes. The classic format (version 0.0.4) differs in little that concerns
//! us: a counter's head carries the `_total` of its rows, an info family is a gauge whose head carries `_info`, there are
//! no `# UNIT` lines and no end mark.

use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Classic,
}

impl Exposition {
    /// The format that a scraper's `Accept` asks for: OpenMetrics if it is named and not refused, otherwise the classic
    /// format, which everything can read, a browser too.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let wanted = accept.unwrap_or_default().split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
            named && !refused
        });
        if wanted { Self::OpenMetrics } else { Self::Classic }
    }

    /// The page's `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Scrapes the registry into a page.
    ///
    /// # Errors
    /// Those of the registry's collectors.
    pub fn page(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, registry)?;
        Ok(match self {
            Self::OpenMetrics => page,
            Self::Classic => classic(&page),
        })
    }
}

/// Rewrites a page from OpenMetrics to the classic format.
fn classic(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    // The head that must change its name comes before the line that says of which kind it is.
    let mut help: Option<(&str, &str)> = None;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_scraper_asks_for() {
        let check = |accept: Option<&str>, expected| assert_eq!(Exposition::negotiate(accept), expected, "{accept:?}");
        check(None, Exposition::Classic);
        check(Some("*/*"), Exposition::Classic);
        check(Some("text/html,application/xhtml+xml"), Exposition::Classic);
        // What Prometheus sends.
        let prometheus =
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3";
        check(Some(prometheus), Exposition::OpenMetrics);
        check(Some("text/plain, Application/OpenMetrics-Text"), Exposition::OpenMetrics);
        check(Some("application/openmetrics-text;q=0"), Exposition::Classic);
    }

    #[test]
    fn the_classic_format_names_heads_as_rows() {
        let page = "# HELP a Text with spaces.\n# TYPE a counter\na_total{x=\"# HELP\"} 1\n\
                    # HELP b_seconds B.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 1.5\n\
                    # HELP c C.\n# TYPE c info\nc_info{v=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_total Text with spaces.\n# TYPE a_total counter\na_total{x=\"# HELP\"} 1\n\
                        # HELP b_seconds B.\n# TYPE b_seconds gauge\nb_seconds 1.5\n\
                        # HELP c_info C.\n# TYPE c_info gauge\nc_info{v=\"1\"} 1\n";
        assert_eq!(classic(page), expected);
    }
}
