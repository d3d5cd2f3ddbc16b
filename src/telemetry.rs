//! Logs on stderr: for people on a terminal, JSON lines elsewhere. Lines of the target `audit` are written whatever
//! the filter says: they were promised. Metrics are not made here.

use std::io::IsTerminal;

use tracing::{error, warn};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// From here on the process logs, panics included. Later calls do nothing.
pub fn start() {
    let given = std::env::var("HMS_LOG").or_else(|_| std::env::var("RUST_LOG")).unwrap_or_default();
    let (filter, complaint) = filter(&given);
    if tracing_subscriber::registry().with(lines().with_filter(filter)).try_init().is_err() {
        return;
    }
    log_panics();
    if let Some(complaint) = complaint {
        warn!("the log filter is not understood, `info` is used: {complaint}");
    }
}

/// What was asked for, else what an operator wants to see; and what is wrong with what was asked for.
fn filter(given: &str) -> (EnvFilter, Option<String>) {
    let builder = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let (filter, complaint) = match builder().parse(given) {
        Ok(filter) => (filter, None),
        Err(error) => (builder().parse_lossy(""), Some(error.to_string())),
    };
    let promised = "audit=info".parse().expect("is a directive");
    let chatter = "actix_server=warn".parse().expect("is a directive");
    (filter.add_directive(chatter).add_directive(promised), complaint)
}

fn lines() -> Box<dyn Layer<Registry> + Send + Sync> {
    if std::io::stderr().is_terminal() {
        return layer().with_writer(std::io::stderr).boxed();
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
    fn a_promised_line_is_written_whatever_the_filter_says() {
        let page = Page::default();
        let writer = page.clone();
        let lines = layer().json().flatten_event(true).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter("off").0));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "audit", "sync.success.{} {}", "vdot.bridge_grant", 1);
            tracing::error!("not asked for");
        });
        let text = String::from_utf8(page.0.lock().expect("one writer").clone()).expect("text");
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains(r#""message":"sync.success.vdot.bridge_grant 1","target":"audit""#), "{text}");
    }
}
