//! Writes the definitions of the custom resources to `crds/`: `cargo run -p strongroom-operator --example crds`.
#![forbid(unsafe_code)]

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
    fs::create_dir_all(&folder)?;
    for manifest in strongroom_operator::crds::manifests() {
        fs::write(folder.join(manifest.name), manifest.text)?;
    }
    Ok(())
}
