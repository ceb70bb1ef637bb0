//! The objects of a rendered chart, to look into.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use strongroom_hack::charts::Chart;

/// Where the chart goes in these tests.
pub(crate) const NAMESPACE: &str = "strongroom-system";
/// What the driver's namespace is by default.
pub(crate) const DRIVERS_NAMESPACE: &str = "strongroom-csi";
/// The newest Kubernetes that is supported, and one before tokens came apart from the attributes of volumes.
pub(crate) const NEWEST: &str = "1.36.3";
pub(crate) const OLDER: &str = "1.34.0";

/// All objects of a chart, in their order.
pub(crate) struct Objects(Vec<Value>);

impl Objects {
    /// Of the chart with these words on helm's command line.
    pub(crate) fn of(chart: Chart, kubernetes: &str, arguments: &[&str]) -> Result<Self> {
        Self::parse(&chart.render(NAMESPACE, kubernetes, arguments)?)
    }

    /// Of the chart `strongroom` with its defaults.
    pub(crate) fn by_default() -> Result<Self> {
        Self::of(Chart::Strongroom, NEWEST, &[])
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let documents = serde_yaml_ng::Deserializer::from_str(text);
        let objects = documents.map(|document| Ok(Value::deserialize(document)?));
        let objects: Vec<Value> = objects.collect::<Result<_>>()?;
        // A file that renders nothing but comments is an empty document.
        Ok(Self(
            objects.into_iter().filter(|it| !it.is_null()).collect(),
        ))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    /// One line for each object.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.iter().map(name).collect();
        names.sort();
        names
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.iter().filter(move |object| object["kind"] == kind)
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Result<&Value> {
        let found = self
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.with_context(|| format!("no {kind} {name}"))
    }

    /// The text of a file in a ConfigMap.
    pub(crate) fn file(&self, map: &str, name: &str) -> Result<&str> {
        let text = self.get("ConfigMap", map)?["data"][name].as_str();
        text.with_context(|| format!("no {name} in {map}"))
    }

    /// Each pod that comes of an object, with the object's kind and name.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (String, &Value)> {
        self.iter().filter_map(|object| {
            let spec = if object["kind"] == "Pod" {
                Some(&object["spec"])
            } else {
                object.pointer("/spec/template/spec")
            };
            Some((name(object), spec?))
        })
    }
}

/// Kind, namespace and name.
pub(crate) fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

/// All containers of a pod.
pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].map(|list| pod[list].as_array());
    lists.into_iter().flatten().flatten()
}

/// An annotation, or nothing.
pub(crate) fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    let found = &object["metadata"]["annotations"][name];
    found.as_str().unwrap_or_default()
}
