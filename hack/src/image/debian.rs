//! The base of hsm-agent's image: the files of the Debian packages that SoftHSM's module needs, without a package
//! manager, a shell or any other program. Packages are taken with apt's own checks and kept in the cache.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::archive::sha256;
use super::layer::Layer;
use crate::{packages, paths, tools};

/// What the image is made for; what these depend on comes with them.
const WANTED: &[&str] = &["base-files", "libc6", "libgcc-s1", "libsofthsm2"];

/// Dependencies that only the scripts of an installation run.
const LEFT_OUT: &[&str] = &["ucf"];

/// Folders of which nothing is needed where the module only runs.
const UNUSED: &[&str] = &[
    "etc/update-motd.d/",
    "usr/bin/",
    "usr/share/gcc/",
    "usr/share/gdb/",
    "usr/share/lintian/",
    "usr/share/man/",
];

/// A package as apt describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    sha256: String,
    depends: Vec<String>,
}

/// Returns the base layer.
///
/// # Errors
/// When packages are neither in the cache nor to be had.
pub(super) fn base() -> Result<Layer> {
    let archives = archives().or_else(|_| {
        // Lists that are missing or too old name packages that nobody has.
        packages::update_lists()?;
        archives()
    })?;
    let mut layer = Layer::default();
    for (package, archive) in &archives {
        layer = add(layer, package, archive)?;
    }
    Ok(layer)
}

fn archives() -> Result<Vec<(Package, PathBuf)>> {
    let folder = paths::cache()?.join("debian");
    let _lock = tools::lock(&folder.join("lock"))?;
    closure(&describe)?
        .into_values()
        .map(|package| {
            let archive = fetch(&folder, &package)?;
            Ok((package, archive))
        })
        .collect()
}

/// Follows dependencies; `describe` answers for a list of names.
fn closure(
    describe: &dyn Fn(&[String]) -> Result<Vec<Package>>,
) -> Result<BTreeMap<String, Package>> {
    let mut found = BTreeMap::new();
    let mut wanted: Vec<String> = WANTED.iter().map(|name| (*name).to_owned()).collect();
    while !wanted.is_empty() {
        for package in describe(&wanted)? {
            found.insert(package.name.clone(), package);
        }
        let missing = wanted.iter().find(|name| !found.contains_key(*name));
        ensure!(missing.is_none(), "apt does not know {missing:?}");
        wanted = found
            .values()
            .flat_map(|package| &package.depends)
            .filter(|name| !found.contains_key(*name) && !LEFT_OUT.contains(&name.as_str()))
            .cloned()
            .collect();
    }
    Ok(found)
}

fn describe(names: &[String]) -> Result<Vec<Package>> {
    let text = output(
        Command::new("apt-cache")
            .args(["show", "--no-all-versions"])
            .args(names),
    )?;
    text.split("\n\n")
        .filter(|stanza| !stanza.trim().is_empty())
        .map(parse)
        .collect()
}

/// Reads a stanza of `apt-cache show`.
fn parse(stanza: &str) -> Result<Package> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(": ")
                .map(str::to_owned)
        })
    };
    let need = |name: &str| field(name).with_context(|| format!("apt says no {name}: {stanza}"));
    Ok(Package {
        name: need("Package")?,
        version: need("Version")?,
        sha256: need("SHA256")?,
        depends: field("Depends").as_deref().map(names).unwrap_or_default(),
    })
}

/// The names in a list of dependencies; of alternatives the first.
fn names(depends: &str) -> Vec<String> {
    let word = |text: &str| text.split([' ', ':', '|']).next().map(str::to_owned);
    depends
        .split(',')
        .filter_map(|dependency| word(dependency.trim()))
        .collect()
}

/// Returns the package's archive, from the cache if its content is what apt says.
fn fetch(folder: &Path, package: &Package) -> Result<PathBuf> {
    let Package { name, version, .. } = package;
    let archive = folder.join(format!("{name}_{version}.deb"));
    if is_intact(&archive, package) {
        return Ok(archive);
    }
    let partial = folder.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    output(
        Command::new("apt-get")
            .args(["download", "--quiet", "--option=APT::Sandbox::User=root"])
            .arg(format!("{name}={version}"))
            .current_dir(&partial),
    )?;
    let downloaded = fs::read_dir(&partial)?
        .next()
        .context("apt-get downloaded nothing")??
        .path();
    ensure!(
        is_intact(&downloaded, package),
        "{name} {version} is not what apt announced"
    );
    fs::rename(&downloaded, &archive)?;
    Ok(archive)
}

