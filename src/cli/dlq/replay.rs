//! `hms dlq replay`: many dead letters one after another, at a chosen rate, a line each. It keeps nothing: a letter
//! that was delivered is gone, so an interrupted run is simply begun again.

use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Of;
use crate::admin::views::{DeadLetterList, LetterOutcome, LetterState};
use crate::cli::client::{Answer, Call, Client, parse};
use crate::cli::{Error, render};
use crate::recipe::values::Rate;
use crate::yaml::values::FromText;

/// The node waits half a minute for a delivery before it says that it goes on.
const REPLAY_DEADLINE: Duration = Duration::from_secs(75);

/// Letters in a page, when all are wanted.
const PAGE: u64 = 10_000;

/// Deliver dead letters to the targets that missed them, one after another; safe to interrupt and to repeat
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Which ones
    #[arg(value_name = "N", required_unless_present = "all", conflicts_with = "all")]
    numbers: Vec<u64>,
    /// All of them, or all of a recipe or target
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    of: Of,
    /// At most so many, as 5/s or 30/m
    #[arg(long, value_parser = rate)]
    rate: Option<Duration>,
    /// Also those that may have arrived
    #[arg(long)]
    force: bool,
}

/// The time between two starts.
fn rate(text: &str) -> Result<Duration, String> {
    let wrong = |help: Option<String>| help.unwrap_or_else(|| format!("expected {}", Rate::EXPECTED));
    let rate = Rate::from_text(text).map_err(wrong)?;
    Ok(rate.per / rate.requests)
}

/// How it ended for one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Delivered,
    GoesOn,
    Failed,
}

impl Replay {
    pub async fn run(self, client: &Client, json: bool) -> Result<(), Error> {
        if !self.all && (self.of.recipe.is_some() || self.of.target.is_some()) {
            return Err(Error::Usage("--recipe and --target go with --all, not with numbers".to_owned()));
        }
        let numbers = if self.all { all(client, &self.of).await? } else { self.numbers.clone() };
        if numbers.is_empty() {
            return if json { Ok(()) } else { render::line("none") };
        }
        let progress = match numbers.len() > 1 && !json {
            true => render::progress(Some(numbers.len() as u64), "letters"),
            false => ProgressBar::hidden(),
        };
        let ends = self.each(client, &numbers, json, &progress).await;
        progress.finish_and_clear();
        let ends = ends?;
        let count = |end| ends.iter().filter(|found| **found == end).count();
        let [delivered, goes_on, failed] = [End::Delivered, End::GoesOn, End::Failed].map(count);
        if ends.len() > 1 && !json {
            render::line(&format!("delivered {delivered}, still going on {goes_on}, failed {failed}"))?;
        }
        match failed {
            0 => Ok(()),
            _ => Err(Error::Failed(format!("{failed} of {} dead letters were not delivered", ends.len()))),
        }
    }

    async fn each(
        &self,
        client: &Client,
        numbers: &[u64],
        json: bool,
        progress: &ProgressBar,
    ) -> Result<Vec<End>, Error> {
        let mut pace = self.rate.map(paced);
        let mut ends = Vec::new();
        for &number in numbers {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            let body = format!("{{\"force\":{}}}", self.force);
            let call = Call::post(format!("/v1/dead-letters/{number}/replay")).body("application/json", body);
            let answer = client.call(call.within(REPLAY_DEADLINE)).await?;
            let (end, line) = self.told(number, &answer)?;
            progress.suspend(|| if json { render::json(&answer.body) } else { render::line(&line) })?;
            progress.inc(1);
            ends.push(end);
        }
        Ok(ends)
    }

    /// What the node's answer means, and the line for it.
    fn told(&self, number: u64, answer: &Answer) -> Result<(End, String), Error> {
        if answer.status.is_success() {
            let outcome: LetterOutcome = parse(&answer.body)?;
            return Ok(match outcome.state {
                LetterState::Replaying => (
                    End::GoesOn,
                    format!("… {number}  goes on; `hms dlq show {number}` says how it is{}", later(&outcome)),
                ),
                _ => (End::Delivered, format!("✓ {number}  delivered{}", later(&outcome))),
            });
        }
        let under_way = serde_json::from_slice::<Value>(&answer.body).is_ok_and(|problem| problem["replaying"] == true);
        if answer.status == StatusCode::CONFLICT && under_way {
            return Ok((End::GoesOn, format!("… {number}  a replay of it is under way already")));
        }
        if answer.status == StatusCode::NOT_FOUND && self.all {
            // It was there a moment ago: somebody else has replayed or dropped it.
            return Ok((End::Delivered, format!("✓ {number}  is gone already")));
        }
        Ok((End::Failed, format!("✗ {number}  {}", render::one_line(&answer.reason()))))
    }
}

