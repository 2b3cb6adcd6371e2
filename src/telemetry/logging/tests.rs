//! Lines as a collector reads them, under hostile values, slow readers and none.

use super::*;
use crate::model::{ManualClock, Timestamp};
use crate::secret::Secrets;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Mutex;
use tracing::{debug, error, info, info_span, warn};

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new("2026-11-21T03:58:00.007Z".parse::<Timestamp>().unwrap()))
}

/// What `work` logs at `level`.
fn logged(level: &str, format: Format, work: impl FnOnce()) -> String {
    let capture = Capture::default();
    let lines = Lines::new(format, clock(), capture.clone(), Secrets::default()).unwrap();
    let writer = lines.writer.clone();
    let filter = EventFilter::new(level).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.with_filter(filter)), work);
    assert!(writer.flush(Duration::from_secs(10)));
    let bytes = capture.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn objects(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(object.is_object(), "{line}");
            object
        })
        .collect()
}

fn hostile() -> Vec<String> {
    let mut values: Vec<String> = [
        "two\nlines",
        "\n",
        "\r\n{\"level\":\"info\",\"msg\":\"forged\"}\n",
        "over\rwritten",
        "tab\tbed",
        "\0",
        "in\0side",
        "\u{1b}[31mred\u{1b}[0m",
        "\u{1b}[2J\u{1b}[H",
        "\u{1b}]0;title\u{7}",
        "\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{9b}31mc1",
        "\u{90}dcs\u{9c}",
        "\u{85}next line",
        "back\u{8}\u{8}\u{8}\u{8}space",
        "\u{b}\u{c}\u{7f}",
        "\u{202e}txt.exe",
        "\u{202a}\u{202b}\u{202c}\u{202d}",
        "\u{2066}\u{2067}\u{2068}\u{2069}",
        "\u{200e}\u{200f}\u{61c}",
        "line\u{2028}separator",
        "paragraph\u{2029}separator",
        "zero\u{200b}\u{200c}\u{200d}\u{2060}width",
        "\u{feff}mark",
        "soft\u{ad}hyphen",
        "tags\u{e0041}\u{e007f}",
        "quote\" and \\ and \\\" and \\n",
        "\",\"level\":\"error\",\"x\":\"",
        "}}]]",
        "\\u202e",
        "",
        " ",
        "{{ labels.x }} %s %n ${HOME}",
        "grün 日本語 🙂",
        "\u{10ffff}\u{fffd}",
    ]
    .map(str::to_owned)
    .into();
    values.push("x".repeat(1024 * 1024));
    values.push("\u{1b}".repeat(1024 * 1024));
    values.push("🙂\n".repeat(200 * 1024));
    values
}

/// What no line may contain, listed apart from the code's own list.
fn breaks_or_disguises(c: char) -> bool {
    const MARKS: &str = "\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\
        \u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{61c}\u{2060}\u{feff}\u{ad}\u{e0041}\u{e007f}";
    c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c) || MARKS.contains(c)
}

fn log_everywhere(value: &str) {
    let span = info_span!("outer", in_span = value, in_span_debug = ?value, later = tracing::field::Empty);
    span.record("later", value);
    let _entered = span.entered();
    info!(text = value, shown = %value, debug = ?value, count = 3_u64, "{value}");
}

#[test]
fn t13_each_hostile_value_stays_within_one_json_object_and_reads_back() {
    assert!(hostile().len() >= 30);
    for value in hostile() {
        let text = logged("info", Format::Json, || log_everywhere(&value));
        assert_eq!(text.matches('\n').count(), 1, "{value:?}");
        assert!(!text.trim_end().chars().any(breaks_or_disguises), "{value:?}: {text}");
        let object = &objects(&text)[0];
        assert_eq!(object["level"], "info");
        for key in ["msg", "text", "shown", "in_span", "later"] {
            let read = object[key].as_str().unwrap();
            if value.len() <= line::MAX_VALUE {
                assert_eq!(read, value, "{key}");
            } else {
                let (kept, rest) = read.rsplit_once("… [").unwrap();
                assert!(value.starts_with(kept) && kept.len() > line::MAX_VALUE - 4);
                assert_eq!(rest, format!("{} more bytes]", value.len() - kept.len()));
            }
        }
        assert!(object["debug"].is_string() && object["in_span_debug"].is_string());
    }
}

#[test]
fn each_hostile_value_stays_within_one_text_line_and_is_seen() {
    for value in hostile() {
        let text = logged("info", Format::Text, || log_everywhere(&value));
        assert_eq!(text.matches('\n').count(), 1, "{value:?}");
        assert!(!text.trim_end_matches('\n').chars().any(breaks_or_disguises), "{value:?}: {text}");
        assert!(text.starts_with("2026-11-21T03:58:00.007Z INFO  runbookd::telemetry::logging::tests: "));
    }
    let text = logged("info", Format::Text, || {
        info!(unit = "web-1.service", why = "no \"x\"\u{1b}[0m", n = -3, empty = "", "it\n\u{202e}said");
    });
    assert!(
        text.ends_with(
            ": it\\n\\u{202e}said unit=web-1.service why=\"no \\\"x\\\"\\u{1b}[0m\" n=-3 empty=\"\"\n"
        ),
        "{text}"
    );
}

