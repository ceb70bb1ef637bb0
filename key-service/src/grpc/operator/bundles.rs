//! Bundles in messages of the operator.

use std::collections::BTreeSet;

use strongroom_api::strongroom::v1::{self as wire, bundle_file};
use strongroom_core::{
    BundleError, BundleFile, BundleFiles, FieldFile, FileContent, FileMode, Name, SecretStage,
    Template, VolumePath,
};
use tonic::Status;

use crate::{
    grpc::parse::field,
    service::{BundleView, WantedBundle},
};

/// Reads what a SecretBundle wants. A sentence names the field of the custom resource, since its author reads it.
pub(super) fn wanted(ring: &str, spec: Option<wire::BundleSpec>) -> Result<WantedBundle, Status> {
    let wire::BundleSpec {
        default_mode,
        files,
    } = spec.ok_or_else(|| Status::invalid_argument("spec: is required"))?;
    let default =
        mode(default_mode, FileMode::DEFAULT).map_err(|error| at("defaultMode", &error))?;
    let files = files.into_iter().map(|it| file(it, default));
    let files = BundleFiles::new(files.collect::<Result<_, _>>()?);
    Ok(WantedBundle {
        ring: field("ring", ring)?,
        files: files.map_err(|error| at("files", &error))?,
    })
}

fn at(place: &str, error: &BundleError) -> Status {
    Status::invalid_argument(format!("spec.{place}: {error}"))
}

fn mode(bits: u32, default: FileMode) -> Result<FileMode, BundleError> {
    match bits {
        0 => Ok(default),
        bits => FileMode::new(bits),
    }
}

fn file(file: wire::BundleFile, default: FileMode) -> Result<BundleFile, Status> {
    let wire::BundleFile {
        path,
        mode: bits,
        uid,
        gid,
        content,
    } = file;
    let parsed = path.parse::<VolumePath>();
    let parsed = parsed.map_err(|source| at("files", &BundleError::Path { path, source }))?;
    let refused = |error: BundleError| at(&format!("files: {parsed}"), &error);
    let content = match content {
        Some(bundle_file::Content::From(from)) => FileContent::Field(field_file(&from, &parsed)?),
        Some(bundle_file::Content::Template(template)) => {
            let wire::TemplateFile { secrets, text } = template;
            let secrets = secrets.iter().map(|name| field("template.secrets", name));
            let secrets = secrets.collect::<Result<BTreeSet<Name>, _>>()?;
            FileContent::Template(Template::new(secrets, text).map_err(refused)?)
        }
        None => {
            return Err(Status::invalid_argument(format!(
                "spec.files: {parsed}: either `from` or `template` is required"
            )));
        }
    };
    Ok(BundleFile {
        mode: mode(bits, default).map_err(refused)?,
        path: parsed,
        uid,
        gid,
        content,
    })
}

fn field_file(from: &wire::FieldFile, path: &VolumePath) -> Result<FieldFile, Status> {
    let wire::FieldFile {
        secret,
        field: name,
        stage,
        optional,
    } = from;
    let stage = match wire::SecretStage::try_from(*stage) {
        Ok(wire::SecretStage::Unspecified | wire::SecretStage::Current) => SecretStage::Current,
        Ok(wire::SecretStage::Previous) => SecretStage::Previous,
        Err(_) => {
            return Err(Status::invalid_argument(format!(
                "spec.files: {path}: from.stage is Current or Previous"
            )));
        }
    };
    Ok(FieldFile {
        secret: field("from.secret", secret)?,
        field: field("from.field", name)?,
        stage,
        optional: *optional,
    })
}

/// What the operator is told of a bundle; `outcome` is for who calls this to set.
pub(super) fn state(view: &BundleView) -> wire::BundleState {
    wire::BundleState {
        outcome: wire::ApplyOutcome::Unspecified.into(),
        missing: view.missing.iter().map(Name::to_string).collect(),
        etag: view.stored.seq.to_string(),
    }
}