/// The first tick is at once; a replay that took long is not made up for.
fn paced(between: Duration) -> Interval {
    let mut pace = interval(between);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// The numbers of all that are there now: what becomes a dead letter meanwhile is for the next time.
async fn all(client: &Client, of: &Of) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    let mut from = Some(0);
    while let Some(first) = from {
        let page: DeadLetterList = parse(&client.accepted(Call::get(of.page(first, PAGE))).await?)?;
        numbers.extend(page.dead_letters.iter().map(|letter| letter.number));
        // A node that names a page twice would be asked for ever.
        from = page.next.filter(|next| *next > first);
    }
    Ok(numbers)
}

fn later(outcome: &LetterOutcome) -> String {
    const SHOWN: usize = 3;
    if outcome.later.is_empty() {
        return String::new();
    }
    let shown = outcome.later.iter().take(SHOWN).map(|event| format!("{} at offset {}", event.id, event.offset));
    let more = match outcome.later.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; later events of its key had gone before: {}{more}", shown.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dlq::tests::letter;
    use crate::cli::scripted;

    const DELIVERED: &str = r#"{"number":7,"state":"delivered","later":[]}"#;

    fn of(numbers: &[u64]) -> Replay {
        Replay { numbers: numbers.to_vec(), all: numbers.is_empty(), of: Of::default(), rate: None, force: false }
    }

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: body.into(),
            advice: String::new(),
        }
    }

    #[tokio::test]
    async fn one_that_fails_does_not_stop_the_others_and_is_told_by_the_exit_code() {
        let (client, requests) = scripted::node(vec![
            Some((200, DELIVERED)),
            Some((422, r#"{"detail":"422 no such grant"}"#)),
            Some((202, r#"{"number":9,"state":"replaying","later":[]}"#)),
        ]);
        let error = of(&[7, 8, 9]).run(&client, false).await.expect_err("one was refused");
        assert_eq!(error.to_string(), "1 of 3 dead letters were not delivered");
        let asked: Vec<_> = requests.iter().collect();
        assert_eq!(asked[2], "POST /v1/dead-letters/9/replay HTTP/1.1\n{\"force\":false}");
    }

    #[tokio::test]
    async fn all_are_collected_page_by_page() {
        let page = |number, next: Option<u64>| {
            let page = DeadLetterList { dead_letters: vec![letter(number, "gis", "e", "422")], next };
            Some((200, &*serde_json::to_string(&page).unwrap().leak()))
        };
        let (client, requests) =
            scripted::node(vec![page(7, Some(9)), page(9, None), Some((200, DELIVERED)), Some((404, "{}"))]);
        of(&[]).run(&client, false).await.expect("one is delivered, the other went meanwhile");
        let asked: Vec<_> = requests.iter().collect();
        assert_eq!(asked[1], "GET /v1/dead-letters?from=9&limit=10000 HTTP/1.1\n");
        assert!(asked[3].starts_with("POST /v1/dead-letters/9/replay"), "{asked:?}");
    }

    #[tokio::test]
    async fn a_node_that_is_gone_ends_it_at_once() {
        let (client, _) = scripted::node(vec![Some((200, DELIVERED)), None]);
        let error = of(&[7, 8, 9]).run(&client, false).await.expect_err("nobody answers");
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }

    #[test]
    fn each_answer_is_told_in_a_line() {
        let later = r#"{"number":7,"state":"delivered","later":[{"offset":1,"id":"a"},{"offset":2,"id":"b"},{"offset":3,"id":"c"},{"offset":4,"id":"d"}]}"#;
        for (all, answer, end, words) in [
            (false, answer(200, DELIVERED), End::Delivered, "✓ 7  delivered"),
            (
                false,
                answer(200, later),
                End::Delivered,
                "before: a at offset 1, b at offset 2, c at offset 3 and 1 more",
            ),
            (false, answer(409, r#"{"detail":"x","replaying":true}"#), End::GoesOn, "under way already"),
            (false, answer(409, r#"{"detail":"needs `force`"}"#), End::Failed, "✗ 7  needs `force`"),
            (false, answer(404, r#"{"detail":"there is no dead letter 7"}"#), End::Failed, "no dead letter 7"),
            (true, answer(404, "{}"), End::Delivered, "gone already"),
            (true, answer(503, r#"{"detail":"stopping"}"#), End::Failed, "stopping"),
        ] {
            let replay = if all { of(&[]) } else { of(&[7]) };
            let (found, line) = replay.told(7, &answer).unwrap();
            assert_eq!(found, end, "{line}");
            assert!(line.contains(words), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_never_exceeded_also_not_after_a_slow_one() {
        let mut pace = paced(rate("5/s").unwrap());
        let start = tokio::time::Instant::now();
        let mut starts = Vec::new();
        for nth in 0..4 {
            pace.tick().await;
            starts.push(start.elapsed().as_millis());
            tokio::time::advance(Duration::from_millis(if nth == 1 { 700 } else { 1 })).await;
        }
        assert_eq!(starts, [0, 200, 900, 1_100]);
    }

    #[test]
    fn a_rate_that_is_none_is_refused_in_words() {
        assert_eq!(rate("30/m"), Ok(Duration::from_secs(2)));
        for wrong in ["5", "0/s", "5/day", ""] {
            assert!(rate(wrong).unwrap_err().contains("5"), "{wrong}");
        }
    }
}