#[test]
fn a_line_has_the_fields_of_the_contract_and_values_keep_their_type() {
    let text = logged("info", Format::Json, || {
        info!(
            target: "runbookd::app",
            port = 9796_u16,
            negative = -1,
            ratio = 0.5,
            nan = f64::NAN,
            big = u64::MAX,
            wide = u128::MAX,
            yes = true,
            r#type = "t",
            none = Option::<u64>::None,
            "listening"
        );
    });
    let expected = json!({
        "ts": "2026-11-21T03:58:00.007Z", "level": "info", "msg": "listening", "target": "runbookd::app",
        "port": 9796, "negative": -1, "ratio": 0.5, "nan": "NaN", "big": u64::MAX,
        "wide": u128::MAX.to_string(), "yes": true, "type": "t",
    });
    assert_eq!(objects(&text), [expected]);
    assert!(text.starts_with(
        "{\"ts\":\"2026-11-21T03:58:00.007Z\",\"level\":\"info\",\"msg\":\"listening\",\"target\":"
    ));
}

#[test]
fn an_error_is_logged_with_what_caused_it() {
    #[derive(Debug, thiserror::Error)]
    #[error("open the store")]
    struct Outer(#[source] io::Error);
    let text = logged("info", Format::Json, || {
        let error = Outer(io::Error::other("disk gone"));
        error!(error = &error as &dyn std::error::Error, "cannot start");
    });
    assert_eq!(objects(&text)[0]["error"], "open the store: disk gone");
}

#[test]
fn span_fields_appear_inner_before_outer_and_the_events_own_before_both() {
    let text = logged("info", Format::Json, || {
        let request = info_span!("request", request_id = "r-1", user = "ann", attempt = 1);
        request.in_scope(|| {
            let step = info_span!("step", execution_id = %"web_01", runbook = "web", step = "s", attempt = 2);
            step.in_scope(|| info!(attempt = 3, "inner"));
            step.in_scope(|| info!("middle"));
            info!("outer");
        });
        info!("none");
    });
    let lines = objects(&text);
    let inner = json!(["r-1", "ann", "web_01", "web", "s", 3]);
    let get = |line: &Value| {
        json!(
            ["request_id", "user", "execution_id", "runbook", "step", "attempt"].map(|key| line[key].clone())
        )
    };
    assert_eq!(get(&lines[0]), inner);
    assert_eq!(get(&lines[1])[5], 2);
    assert_eq!(get(&lines[2]), json!(["r-1", "ann", null, null, null, 1]));
    assert_eq!(get(&lines[3]), json!([null, null, null, null, null, null]));
    let inner_line = text.lines().next().unwrap();
    assert_eq!(inner_line.matches("\"attempt\":").count(), 1, "{inner_line}");
}

#[test]
fn fields_named_like_ours_do_not_replace_them() {
    let text = logged("info", Format::Json, || {
        info!(ts = "never", level = "error", msg = "forged", target = "elsewhere", "real");
    });
    let line = &objects(&text)[0];
    assert_eq!((&line["msg"], &line["level"]), (&json!("real"), &json!("info")));
    assert_eq!((&line["field_msg"], &line["field_ts"]), (&json!("forged"), &json!("never")));
    for key in ["ts", "level", "msg", "target"] {
        assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{text}");
    }
}

#[test]
fn the_level_filter_lets_through_what_it_names() {
    let all = || {
        error!("error");
        warn!("warn");
        info!("info");
        debug!("debug");
        warn!(target: "hyper::client", "hyper warn");
        info!(target: "hyper::client", "hyper info");
    };
    let cases: [(&str, &[&str]); 6] = [
        ("off", &[]),
        ("error", &["error"]),
        ("info", &["error", "warn", "info", "hyper warn", "hyper info"]),
        ("INFO", &["error", "warn", "info", "hyper warn", "hyper info"]),
        ("runbookd=debug, hyper=warn", &["error", "warn", "info", "debug", "hyper warn"]),
        ("warn,runbookd::telemetry=debug", &["error", "warn", "info", "debug", "hyper warn"]),
    ];
    for (level, expected) in cases {
        let lines = objects(&logged(level, Format::Json, all));
        let messages: Vec<&str> = lines.iter().map(|line| line["msg"].as_str().unwrap()).collect();
        assert_eq!(messages, expected, "{level}");
    }
}

#[test]
fn a_warning_names_its_execution_also_when_info_is_off() {
    let text = logged("warn", Format::Json, || {
        let span = info_span!("execution", execution_id = "web_01");
        span.in_scope(|| {
            info!("not shown");
            warn!("shown");
        });
    });
    let lines = objects(&text);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["execution_id"], "web_01");
}

