//! Serves the table of routes: the right handler, its deadline, and words for everything else.

use std::time::Duration;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, guard};

use super::call::{Call, Node};
use super::problem::AdminError;
use super::routes::{ROUTES, Route, Verb};

/// Serves the table; everything else is refused in words.
pub fn register(config: &mut ServiceConfig) {
    for routes in ROUTES.chunk_by(|one, next| one.path == next.path) {
        config.service(resource(routes));
    }
    config.default_service(web::to(async |request: HttpRequest| {
        Err::<HttpResponse, _>(AdminError::not_found(format!("there is nothing at {}", request.path())))
    }));
}

fn resource(routes: &'static [Route]) -> Resource {
    let add = |resource: Resource, route: &'static Route| {
        let handler = move |node, request, payload| dispatch(route, node, request, payload);
        resource.route(web::route().guard(method(route)).to(handler))
    };
    let allow = routes.iter().map(|route| route.method.allows()).collect::<Vec<_>>().join(", ");
    let refuse = move |request: HttpRequest| {
        std::future::ready(Err::<HttpResponse, _>(AdminError::method_not_allowed(request.method().as_str(), &allow)))
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
    let call = Call::new(node, request, payload.into_inner());
    let answered = tokio::time::timeout(route.deadline, (route.handler)(call)).await;
    answered.unwrap_or_else(|_| {
        let seconds = route.deadline.as_secs();
        Err(AdminError::overloaded(
            format!("no answer within {seconds} s: it is not known whether it was done"),
            Duration::from_secs(5),
        ))
    })
}
