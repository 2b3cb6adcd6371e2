//! The two formats of a scrape's answer, and which one the scraper asked for.
//!
//! The encoder writes OpenMetrics 1.0; the text format 0.0.4 is made from it line by line.
//! May import: nothing of this crate. Must never: know a metric.

/// `Content-Type` of the text format.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// `Content-Type` of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether an `Accept` header prefers OpenMetrics 1.0 to plain text; plain text wins a tie only by being
/// named with a higher `q`, as Prometheus does when told to scrape text first.
pub(super) fn wants_openmetrics(accept: &str) -> bool {
    let mut openmetrics = 0.0_f64;
    let mut text = 0.0_f64;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f64, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match media.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                openmetrics = openmetrics.max(quality);
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => text = text.max(quality),
            _ => {}
        }
    }
    openmetrics > 0.0 && openmetrics >= text
}

/// OpenMetrics text as text format 0.0.4.
///
/// A counter's family is named without `_total` there and with it here, and an info's without `_info`;
/// `unknown` is called `untyped`; units, exemplars and the end mark do not exist.
pub(super) fn to_text_format(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len() + 1024);
    let mut help: Option<&str> = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // Held back: its name depends on the type, which comes next.
            help = Some(rest);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "gauge" | "histogram" | "summary" => ("", kind),
                _ => ("", "untyped"),
            };
            if let Some((_, text)) = help.take().and_then(|help| help.split_once(' ')) {
                push(&mut out, &["# HELP ", name, suffix, " ", text, "\n"]);
            }
            push(&mut out, &["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') && !line.is_empty() {
            push(&mut out, &[without_exemplar(line), "\n"]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

/// The sample up to ` # `, looked for outside of quotes: a label value may contain it.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_sent_only_to_those_who_ask_for_it() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3_text_first = "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2";
        let cases = [
            ("", false),
            ("*/*", false),
            ("text/html, */*;q=0.8", false),
            ("text/plain", false),
            (prometheus_2, true),
            (prometheus_3_text_first, false),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; Version=1.0.0; Q=0.3", true),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;version=9.0.0", false),
            ("application/openmetrics-text;q=banana, text/plain", false),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", false),
            (";;;,,,=;q=", false),
        ];
        for (accept, expected) in cases {
            assert_eq!(wants_openmetrics(accept), expected, "{accept}");
        }
    }

    #[test]
    fn every_openmetrics_type_has_its_form_in_the_text_format() {
        let openmetrics = concat!(
            "# HELP a_seconds Time spent.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n",
            "a_seconds_total{x=\"a # {b} \\\" c\"} 1.0 # {trace_id=\"t\"} 0.5 1700000000.1\na_seconds_total 2\n",
            "# HELP b Facts.\n# TYPE b info\nb_info{v=\"1\"} 1\n",
            "# HELP c Who knows.\n# TYPE c unknown\nc 3\n",
            "# HELP d Sizes.\n# TYPE d histogram\nd_sum 1.0\nd_count 1\nd_bucket{le=\"+Inf\"} 1 # {} 1.0\n",
            "# EOF\n",
        );
        let expected = concat!(
            "# HELP a_seconds_total Time spent.\n# TYPE a_seconds_total counter\n",
            "a_seconds_total{x=\"a # {b} \\\" c\"} 1.0\na_seconds_total 2\n",
            "# HELP b_info Facts.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n",
            "# HELP c Who knows.\n# TYPE c untyped\nc 3\n",
            "# HELP d Sizes.\n# TYPE d histogram\nd_sum 1.0\nd_count 1\nd_bucket{le=\"+Inf\"} 1\n",
        );
        assert_eq!(to_text_format(openmetrics), expected);
    }
}
