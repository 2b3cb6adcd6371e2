//! Log lines: one event, one line on stdout, whatever a stranger put into it.
//!
//! `line` renders and escapes, `writer` owns stdout, this file connects both to `tracing`.
//! May import: `model`, `secret`. Must never: panic, or make the code that logs wait for whoever reads stdout.

mod line;
#[cfg(test)]
mod tests;
mod writer;

use crate::model::Clock;
use crate::secret::Secrets;
use line::Fields;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use writer::Writer;

/// What a line looks like (`--log.format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object: `ts`, `level`, `msg`, `target`, then the fields of the event and its spans.
    #[default]
    Json,
    /// For people: time, level, target, message, `name=value`; what cannot be seen is escaped.
    Text,
}

impl Format {
    /// The format called `word`: `json` or `text`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not one.
    #[error("the log level {value:?} is not valid: {why}")]
    Level {
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Stdout cannot be had, or the thread that writes to it not be started.
    #[error("stdout cannot be written to from a thread of its own")]
    Output(#[source] io::Error),
    /// The process has its log already.
    #[error("logging was started before")]
    Twice,
}

/// The started log. Keep it until the end: dropping it waits up to a second for the last lines.
#[derive(Debug)]
#[must_use = "dropping it early makes the last lines of the process get lost"]
pub struct Logs {
    writer: Arc<Writer>,
}

impl Logs {
    /// Waits at most `limit` until every line so far is written; whether it is.
    ///
    /// Call it before `std::process::exit`, which drops nothing.
    pub fn flush(&self, limit: Duration) -> bool {
        self.writer.flush(limit)
    }

    /// Lines lost since the start because stdout took no more.
    pub fn lost(&self) -> u64 {
        self.writer.lost()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.writer.flush(Duration::from_secs(1));
    }
}

/// Sends every `tracing` event of the process that passes `level` to stdout, each as one line.
///
/// `level` is `off`, `error`, `warn`, `info`, `debug`, `trace`, or a list such as `runbookd=debug,hyper=warn`.
/// Spans of this program at `info` or above keep their fields whatever the level, so that a warning still
/// names its execution.
///
/// # Errors
/// [`LogError`]; a second call is one.
pub fn init(level: &str, format: Format, clock: Arc<dyn Clock>, secrets: Secrets) -> Result<Logs, LogError> {
    let filter = EventFilter::new(level)?;
    // A copy of the descriptor has no buffer and no lock that a panicking `println!` could hold.
    let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(LogError::Output)?;
    let lines = Lines::new(format, clock, std::fs::File::from(stdout), secrets).map_err(LogError::Output)?;
    let logs = Logs { writer: lines.writer.clone() };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(logs)
}

/// The layer that makes lines.
struct Lines {
    format: Format,
    clock: Arc<dyn Clock>,
    writer: Arc<Writer>,
    secrets: Secrets,
}

impl Lines {
    fn new(
        format: Format,
        clock: Arc<dyn Clock>,
        out: impl io::Write + Send + 'static,
        secrets: Secrets,
    ) -> io::Result<Self> {
        let notice_clock = clock.clone();
        let notice = move |lost: u64| {
            let mut fields = Fields::default();
            fields.message("log lines dropped");
            fields.number("dropped", lost);
            line::render(format, notice_clock.now(), tracing::Level::WARN, module_path!(), &fields)
        };
        let writer = Writer::start(out, notice)?;
        Ok(Self { format, clock, writer: Arc::new(writer), secrets })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // Values are formatted before the span is locked: their code is not ours and may log itself.
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id) {
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<Fields>() {
                Some(known) => known.merge(&fields),
                None => extensions.insert(fields),
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.merge(outer);
            }
        }
        fields.merge(&own);
        let metadata = event.metadata();
        let line = line::render(self.format, self.clock.now(), *metadata.level(), metadata.target(), &fields);
        // What other programs said may be part of it.
        self.writer.send(&self.secrets.redactor().text(&line));
    }
}

/// [`EnvFilter`] for events; this program's own spans pass whatever it says.
struct EventFilter(EnvFilter);

impl EventFilter {
    fn new(level: &str) -> Result<Self, LogError> {
        let error = |why: String| LogError::Level { value: level.chars().take(200).collect(), why };
        let parts: Vec<&str> = level.split(',').map(str::trim).collect();
        for part in &parts {
            // The syntax takes a bare word that is no level for a target to trace: a typo would open a flood.
            let names_target = part.contains(['=', '[']);
            if part.is_empty() || !names_target && part.parse::<LevelFilter>().is_err() {
                return Err(error(format!(
                    "{part:?} is none of off, error, warn, info, debug, trace (for one target write target=level)"
                )));
            }
        }
        let filter = EnvFilter::builder().parse(parts.join(",")).map_err(|cause| error(cause.to_string()))?;
        Ok(Self(filter))
    }

    fn is_own_span(metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
            && *metadata.level() <= tracing::Level::INFO
            && metadata.target().split("::").next() == Some(env!("CARGO_PKG_NAME"))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for EventFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        Self::is_own_span(metadata) || Filter::<S>::enabled(&self.0, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = Filter::<S>::callsite_enabled(&self.0, metadata);
        if Self::is_own_span(metadata) { Interest::always() } else { interest }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.0).map(|level| level.max(LevelFilter::INFO))
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        Filter::<S>::event_enabled(&self.0, event, context)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_new_span(&self.0, attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Filter::<S>::on_record(&self.0, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_enter(&self.0, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_exit(&self.0, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Filter::<S>::on_close(&self.0, id, context);
    }
}
