//! What there is, for people and for programs that make clients: both documents are made from the route table.

use crate::{Access, ROOT, Route, answer::Answer, call::Visit, fault::Refused, schema};
use serde_json::{Map, Value, json};

/// The one route whose answer is no document.
const STREAM: &str = "events/listen";

/// `GET /stillpoint/v1`.
pub(crate) async fn root(visit: Visit) -> Result<Answer, Refused> {
    let routes: Vec<Value> = crate::routes()
        .map(|route| {
            json!({
                "method": route.method.as_str(),
                "path": format!("{ROOT}{}", route.pattern),
                "name": route.name,
                "access": access(route.access),
                "about": route.about,
            })
        })
        .collect();
    Ok(Answer::ok(&json!({
        "name": "stillpoint",
        "version": env!("CARGO_PKG_VERSION"),
        "openapi": format!("{}{ROOT}/openapi.json", visit.api.public_url()),
        "routes": routes,
    })))
}

/// `GET /stillpoint/v1/openapi.json`.
pub(crate) async fn openapi(visit: Visit) -> Result<Answer, Refused> {
    Ok(Answer::ok(&document(visit.api.public_url())))
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Public => "public",
        Access::AnyUser => "any_user",
        Access::Read => "read",
        Access::Operate => "operate",
        Access::Admin => "admin",
    }
}

/// The OpenAPI document of the route table.
fn document(public_url: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in crate::routes() {
        let path = if route.pattern.is_empty() { "/" } else { route.pattern };
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stillpoint",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": format!("{public_url}{ROOT}")}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
            "schemas": schema::all(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let given = route
        .pattern
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = given
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(route.params.iter().map(|param| {
        json!({
            "name": param.name,
            "in": "query",
            "description": param.about,
            "schema": {"type": "string"},
        })
    }));
    let mut good = json!({"description": "As the summary says"});
    if route.name == STREAM {
        good["content"] = json!({"text/event-stream": {"schema": {"type": "string"}}});
    } else if let Some(schema) = schema::of_answer(route.name) {
        good["content"] = json!({"application/json": {"schema": schema}});
    }
    let mut operation = json!({
        "operationId": route.name.replace('/', "_"),
        "summary": route.about,
        "x-access": access(route.access),
        "parameters": parameters,
        "responses": {
            "2XX": good,
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    });
    if route.access == Access::Public {
        operation["security"] = json!([]);
    }
    operation
}
