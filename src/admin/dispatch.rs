//! Serves the table of routes: past the door, the right handler, its deadline, and words for everything else.

use std::time::Duration;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, guard};

use super::call::{Call, Node};
use super::door::Needs;
use super::problem::AdminError;
use super::routes::{ROUTES, Route, Verb};

/// Serves the table; everything else is refused in words.
pub fn register(config: &mut ServiceConfig) {
    for routes in ROUTES.chunk_by(|one, next| one.path == next.path) {
        config.service(resource(routes));
    }
    config.default_service(web::to(async |node: Data<Node>, request: HttpRequest| {
        // What is there and what isn't is not told to strangers either.
        node.door.enter(&*node.backend, &request, Needs::Token)?;
        Err::<HttpResponse, _>(AdminError::not_found(format!("there is nothing at {}", request.path())))
    }));
}

fn resource(routes: &'static [Route]) -> Resource {
    let add = |resource: Resource, route: &'static Route| {
        let handler = move |node, request, payload| dispatch(route, node, request, payload);
        resource.route(web::route().guard(method(route)).to(handler))
    };
    let allow = routes.iter().map(|route| route.method.allows()).collect::<Vec<_>>().join(", ");
    let refuse = move |node: Data<Node>, request: HttpRequest| {
        let entered = node.door.enter(&*node.backend, &request, Needs::Token);
        let refused =
            entered.err().unwrap_or_else(|| AdminError::method_not_allowed(request.method().as_str(), &allow));
        std::future::ready(Err::<HttpResponse, _>(refused))
    };
    routes.iter().fold(web::resource(routes[0].path), add).default_service(web::to(refuse))
}

fn method(route: &Route) -> guard::AnyGuard {
    let own = guard::Any(guard::Method(route.method.method()));
    if route.method == Verb::Get { own.or(guard::Head()) } else { own }
}

async fn dispatch(
    route: &'static Route,
    node: Data<Node>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, AdminError> {
    let by = node.door.enter(&*node.backend, &request, route.needs)?;
    let call = Call::new(node, request, payload.into_inner(), by);
    let answered = tokio::time::timeout(route.deadline, (route.handler)(call)).await;
    answered.unwrap_or_else(|_| {
        let seconds = route.deadline.as_secs();
        Err(AdminError::overloaded(
            format!("no answer within {seconds} s: it is not known whether it was done"),
            Duration::from_secs(5),
        ))
    })
}
