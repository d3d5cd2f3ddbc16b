//! Human tickets and dead letters.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::problem::Problem;
use super::{Answer, Shared, feeds, recipes, subject, views};

/// Dead letters in one answer.
const PAGE: usize = 1_000;

/// No answer to a ticket is larger.
const MAX_ANSWER: u64 = 64 << 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TicketQuery {
    state: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageQuery {
    from: u64,
    limit: Option<usize>,
}

pub async fn list(state: Shared, request: HttpRequest) -> Answer {
    let wanted = recipes::query::<TicketQuery>(&request)?.state;
    if let Some(other) = wanted.as_deref().filter(|state| !["open", "resolved"].contains(state)) {
        return Err(Problem::bad_request(format!("query: state is `{other}`: expected open or resolved")));
    }
    Ok(HttpResponse::Ok().json(views::Tickets { tickets: state.backend.tickets(wanted).await? }))
}

pub async fn show(state: Shared, number: web::Path<String>) -> Answer {
    let number = parse_number(&number)?;
    let found = state.backend.tickets(None).await?.into_iter().find(|ticket| ticket.number == number);
    Ok(HttpResponse::Ok().json(found.ok_or_else(|| Problem::not_found(format!("there is no ticket {number}")))?))
}

pub async fn answer(state: Shared, number: web::Path<String>, request: HttpRequest, body: web::Payload) -> Answer {
    let number = parse_number(&number)?;
    let body = feeds::read(body, None, MAX_ANSWER).await?;
    let answer: views::TicketAnswer =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
    Ok(HttpResponse::Ok().json(state.backend.answer_ticket(number, answer, subject(&request)).await?))
}

pub async fn dead_letters(state: Shared, request: HttpRequest) -> Answer {
    let query = recipes::query::<PageQuery>(&request)?;
    let limit = query.limit.unwrap_or(PAGE).min(PAGE);
    let dead_letters = state.backend.dead_letters(query.from, limit).await?;
    Ok(HttpResponse::Ok().json(views::DeadLetters { dead_letters }))
}

pub async fn dead_letter(state: Shared, number: web::Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(state.backend.dead_letter(parse_number(&number)?).await?))
}

fn parse_number(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::bad_request(format!("`{text}` is not a number")))
}
