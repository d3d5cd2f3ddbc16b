//! Logs on stderr: for people on a terminal, JSON lines elsewhere. Lines of the target `audit` are the bare message
//! and nothing else, whatever the filter says: they were promised to the letter. Metrics are not made here.

use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, error, warn};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// The target of the lines that scripts look for.
const AUDIT: &str = "audit";

/// From here on the process logs, panics included. Later calls do nothing.
pub fn start() {
    let (filter, complaint) = filter();
    let audit = layer()
        .event_format(BareMessage)
        .with_writer(std::io::stderr)
        .with_filter(filter_fn(|metadata| metadata.target() == AUDIT));
    let started = tracing_subscriber::registry().with(lines().with_filter(filter)).with(audit).try_init();
    if started.is_err() {
        return;
    }
    log_panics();
    if let Some(complaint) = complaint {
        warn!("the log filter is not understood, `info` is used: {complaint}");
    }
}

/// `HMS_LOG`, else `RUST_LOG`, else what an operator wants to see; and what is wrong with it.
fn filter() -> (EnvFilter, Option<String>) {
    let given = std::env::var("HMS_LOG").or_else(|_| std::env::var("RUST_LOG")).unwrap_or_default();
    let builder = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let (filter, complaint) = match builder().parse(&given) {
        Ok(filter) => (filter, None),
        Err(error) => (builder().parse_lossy(""), Some(error.to_string())),
    };
    let not_twice = "audit=off".parse().expect("is a directive");
    (filter.add_directive(not_twice), complaint)
}

fn lines() -> Box<dyn Layer<Registry> + Send + Sync> {
    if std::io::stderr().is_terminal() {
        return layer().with_target(false).with_writer(std::io::stderr).boxed();
    }
    layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stderr)
        .boxed()
}

/// A panic is a line of the log like any other, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, "panic: {message}");
    }));
}

/// The message of an event as a whole line.
struct BareMessage;

impl<S, N> FormatEvent<S, N> for BareMessage
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "{}", message.0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("one writer").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_audit_line_is_the_bare_message() {
        let page = Page::default();
        let writer = page.clone();
        let audit = layer().event_format(BareMessage).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(audit), || {
            let recipe = "vdot.bridge_grant";
            tracing::info!(target: "audit", recipe, "sync.success.{recipe} {}", 1);
        });
        assert_eq!(*page.0.lock().expect("one writer"), b"sync.success.vdot.bridge_grant 1\n");
    }
}
