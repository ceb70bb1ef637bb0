//! An image as one file, in the form that `ctr images import` and `docker load` take.

use std::collections::BTreeMap;

use anyhow::Result;
use aws_lc_rs::digest::{self, SHA256};
use serde_json::{Value, json};

use super::layer::Layer;
use super::tar::{Kind, Writer};

/// What is said about an image beside its files.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its name with a tag.
    pub reference: String,
    /// User and group that its program runs as.
    pub user: u32,
    /// The program.
    pub entrypoint: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// An image as a file, and the digest by which runtimes know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The file's content.
    pub bytes: Vec<u8>,
    /// `sha256:` and the digest of the image's configuration.
    pub image_id: String,
}

/// Packs layers, the lowest first.
///
/// # Errors
/// When a path is too long.
pub fn pack(description: &Description, layers: &[Layer]) -> Result<Archive> {
    let streams = layers.iter().map(Layer::tar).collect::<Result<Vec<_>>>()?;
    let digests: Vec<String> = streams.iter().map(|stream| sha256(stream)).collect();
    let config = serde_json::to_vec(&config(description, &digests))?;
    let id = sha256(&config);
    let files: Vec<String> = digests
        .iter()
        .map(|digest| format!("{digest}/layer.tar"))
        .collect();
    let manifest = json!([{
        "Config": format!("{id}.json"),
        "RepoTags": [description.reference],
        "Layers": files,
    }]);
    let mut archive = Writer::default();
    for (name, stream) in files.iter().zip(&streams) {
        archive.add(name, 0o644, Kind::File(stream))?;
    }
    archive.add(&format!("{id}.json"), 0o644, Kind::File(&config))?;
    let manifest = serde_json::to_vec(&manifest)?;
    archive.add("manifest.json", 0o644, Kind::File(&manifest))?;
    Ok(Archive {
        bytes: archive.finish(),
        image_id: format!("sha256:{id}"),
    })
}

fn config(description: &Description, layers: &[String]) -> Value {
    let Description {
        reference: _,
        user,
        entrypoint,
        labels,
    } = description;
    let diff_ids: Vec<String> = layers.iter().map(|d| format!("sha256:{d}")).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": format!("{user}:{user}"),
            "Entrypoint": [entrypoint],
            "WorkingDir": "/",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": vec![json!({"created_by": "cargo xtask image"}); layers.len()],
    })
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The digest in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            reference: "strongroom.dev/tool:1".to_owned(),
            user: 2001,
            entrypoint: "/tool".to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
        }
    }

    #[test]
    fn same_files_are_the_same_archive_and_others_are_not() {
        let pack = |text: &str| {
            let layer = Layer::default().file("tool", 0o755, text);
            pack(&description(), &[layer]).unwrap()
        };
        assert_eq!(pack("one"), pack("one"));
        assert_ne!(pack("one").image_id, pack("two").image_id);
    }

    #[test]
    fn configuration_names_user_program_and_layers() {
        let config = config(&description(), &["aa".to_owned(), "bb".to_owned()]);
        assert_eq!(config["config"]["User"], "2001:2001");
        assert_eq!(config["config"]["Entrypoint"], json!(["/tool"]));
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!(["sha256:aa", "sha256:bb"])
        );
        assert_eq!(config["history"].as_array().unwrap().len(), 2);
    }
}
