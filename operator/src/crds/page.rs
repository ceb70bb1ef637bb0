//! The reference page of the custom resources, made of their definitions.

use std::fmt::Write;

use serde_json::Value;

use super::manifest::definitions;

/// Returns `docs/reference/resources.md`.
pub fn page() -> String {
    let mut page = "# Custom resources\n\n\
        Group `strongroom.dev`, version `v1alpha1`. This page is made of `crds/`, as is `kubectl explain`.\n"
        .to_owned();
    for definition in definitions() {
        kind(&mut page, &definition);
    }
    page
}

fn kind(page: &mut String, definition: &Value) {
    let names = &definition["spec"]["names"];
    let version = &definition["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let short = names["shortNames"][0].as_str();
    let short = short.map_or(String::new(), |short| format!(", short name `{short}`"));
    let scope = match definition["spec"]["scope"].as_str() {
        Some("Cluster") => "cluster-scoped",
        _ => "in a namespace",
    };
    let _ = write!(
        page,
        "\n## {}\n\n{} ({scope}{short})\n",
        text(&names["kind"]),
        text(&schema["description"])
    );
    for (part, title) in [("spec", "What is written"), ("status", "What is said")] {
        let part_of = &schema["properties"][part];
        if part_of.is_null() {
            continue;
        }
        let _ = write!(page, "\n{title}:\n\n| field | type | |\n|---|---|---|\n");
        fields(page, part, part_of);
    }
    let rules = rules(schema);
    if !rules.is_empty() {
        let _ = write!(page, "\nRefused by the API server unless:\n\n");
        for rule in rules {
            let _ = writeln!(page, "- {rule}");
        }
    }
}

fn fields(page: &mut String, path: &str, schema: &Value) {
    let properties = schema["properties"].as_object();
    for (name, property) in properties.into_iter().flatten() {
        let path = format!("{path}.{name}");
        // Conditions are those of Kubernetes.
        if name == "conditions" {
            let _ = writeln!(page, "| `{path}` | list | {} |", said(property));
            continue;
        }
        let required = schema["required"].as_array();
        let is_required = required.is_some_and(|names| names.iter().any(|it| it == name));
        let mark = if is_required { ", required" } else { "" };
        let _ = writeln!(
            page,
            "| `{path}` | {}{mark} | {} |",
            type_of(property),
            said(property)
        );
        fields(page, &path, property);
        if !property["items"].is_null() {
            fields(page, &format!("{path}[]"), &property["items"]);
        }
    }
}

fn said(property: &Value) -> String {
    let text = property["description"].as_str().unwrap_or_default();
    // A bar would end the cell.
    text.replace('|', "\\|").replace('\n', " ")
}

fn type_of(property: &Value) -> String {
    if let Some(values) = property["enum"].as_array() {
        let values = values.iter().filter_map(Value::as_str);
        return values
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match property["type"].as_str() {
        Some("array") => "list".to_owned(),
        Some("object") => "object".to_owned(),
        Some("integer") => "number".to_owned(),
        Some(other) => other.to_owned(),
        None => String::new(),
    }
}

fn rules(schema: &Value) -> Vec<String> {
    let own = schema["x-kubernetes-validations"].as_array();
    let mut found: Vec<String> = own
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["message"].as_str())
        .map(str::to_owned)
        .collect();
    let properties = schema["properties"].as_object();
    for property in properties.into_iter().flat_map(|it| it.values()) {
        found.extend(rules(property));
    }
    if schema["items"].is_object() {
        found.extend(rules(&schema["items"]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_page_is_the_generated_one() {
        let committed = include_str!("../../../docs/reference/resources.md");
        let again = "run `cargo run -p strongroom-operator --example crds`";
        assert!(committed == page(), "{again}");
    }
}
