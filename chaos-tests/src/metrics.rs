//! Reads the Prometheus text format, as far as assertions on `/metrics` need it.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug)]
pub struct Scrape {
    samples: Vec<Sample>,
    types: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Panics with the line that is not of the format.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self { samples: Vec::new(), types: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                let mut words = comment.split_whitespace();
                if words.next() == Some("TYPE")
                    && let (Some(name), Some(kind)) = (words.next(), words.next())
                {
                    scrape.types.insert(name.to_owned(), kind.to_owned());
                }
            } else {
                scrape.samples.push(sample(line).unwrap_or_else(|| panic!("not a sample: {line}")));
            }
        }
        scrape
    }

    /// The sum over all series of that name that carry all of `labels`; `None` if there is no such series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let carries = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        self.samples.iter().filter(carries).map(|sample| sample.value).reduce(|a, b| a + b)
    }

    /// `counter`, `gauge`, `histogram` or `summary`.
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = match line.rfind('}') {
        Some(end) => (&line[..=end], &line[end + 1..]),
        None => line.split_once(' ')?,
    };
    let value = value.split_whitespace().next()?.replace("+Inf", "inf").parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)?),
        None => (series, BTreeMap::new()),
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

/// Values of our labels are names and kinds: no commas or escaped quotes in them.
fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    text.split(',').filter(|pair| !pair.is_empty()).map(label).collect()
}

fn label(pair: &str) -> Option<(String, String)> {
    let (key, value) = pair.split_once('=')?;
    let value = value.strip_prefix('"')?.strip_suffix('"')?;
    Some((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_over_the_labels_that_were_not_asked_for() {
        let scrape = Scrape::parse(
            "# TYPE sync_fail_total counter\n\
             sync_fail_total{recipe=\"a\",target=\"x\",kind=\"transient\"} 2\n\
             sync_fail_total{recipe=\"a\",target=\"x\",kind=\"refused\"} 3\n\
             up 1\n",
        );
        assert_eq!(scrape.sum("sync_fail_total", &[("target", "x")]), Some(5.0));
        assert_eq!(scrape.sum("sync_fail_total", &[("target", "y")]), None);
        assert_eq!(scrape.sum("up", &[]), Some(1.0));
        assert_eq!(scrape.kind("sync_fail_total"), Some("counter"));
    }
}