fn is_intact(archive: &Path, package: &Package) -> bool {
    fs::read(archive).is_ok_and(|bytes| sha256(&bytes) == package.sha256)
}

/// Adds a package's files, and what scanners of images read to know of it.
fn add(layer: Layer, package: &Package, archive: &Path) -> Result<Layer> {
    let folder = tempfile::tempdir()?;
    output(
        Command::new("dpkg-deb")
            .arg("--extract")
            .args([archive, folder.path()]),
    )?;
    let layer = layer.tree(folder.path(), &is_kept)?;
    let control = tempfile::tempdir()?;
    output(
        Command::new("dpkg-deb")
            .arg("--control")
            .args([archive, control.path()]),
    )?;
    let status = |suffix: &str| format!("var/lib/dpkg/status.d/{}{suffix}", package.name);
    let read = |name: &str| fs::read(control.path().join(name));
    let layer = layer.file(&status(""), 0o644, read("control")?);
    match read("md5sums") {
        Ok(sums) => Ok(layer.file(&status(".md5sums"), 0o644, sums)),
        Err(_) => Ok(layer),
    }
}

/// Of documentation only copyright files are kept; folders end with `/`.
fn is_kept(path: &str) -> bool {
    if UNUSED.contains(&path) || path.ends_with("/gconv/") {
        return false;
    }
    match path.strip_prefix("usr/share/doc/") {
        Some(rest) => match rest.split_once('/') {
            // The folder of a package, or a link to another's.
            None | Some((_, "")) => true,
            Some((_, name)) => name == "copyright",
        },
        None => true,
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, depends: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            version: "1".to_owned(),
            sha256: String::new(),
            depends: depends.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn stanza_gives_version_digest_and_first_alternatives() {
        let stanza = "Package: libsofthsm2\nVersion: 2.6.1-2.1\nDepends: softhsm2-common, libc6 (>= 2.33), \
                      debconf (>= 0.5) | debconf-2.0, python3:any\nDescription: Version: of\n Depends: nothing\n\
                      SHA256: 8c29";
        assert_eq!(
            parse(stanza).unwrap(),
            Package {
                name: "libsofthsm2".to_owned(),
                version: "2.6.1-2.1".to_owned(),
                sha256: "8c29".to_owned(),
                depends: ["softhsm2-common", "libc6", "debconf", "python3"]
                    .map(str::to_owned)
                    .to_vec(),
            }
        );
    }

    #[test]
    fn dependencies_are_followed_but_for_those_of_scripts() {
        let known = |names: &[String]| {
            Ok(names
                .iter()
                .map(|name| match name.as_str() {
                    "libsofthsm2" => package(name, &["softhsm2-common", "libc6"]),
                    "softhsm2-common" => package(name, &["ucf"]),
                    name => package(name, &[]),
                })
                .collect())
        };
        let found = closure(&known).unwrap();
        assert_eq!(
            found.keys().map(String::as_str).collect::<Vec<_>>(),
            [
                "base-files",
                "libc6",
                "libgcc-s1",
                "libsofthsm2",
                "softhsm2-common"
            ]
        );
    }

    #[test]
    fn package_that_apt_does_not_know_is_named() {
        let error = closure(&|_| Ok(Vec::new())).unwrap_err();
        assert!(error.to_string().contains("base-files"), "{error}");
    }

    #[test]
    fn of_documentation_only_the_copyright_is_kept() {
        let kept = |paths: &[&str]| paths.iter().map(|path| is_kept(path)).collect::<Vec<_>>();
        assert_eq!(
            kept(&[
                "usr/share/doc/",
                "usr/share/doc/libc6/",
                "usr/share/doc/libgcc-s1",
                "usr/share/doc/libc6/copyright",
                "usr/lib/softhsm/libsofthsm2.so",
            ]),
            [true; 5]
        );
        assert_eq!(
            kept(&[
                "usr/share/doc/libc6/changelog.gz",
                "usr/share/doc/libc6/examples/",
                "usr/share/man/",
                "usr/lib/x86_64-linux-gnu/gconv/",
                "usr/bin/",
            ]),
            [false; 5]
        );
    }
}