#[test]
fn a_bad_level_is_an_error_that_names_it() {
    for bad in ["", "loud", "inof", "info,", "runbookd=loud", "info,debg", "=", "hyper", "[", "\u{1b}[0m"] {
        let error = EventFilter::new(bad).err().unwrap_or_else(|| panic!("{bad:?} was taken"));
        assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
    }
}

#[test]
fn a_closed_stdout_costs_lines_and_nothing_else() {
    let (reader, pipe) = io::pipe().unwrap();
    drop(reader);
    let lines = Lines::new(Format::Json, clock(), pipe, Secrets::default()).unwrap();
    let writer = lines.writer.clone();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        for n in 0..100 {
            info!(n, "into the void");
            assert!(writer.flush(Duration::from_secs(10)));
        }
    });
    assert_eq!(writer.lost(), 100);
}

#[test]
fn a_reader_that_stalls_blocks_nobody_and_is_told_what_it_missed() {
    let (reader, pipe) = io::pipe().unwrap();
    let lines = Lines::new(Format::Json, clock(), pipe, Secrets::default()).unwrap();
    let writer = lines.writer.clone();
    let padding = "p".repeat(1000);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        for n in 0..20_000 {
            info!(n, padding, "storm");
        }
    });
    assert!(!writer.flush(Duration::from_millis(20)));
    let lost = writer.lost();
    // The queue, one batch in the hand of the writer and the pipe hold some; the rest is gone.
    assert!((5_000..20_000).contains(&lost), "{lost}");
    drop(writer);

    let (mut shown, mut told) = (0_u64, 0_u64);
    for line in BufReader::new(reader).lines() {
        let object = &objects(&format!("{}\n", line.unwrap()))[0];
        match object["msg"].as_str().unwrap() {
            "storm" => shown += 1,
            "log lines dropped" => {
                assert_eq!(object["level"], "warn");
                told += object["dropped"].as_u64().unwrap();
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((shown + lost, told), (20_000, lost));
}

#[test]
fn a_line_cut_off_by_an_error_does_not_spoil_the_next() {
    /// Takes five bytes, fails once, then takes all.
    struct Breaks(Capture, u32);
    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 {
                1 => self.0.write(&bytes[..5]),
                2 => Err(io::Error::other("full")),
                3 => Err(io::ErrorKind::WouldBlock.into()),
                4 => Err(io::ErrorKind::Interrupted.into()),
                _ => self.0.write(bytes),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let capture = Capture::default();
    let writer = Writer::start(Breaks(capture.clone(), 0), |lost| format!("lost {lost}\n")).unwrap();
    for line in ["first line\n", "second line\n"] {
        writer.send(line);
        assert!(writer.flush(Duration::from_secs(10)));
    }
    assert_eq!(String::from_utf8(capture.0.lock().unwrap().clone()).unwrap(), "first\nsecond line\nlost 1\n");
}

#[test]
fn lines_of_many_threads_never_mix() {
    let text = logged("info", Format::Json, || {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let dispatch = dispatch.clone();
                scope.spawn(move || {
                    tracing::dispatcher::with_default(&dispatch, || {
                        (0..500).for_each(|n| info!(thread, n, "at once"));
                    });
                });
            }
        });
    });
    assert_eq!(objects(&text).len(), 4000);
}

/// The process's own log can be started once only, so it is tried in a process of its own: this very test.
#[test]
fn init_logs_to_the_real_stdout_once() {
    const CHILD: &str = "RUNBOOKD_TEST_LOG_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let logs = init("runbookd=warn", Format::Json, clock(), Secrets::default()).unwrap();
        assert!(matches!(init("error", Format::Text, clock(), Secrets::default()), Err(LogError::Twice)));
        assert!(matches!(
            init("loud", Format::Text, clock(), Secrets::default()),
            Err(LogError::Level { .. })
        ));
        // Only alone in a process is the global level this log's own.
        info_span!("execution", execution_id = "web_01").in_scope(|| {
            warn!(status = 503, "shown");
            info!("not shown");
        });
        drop(logs);
        return;
    }
    let name = "telemetry::logging::tests::init_logs_to_the_real_stdout_once";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    // The test harness writes to the same stdout, in one case the beginning of a line.
    let ours: String =
        text.lines().filter_map(|line| line.find("{\"ts\"").map(|at| format!("{}\n", &line[at..]))).collect();
    let lines = objects(&ours);
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!((&lines[0]["msg"], &lines[0]["status"]), (&json!("shown"), &json!(503)));
    assert_eq!(lines[0]["execution_id"], "web_01");
}
