//! Folders, tokens and files that are missing, of another instance, or of nobody.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use strongroom_hack::installation::Program;

use crate::place::{Place, copy, difference};

#[test]
fn a_start_without_what_init_made_is_refused_by_name() -> Result<()> {
    let mut place = Place::initialised("refusals-start", 23020)?;
    place.serve_during(async |_| Ok(()))?;
    place.save("good")?;
    second_init_changes_nothing(&place)?;
    missing_pins_and_unfinished_init_are_named(&mut place)?;
    unfit_files_are_named(&place)?;
    shortened_audit_log_is_refused_with_sizes(&mut place)?;
    other_instances_are_named(&place)?;
    place.restore("good")?;
    place.serve_during(async |_| Ok(()))?;
    place.clean_up()
}

fn second_init_changes_nothing(place: &Place) -> Result<()> {
    let before = place.bytes()?;
    let output = place.run("init")?;
    let said = String::from_utf8(output.stdout)?;
    let expected = format!(
        "already initialised\ninstance:          {}\n",
        place.instance()?
    );
    ensure!(
        output.status.success() && said.starts_with(&expected),
        "{said}"
    );
    let changed = difference(&before, &place.bytes()?);
    ensure!(changed.is_empty(), "init wrote {changed:?}");
    Ok(())
}

fn missing_pins_and_unfinished_init_are_named(place: &mut Place) -> Result<()> {
    let instance = place.instance()?;
    let (folder, database) = (place.path("service"), place.path("service/store.db"));
    fs::remove_file(place.path("service/pin.json"))?;
    let torn = format!("{} has a store and no pins", folder.display());
    place.refuses("serve", &torn)?;
    let sentence = format!(
        "{} exists, but there are no pins beside it",
        database.display()
    );
    place.refuses("init", &sentence)?;

    place.restore("good")?;
    let intent = format!("{{\"instanceId\": \"{instance}\"}}");
    place.put("service/init-intent.json", intent.as_bytes())?;
    let unfinished = format!("init was begun in {} and is not finished", folder.display());
    place.waits("store", &unfinished)
}

fn remove_store(place: &Place) -> Result<()> {
    for name in ["store.db", "store.db-wal"] {
        let path = place.path("service").join(name);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn unfit_files_are_named(place: &Place) -> Result<()> {
    place.restore("good")?;
    place.configure("kekCacheTtl: 12h\n", "kekCacheTtl: 12h\ncolour: red\n")?;
    place.refuses("serve", "unknown field `colour`")?;
    place.refuses("init", "unknown field `colour`")?;

    place.restore("good")?;
    place.configure(
        "administrators:\n- certificate: administrator\n",
        "administrators: []\n",
    )?;
    place.refuses("serve", "administrators: name at least one")?;

    place.restore("good")?;
    let database = place.path("service/store.db");
    remove_store(place)?;
    let noise: Vec<u8> = (0..8192_u32).map(|at| (at * 167 % 251) as u8).collect();
    place.put("service/store.db", &noise)?;
    place.refuses("serve", &format!("{database:?} is not a database"))?;

    place.restore("good")?;
    remove_store(place)?;
    Connection::open(&database)?.execute_batch("CREATE TABLE photo (id INTEGER)")?;
    let bytes = fs::read(&database)?;
    place.put("service/store.db", &bytes)?;
    let sentence = format!("{database:?} is a database of another program");
    place.refuses("serve", &sentence)?;

    place.restore("good")?;
    fs::set_permissions(place.path("service"), fs::Permissions::from_mode(0o750))?;
    let folder = place.path("service");
    let sentence = format!("{} has mode 0750; it must be 0700", folder.display());
    place.refuses("serve", &sentence)?;
    place.refuses("init", &sentence)?;
    Ok(())
}

/// The checkpoint that the store holds covers more records than are left.
fn shortened_audit_log_is_refused_with_sizes(place: &mut Place) -> Result<()> {
    place.restore("good")?;
    let segment = only_segment(place)?;
    let text = fs::read_to_string(&segment)?;
    let first = text.lines().next().context("the log has records")?;
    place.put(&relative(place, &segment)?, format!("{first}\n").as_bytes())?;
    let said = place.refuses(
        "serve",
        "audit log of 1 records does not extend the anchored checkpoint of ",
    )?;
    let (_, size) = said
        .split_once("the anchored checkpoint of ")
        .context("a size")?;
    let digits = size.split(|letter: char| !letter.is_ascii_digit()).next();
    let size: usize = digits.context("a size")?.parse()?;
    ensure!((2..=text.lines().count()).contains(&size), "{size}");

    remove_but(place, &["lock", "origin"])?;
    let sentence =
        format!("audit log of 0 records does not extend the anchored checkpoint of {size}");
    place.refuses("serve", &sentence)?;

    // The folder below a disk that is not mounted.
    remove_but(place, &[])?;
    let folder = place.path("audit");
    let sentence = format!(
        "{} holds no audit log: mount its disk; the one of this instance has {size} records or more",
        folder.display()
    );
    place.waits("audit", &sentence)
}

fn remove_but(place: &Place, kept: &[&str]) -> Result<()> {
    for entry in fs::read_dir(place.path("audit"))? {
        let path = entry?.path();
        if !kept.iter().any(|name| path.ends_with(name)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn only_segment(place: &Place) -> Result<PathBuf> {
    for entry in fs::read_dir(place.path("audit"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            return Ok(path);
        }
    }
    anyhow::bail!("the audit log has no segment")
}

fn relative(place: &Place, path: &std::path::Path) -> Result<String> {
    let below = path.strip_prefix(place.path(""))?;
    Ok(below.to_str().context("a plain path")?.to_owned())
}

fn other_instances_are_named(place: &Place) -> Result<()> {
    place.restore("good")?;
    let instance = place.instance()?;
    let mut other = Place::with_empty_token("refusals-other", 23040)?;
    let ours = place.path("run/hsm/agent.sock").display().to_string();
    let theirs = other.path("run/hsm/agent.sock").display().to_string();

    place.configure(&ours, &theirs)?;
    place.refuses(
        "serve",
        &format!("the token has no objects of instance {instance}"),
    )?;

    other.installation.init(Program::KeyService)?;
    let foreign = other.instance()?;
    let sentence = format!("the token belongs to instance {foreign}, the store to {instance}");
    place.refuses("serve", &sentence)?;

    other.serve_during(async |_| Ok(()))?;
    place.restore("good")?;
    fs::remove_dir_all(place.path("audit"))?;
    copy(&other.path("audit"), &place.path("audit"))?;
    let said = place.refuses(
        "serve",
        "the audit log cannot be opened: audit log belongs to ",
    )?;
    ensure!(
        said.contains(&foreign) && said.contains(&instance),
        "{said}"
    );

    place.restore("good")?;
    remove_store(place)?;
    for name in ["service/store.db", "service/store.db-wal"] {
        if other.path(name).exists() {
            copy(&other.path(name), &place.path(name))?;
        }
    }
    let sentence =
        format!("the store belongs to instance {foreign}, the pins beside it to {instance}");
    place.refuses("serve", &sentence)?;

    copy(
        &other.path("service/pin.json"),
        &place.path("service/pin.json"),
    )?;
    let sentence = format!("the token belongs to instance {instance}, the store to {foreign}");
    place.refuses("serve", &sentence)?;
    other.clean_up()
}
