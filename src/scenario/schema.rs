//! The format as a JSON schema, for editors: made from the tables of `fields`. What a schema can't say (commands, conditions,
//! what can't go well) is for `replab check`.

use serde_json::{Map, Value, json};

use super::fields::{ACTIONS, Field, Kind, LESSON, Shape};

/// The schema of a lesson (JSON Schema 2020-12).
pub fn schema() -> Value {
    let mut schema = table(&LESSON);
    let head = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("A scenario of replab")),
        ("description", json!("One TOML file, one lesson. docs/scenario-format.md says more.")),
    ];
    if let Value::Object(map) = &mut schema {
        map.extend(head.into_iter().map(|(key, value)| (key.to_owned(), value)));
    }
    schema
}

fn table(shape: &Shape) -> Value {
    let properties: Map<String, Value> = shape.fields.iter().map(|f| (f.name.to_owned(), field(f))).collect();
    let required: Vec<&str> = shape.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    if let Value::Object(map) = &mut schema
        && shape.fields.iter().any(|f| f.name == ACTIONS[0])
    {
        map.extend(of_step(shape));
    }
    schema
}

/// A step has one action, or is an ornament of the next; some fields go with some actions only.
fn of_step(shape: &Shape) -> Map<String, Value> {
    let has = |name: &str| json!({ "required": [name] });
    let actions: Vec<Value> = ACTIONS.iter().map(|a| has(a)).collect();
    let none = json!({ "not": { "anyOf": actions } });
    let exactly_one: Vec<Value> = actions.iter().cloned().chain([none]).collect();
    let with: Map<String, Value> = shape
        .fields
        .iter()
        .filter(|f| !f.with.is_empty())
        .map(|f| (f.name.to_owned(), json!({ "anyOf": f.with.iter().map(|a| has(a)).collect::<Vec<_>>() })))
        .collect();
    let mut more = Map::new();
    more.insert("oneOf".to_owned(), json!(exactly_one));
    more.insert("dependentSchemas".to_owned(), json!(with));
    more.insert(
        "dependentRequired".to_owned(),
        json!({ "ask": ["choices", "answer", "why"], "background": ["session"] }),
    );
    more
}

fn field(field: &Field) -> Value {
    let mut schema = kind(field.kind);
    if let Value::Object(map) = &mut schema {
        map.insert("description".to_owned(), json!(field.help));
    }
    schema
}

fn kind(of: Kind) -> Value {
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    match of {
        Kind::Text => json!({ "type": "string" }),
        Kind::Time => json!({ "type": "string", "examples": ["5s", "250ms", "1m 30s"] }),
        Kind::Texts => json!({ "anyOf": [{ "type": "string" }, kind(Kind::List)] }),
        Kind::List => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Kind::Whole(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Scalar => scalar,
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Rate => json!({ "anyOf": [{ "const": "max" }, kind(Kind::Whole(1, 1_000_000))] }),
        Kind::Rows => json!({ "type": "array", "items": { "type": "array", "items": scalar } }),
        Kind::Scalars => json!({ "type": "object", "additionalProperties": scalar }),
        Kind::Table(shape) => table(shape),
        Kind::Tables(shape) => json!({ "type": "array", "items": table(shape) }),
    }
}
