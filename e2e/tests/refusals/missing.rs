//! A volume that is mounted late, a token that is gone, a PIN that was lost, each alone and in pairs: every program names
//! what is missing and makes nothing in its place; put back, everything goes on with the same keys.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{plugin::Plugin, world::installation};
use strongroom_hack::installation::Program;

use crate::place::{FOLDERS, Place, copy, difference};

const TOKEN_MISSING: &str = "no token has the label strongroom";

/// What is missing of the key service's volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Here,
    /// The database is gone, the pins beside it are there.
    NoDatabase,
    /// The folder is empty, as before the volume is mounted.
    NoVolume,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    store: Store,
    token: bool,
    pin: bool,
}

const fn missing(store: Store, token: bool, pin: bool) -> Missing {
    Missing { store, token, pin }
}

const CASES: [Missing; 9] = [
    missing(Store::NoDatabase, false, false),
    missing(Store::NoVolume, false, false),
    missing(Store::Here, true, false),
    missing(Store::Here, false, true),
    missing(Store::NoDatabase, true, false),
    missing(Store::NoVolume, true, false),
    missing(Store::NoDatabase, false, true),
    missing(Store::NoVolume, false, true),
    missing(Store::Here, true, true),
];

#[test]
fn what_init_made_is_named_when_it_is_missing_and_never_made_again() -> Result<()> {
    let mut installation = installation("refusals-missing", 25000)?;
    installation.bring_up()?;
    let plugin = Plugin::new(&installation)?;
    let sealed = plugin.encrypt(b"a seed of before")?;
    installation.stop_all()?;
    let mut place = Place { installation };
    let saved = place.path("good");
    fs::create_dir(&saved)?;
    for folder in FOLDERS {
        copy(&place.path(folder), &saved.join(folder))?;
    }
    let instance = place.instance()?;
    for case in CASES {
        put_back(&place)?;
        case.remove(&place)?;
        let before = canonical(&place)?;
        case.is_named(&mut place, &plugin, &instance)
            .with_context(|| format!("{case:?}"))?;
        let changed = difference(&before, &canonical(&place)?);
        ensure!(changed.is_empty(), "{case:?}: but {changed:?} were written");
    }
    put_back(&place)?;
    for program in Program::ALL {
        place.installation.start(program, &[])?;
    }
    for program in Program::ALL {
        place.installation.wait_ready(program)?;
    }
    ensure!(plugin.encrypt(b"a seed of after")?.key_id == sealed.key_id);
    ensure!(plugin.decrypt(&sealed)? == b"a seed of before");
    place.clean_up()
}

/// All files with their bytes, but of those in which SoftHSM counts its logins, and of the agent's copies of them, only
/// that they are there.
fn canonical(place: &Place) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let kept = place.path("agent/kept");
    let mut files = place.bytes()?;
    for (path, bytes) in &mut files {
        if path.ends_with("token.object") || path.starts_with(&kept) {
            bytes.clear();
        }
    }
    Ok(files)
}

fn put_back(place: &Place) -> Result<()> {
    for folder in FOLDERS {
        fs::remove_dir_all(place.path(folder))?;
        copy(&place.path("good").join(folder), &place.path(folder))?;
    }
    Ok(())
}

impl Missing {
    fn remove(self, place: &Place) -> Result<()> {
        let of_store = entries(place, "service")?.into_iter().filter(|path| {
            let database = path.ends_with("store.db") || path.ends_with("store.db-wal");
            match self.store {
                Store::Here => false,
                Store::NoDatabase => database,
                Store::NoVolume => true,
            }
        });
        for path in of_store {
            fs::remove_file(path)?;
        }
        if self.token {
            for path in entries(place, "agent/tokens")? {
                fs::remove_dir_all(path)?;
            }
        }
        if self.pin {
            fs::remove_file(place.path("agent/pin"))?;
        }
        Ok(())
    }

    fn is_named(self, place: &mut Place, plugin: &Plugin, instance: &str) -> Result<()> {
        self.agent_init_makes_nothing(place)?;
        place.installation.start(Program::HsmAgent, &[])?;
        match self.of_the_agent(place) {
            Some(sentence) => place.says(Program::HsmAgent, &format!("token: {sentence}"))?,
            None => place.installation.wait_ready(Program::HsmAgent)?,
        }
        self.key_service_init_makes_nothing(place, instance)?;
        match self.store {
            Store::NoDatabase => {
                let database = place.path("service/store.db");
                let sentence = format!("there is no store at {database:?}");
                place.refuses("serve", &sentence).map(drop)?;
            }
            Store::NoVolume => {
                let folder = place.path("service");
                let sentence = format!("{} holds nothing of an instance", folder.display());
                place.waits("store", &sentence)?;
            }
            Store::Here => {
                let sentence = self.of_the_agent(place).context("something is missing")?;
                place.installation.start(Program::KeyService, &[])?;
                place.says(Program::KeyService, &sentence)?;
            }
        }
        place.installation.start(Program::KmsPlugin, &[])?;
        place.says(Program::KmsPlugin, "the key service does not answer")?;
        ensure!(plugin.status().is_err() && plugin.encrypt(b"seed").is_err());
        place.installation.stop_all()
    }

    fn of_the_agent(self, place: &Place) -> Option<String> {
        let pin = place.path("agent/pin");
        match (self.token, self.pin) {
            (true, _) => Some(TOKEN_MISSING.to_owned()),
            (false, true) => Some(format!("the PIN file {} cannot be read", pin.display())),
            (false, false) => None,
        }
    }

    fn agent_init_makes_nothing(self, place: &Place) -> Result<()> {
        let sentence = match (self.token, self.pin) {
            // Nothing is left that tells the folder from a new one, and whoever runs `init` asks for a new token.
            (true, true) => return Ok(()),
            (true, false) => "no token with the label strongroom: a token may be lost",
            (false, _) => "there is a token with the label strongroom already",
        };
        let refused = place.installation.init(Program::HsmAgent).err();
        let said = refused.context("init made a token")?.to_string();
        ensure!(said.contains(sentence), "{said}");
        Ok(())
    }

    fn key_service_init_makes_nothing(self, place: &Place, instance: &str) -> Result<()> {
        let sentence = match self.store {
            Store::Here => {
                let said = place.installation.init(Program::KeyService)?;
                ensure!(said.starts_with("already initialised"), "{said}");
                return Ok(());
            }
            Store::NoDatabase => {
                format!("the pins of instance {instance} are here, but its store is not")
            }
            Store::NoVolume => self.of_the_agent(place).unwrap_or_else(|| {
                format!("the token has objects of instance {instance}, but its pins and its store")
            }),
        };
        place.refuses("init", &sentence).map(drop)
    }
}

fn entries(place: &Place, folder: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(place.path(folder))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
