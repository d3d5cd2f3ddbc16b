//! The description is complete, and points to nothing that isn't in it.

use serde_json::Value;

use super::*;
use crate::admin::routes::ROUTES;

fn refs(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| refs(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| refs(item, found)),
        _ => {}
    }
}

#[actix_web::test]
async fn the_description_has_every_route_and_every_reference_resolves() {
    let (server, _) = start();
    let document = send(&server, Request::get("/openapi.json")).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = std::collections::BTreeSet::new();
    for route in ROUTES {
        let method = route.method.method().as_str().to_ascii_lowercase();
        let operation = &document["paths"][route.path][&method];
        assert!(operations.insert(operation["operationId"].as_str().unwrap()), "{} is there twice", route.operation);
        let parameters = operation["parameters"].as_array().unwrap();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(in_path, route.path.matches('{').count(), "{}", route.path);
        for schema in operation["responses"].as_object().unwrap().values() {
            assert!(schema["content"].as_object().unwrap().values().all(|media| media["schema"].is_object()));
        }
    }
    let mut found = Vec::new();
    refs(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[actix_web::test]
async fn what_has_to_be_given_is_marked_and_what_may_be_left_out_is_not() {
    let (server, _) = start();
    let paths = &send(&server, Request::get("/openapi.json")).await.json()["paths"];
    let reason = &paths["/v1/dead-letters/{n}"]["delete"]["parameters"][1];
    assert_eq!((&reason["name"], &reason["required"]), (&"reason".into(), &false.into()));
    let limit = paths["/v1/dead-letters"]["get"]["parameters"].as_array().unwrap();
    assert!(limit.iter().all(|parameter| parameter["required"] == false));
    let replay = &paths["/v1/dead-letters/{n}/replay"]["post"];
    assert_eq!(replay["requestBody"]["required"], false);
    assert!(replay["responses"]["202"].is_object());
    assert_eq!(paths["/v1/recipes/{id}/targets/{name}/circuit"]["post"]["requestBody"]["required"], true);
}

#[actix_web::test]
async fn every_route_of_the_table_is_served() {
    let (server, _) = start();
    for route in ROUTES {
        let path =
            route.path.replace("{n}", "1").replace("{id}", "none").replace("{feed}", "none").replace("{name}", "none");
        let answer = send(&server, Request::new(route.method.allows().split(',').next().unwrap(), path)).await;
        assert_ne!(answer.status, 405, "{}", route.path);
        assert!(!answer.text().contains("there is nothing at"), "{}", route.path);
    }
}

#[actix_web::test]
async fn answers_are_as_described() {
    let (server, fake) = start();
    fake.letters.lock().unwrap().push(fake::dead_letter(7, "e-7"));
    let document = send(&server, Request::get("/openapi.json")).await.json();
    for (path, described) in [
        ("/v1/recipes/grants.sync", "/v1/recipes/{id}"),
        ("/v1/recipes/grants.sync/targets/vdot_gis", "/v1/recipes/{id}/targets/{name}"),
        ("/v1/recipes", "/v1/recipes"),
        ("/v1/tickets", "/v1/tickets"),
        ("/v1/circuits", "/v1/circuits"),
        ("/v1/dead-letters", "/v1/dead-letters"),
        ("/v1/dead-letters/7", "/v1/dead-letters/{n}"),
        ("/v1/supervision", "/v1/supervision"),
        ("/v1/audit/proof?leaf=1&size=3", "/v1/audit/proof"),
        ("/v1/audit/consistency?from=1", "/v1/audit/consistency"),
        ("/readyz", "/readyz"),
    ] {
        let schema = &document["paths"][described]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let mut schema = schema.clone();
        schema["components"] = document["components"].clone();
        let answer = send(&server, Request::get(path)).await.json();
        let errors: Vec<String> = match jsonschema::validator_for(&schema) {
            Ok(validator) => validator.iter_errors(&answer).map(|error| error.to_string()).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert!(errors.is_empty(), "{path}: {errors:?}");
    }
}
