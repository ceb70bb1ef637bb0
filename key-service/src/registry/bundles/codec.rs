//! Bundles, from and to the bytes of the store. Ring and name are in the path, and in no second place.

use strongroom_api::strongroom::storage::v1::{self as wire, bundle_file};
use strongroom_core::{
    Bundle, BundleFile, BundleFiles, FieldFile, FileContent, FileMode, Name, RingId, SecretStage,
    Template, UnixMillis,
};

use crate::registry::codec::{DecodeError, Decoded, required};

pub(crate) fn encode(bundle: &Bundle) -> wire::Bundle {
    let Bundle {
        ring: _,
        name: _,
        object,
        created,
        files,
    } = bundle;
    wire::Bundle {
        object_uid: object.to_string(),
        created_ms: created.as_i64(),
        files: files.iter().map(encode_file).collect(),
    }
}

pub(crate) fn encode_file(file: &BundleFile) -> wire::BundleFile {
    let BundleFile {
        path,
        mode,
        uid,
        gid,
        content,
    } = file;
    wire::BundleFile {
        path: path.to_string(),
        mode: mode.bits(),
        uid: *uid,
        gid: *gid,
        content: Some(match content {
            FileContent::Field(field) => bundle_file::Content::Field(wire::BundleField {
                secret: field.secret.to_string(),
                field: field.field.to_string(),
                stage: match field.stage {
                    SecretStage::Current => 1,
                    SecretStage::Previous => 2,
                },
                optional: field.optional,
            }),
            FileContent::Template(template) => {
                bundle_file::Content::Template(wire::BundleTemplate {
                    secrets: template.secrets().iter().map(Name::to_string).collect(),
                    text: template.text().to_owned(),
                })
            }
        }),
    }
}

pub(crate) fn decode(record: wire::Bundle, ring: RingId, name: Name) -> Decoded<Bundle> {
    let files = record.files.into_iter().map(decode_file);
    let files = BundleFiles::new(files.collect::<Decoded<_>>()?);
    Ok(Bundle {
        ring,
        name,
        object: record
            .object_uid
            .parse()
            .map_err(|_| DecodeError("object_uid"))?,
        created: UnixMillis::new(record.created_ms),
        files: files.map_err(|_| DecodeError("files"))?,
    })
}

fn decode_file(file: wire::BundleFile) -> Decoded<BundleFile> {
    let content = match required(file.content, "content of a file")? {
        bundle_file::Content::Field(field) => FileContent::Field(decode_field(&field)?),
        bundle_file::Content::Template(template) => {
            let secrets = template.secrets.iter().map(|name| name.parse());
            let secrets = secrets.collect::<Result<_, _>>();
            let secrets = secrets.map_err(|_| DecodeError("secrets of a template"))?;
            let template = Template::new(secrets, template.text);
            FileContent::Template(template.map_err(|_| DecodeError("template"))?)
        }
    };
    Ok(BundleFile {
        path: file.path.parse().map_err(|_| DecodeError("path"))?,
        mode: FileMode::new(file.mode).map_err(|_| DecodeError("mode"))?,
        uid: file.uid,
        gid: file.gid,
        content,
    })
}

fn decode_field(field: &wire::BundleField) -> Decoded<FieldFile> {
    Ok(FieldFile {
        secret: field.secret.parse().map_err(|_| DecodeError("secret"))?,
        field: field.field.parse().map_err(|_| DecodeError("field"))?,
        stage: match field.stage {
            1 => SecretStage::Current,
            2 => SecretStage::Previous,
            _ => return Err(DecodeError("stage")),
        },
        optional: field.optional,
    })
}

#[cfg(test)]
mod tests;
