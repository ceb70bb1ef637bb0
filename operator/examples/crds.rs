//! Writes the definitions of the custom resources to `crds/`, and their reference page: `cargo run -p strongroom-operator --example crds`.
#![forbid(unsafe_code)]

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = checkout.join("crds");
    fs::create_dir_all(&folder)?;
    for manifest in strongroom_operator::crds::manifests() {
        fs::write(folder.join(manifest.name), manifest.text)?;
    }
    let page = strongroom_operator::crds::page();
    fs::write(checkout.join("docs/reference/resources.md"), page)
}
