//! Schemas of lists, with the bounds that a derived one lacks, and the definitions as YAML.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use super::{
    AccessRule, Bound, BundleFile, CryptoKey, Field, KeyRing, KeyService, ManagedSecret,
    SecretBundle, SecretRotation, Step, access::BINDINGS_MAX,
};

/// What a name of a field may be.
const FIELD_NAME: &str = r"^[-._A-Za-z0-9]*[-_A-Za-z0-9][-._A-Za-z0-9]*$";

/// A list with one item for each value of `key`.
pub(super) fn map_of(mut list: Schema, key: &str, most: u64) -> Schema {
    list.insert("maxItems".to_owned(), json!(most));
    list.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    list.insert("x-kubernetes-list-map-keys".to_owned(), json!([key]));
    list
}

fn list_of<T: JsonSchema>(generator: &mut SchemaGenerator, least: u64, most: u64) -> Schema {
    let mut list = <Vec<T>>::json_schema(generator);
    list.insert("minItems".to_owned(), json!(least));
    list.insert("maxItems".to_owned(), json!(most));
    list
}

/// Rules for access, which together name no more accounts than the key service keeps.
pub(super) fn access_rules<R: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut list = list_of::<AccessRule<R>>(generator, 0, 16);
    let rule = json!([{
        "rule": format!("self.map(rule, rule.subjects.size()).sum() <= {BINDINGS_MAX}"),
        "message": format!("access: at most {BINDINGS_MAX} subjects in all"),
    }]);
    list.insert("x-kubernetes-validations".to_owned(), rule);
    list
}

pub(super) fn bound_accounts(generator: &mut SchemaGenerator) -> Schema {
    list_of::<Bound>(generator, 0, BINDINGS_MAX)
}

pub(super) fn generated_fields(generator: &mut SchemaGenerator) -> Schema {
    let mut list = map_of(<Vec<Field>>::json_schema(generator), "name", 64);
    list.insert("minItems".to_owned(), json!(1));
    list
}

pub(super) fn bundle_files(generator: &mut SchemaGenerator) -> Schema {
    let mut list = map_of(<Vec<BundleFile>>::json_schema(generator), "path", 128);
    list.insert("minItems".to_owned(), json!(1));
    list
}

pub(super) fn steps(generator: &mut SchemaGenerator) -> Schema {
    map_of(<Vec<Step>>::json_schema(generator), "name", 16)
}

/// Names of fields or secrets, each once.
pub(super) fn set_of_names<const MOST: u64>(generator: &mut SchemaGenerator) -> Schema {
    let mut list = names::<MOST, 253>(generator);
    list.insert("x-kubernetes-list-type".to_owned(), json!("set"));
    list
}

/// Names, at least one.
pub(super) fn names<const MOST: u64, const LENGTH: u64>(_: &mut SchemaGenerator) -> Schema {
    let schema = json!({
        "type": "array",
        "minItems": 1,
        "maxItems": MOST,
        "items": {"type": "string", "minLength": 1, "maxLength": LENGTH, "pattern": FIELD_NAME},
    });
    schema.try_into().expect("an object is a schema")
}

/// A definition as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The file's name.
    pub name: String,
    /// Its YAML.
    pub text: String,
}

/// The definitions of all kinds, as they are applied.
pub(super) fn definitions() -> Vec<Value> {
    let definitions = [
        KeyService::crd(),
        KeyRing::crd(),
        CryptoKey::crd(),
        ManagedSecret::crd(),
        SecretRotation::crd(),
        SecretBundle::crd(),
    ];
    let value = |definition: &CustomResourceDefinition| {
        let mut value = serde_json::to_value(definition).expect("a definition is JSON");
        tidy(&mut value);
        value
    };
    definitions.iter().map(value).collect()
}

/// The definitions of all kinds, as files.
pub fn manifests() -> Vec<Manifest> {
    let manifest = |definition: &Value| {
        let plural = definition["spec"]["names"]["plural"].as_str();
        Manifest {
            name: format!("{}.yaml", plural.unwrap_or_default()),
            text: serde_yaml_ng::to_string(definition).expect("JSON is YAML"),
        }
    };
    definitions().iter().map(manifest).collect()
}

/// Takes out what a derived schema has too much: `null` where nothing is written instead, and formats that the API server
/// does not know.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                !(key == "nullable" && value.is_boolean()
                    || key == "format" && (value == "uint32" || value == "uint"))
            });
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;

    fn schemas() -> Vec<(String, Value)> {
        let schema = |manifest: Manifest| {
            let value: Value = serde_yaml_ng::from_str(&manifest.text).unwrap();
            let schema = value["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            (manifest.name, schema)
        };
        manifests().into_iter().map(schema).collect()
    }

    /// Calls `check` with each part of a schema that says what a value is like, and with its path.
    fn visit(path: &str, schema: &Value, check: &mut impl FnMut(&str, &Value)) {
        check(path, schema);
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                visit(&format!("{path}.{name}"), property, check);
            }
        }
        if schema["items"].is_object() {
            visit(&format!("{path}[]"), &schema["items"], check);
        }
    }

    fn all(check: impl Fn(&str, &Value) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        for (name, schema) in schemas() {
            visit(&name, &schema, &mut |path, part| {
                if check(path, part) {
                    found.push(path.to_owned());
                }
            });
        }
        found
    }

    #[test]
    fn committed_definitions_are_the_generated_ones() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        let committed: BTreeMap<String, String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        let generated = manifests().into_iter().map(|it| (it.name, it.text));
        let again = "run `cargo run -p strongroom-operator --example crds`";
        assert!(committed == generated.collect(), "{again}");
    }

    #[test]
    fn every_field_has_a_sentence() {
        let mute = all(|path, part| !path.ends_with("[]") && !part["description"].is_string());
        assert_eq!(mute, [""; 0]);
    }

    #[test]
    fn every_text_and_list_has_a_bound() {
        let unbounded = all(|_, part| match part["type"].as_str() {
            Some("string") => {
                part["maxLength"].is_null() && part["enum"].is_null() && part["format"].is_null()
            }
            Some("array") => part["maxItems"].is_null(),
            Some("integer") => part["minimum"].is_null(),
            _ => false,
        });
        assert_eq!(unbounded, [""; 0]);
    }

    #[test]
    fn no_value_may_be_anything() {
        let open = all(|_, part| {
            !part["type"].is_string() || !part["x-kubernetes-preserve-unknown-fields"].is_null()
        });
        assert_eq!(open, [""; 0]);
    }
}
