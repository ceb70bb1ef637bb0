//! `cargo xtask image`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::image::{self, Written};
use crate::paths;
use crate::programs::Build;

#[derive(Debug, Args)]
pub(super) struct Image {
    /// Folder for the archives [default: images in the cache of the project]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Optimise the programs, which takes minutes; without it they are built as the tests build them.
    #[arg(long)]
    release: bool,
    /// How to print what was written.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Image {
    pub(super) fn run(self) -> Result<()> {
        let folder = match self.out {
            Some(folder) => folder,
            None => paths::cache()?.join("images"),
        };
        let build = if self.release {
            Build::ReleaseImage
        } else {
            Build::Image
        };
        let written = image::write(&folder, build)?;
        match self.output {
            Format::Table => print(&written),
            Format::Json => println!("{}", serde_json::to_string_pretty(&written)?),
        }
        Ok(())
    }
}

fn print(written: &Written) {
    let Written {
        images,
        kubectl_strongroom,
        kubectl_strongroom_digest,
    } = written;
    for image in images {
        println!("{}", image.reference);
        println!("  image    {}", image.image_id);
        println!("  archive  {}", image.archive_digest);
        println!("  file     {}", image.archive.display());
    }
    println!("kubectl-strongroom");
    println!("  program  {kubectl_strongroom_digest}");
    println!("  file     {}", kubectl_strongroom.display());
}
