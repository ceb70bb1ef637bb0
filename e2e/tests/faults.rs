//! SIGKILL at every named fault point, with the real programs and a real SoftHSM: what was begun is finished or was never
//! there, and nobody has to do more than start the program again.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet, fs, os::unix::process::ExitStatusExt, path::Path, time::Duration,
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{dump::Dump, remote, stage::Stage, world::wait};
use strongroom_hack::{installation::Program, programs::Build};

/// What makes a program come to a fault point, and what the store may hold afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `hsm-agent init`.
    MakeToken,
    /// The agent's part of `key-service init`; the number says how often the point is passed before.
    InitializeToken(u32),
    /// `key-service init`.
    Initialize,
    /// A call of the worker.
    Call,
    /// A rotation that is not in the store.
    RotateBefore,
    /// A rotation that is in the store, but not acknowledged.
    RotateAfter,
    /// A checkpoint that is being anchored.
    Anchor,
    /// The plugin seals.
    Encrypt,
    /// The plugin opens.
    Decrypt,
    /// The plugin writes down that the key was rotated.
    Record,
    /// The plugin's first probe.
    Probe,
}

/// All fault points, those of one `init` in the order in which it passes them.
const POINTS: &[(&str, Step)] = &[
    ("hsm.make-token.pins-written", Step::MakeToken),
    ("hsm.make-token.token-made", Step::MakeToken),
    ("hsm.make-token.user-pin-set", Step::MakeToken),
    ("hsm.init.before-intent", Step::InitializeToken(0)),
    ("hsm.init.intent-written", Step::InitializeToken(0)),
    ("hsm.init.key-made", Step::InitializeToken(0)),
    ("hsm.init.key-made", Step::InitializeToken(1)),
    ("hsm.init.key-made", Step::InitializeToken(2)),
    ("hsm.init.key-made", Step::InitializeToken(3)),
    ("hsm.init.before-seal", Step::InitializeToken(0)),
    ("hsm.init.before-reply", Step::InitializeToken(0)),
    ("key-service.init.intent-written", Step::Initialize),
    ("key-service.init.log-begun", Step::Initialize),
    ("key-service.init.token-initialised", Step::Initialize),
    ("key-service.init.pinned", Step::Initialize),
    ("key-service.init.store-filled", Step::Initialize),
    ("hsm.worker.call", Step::Call),
    ("hsm.worker.before-answer", Step::Call),
    ("key-service.anchor.before-commit", Step::Anchor),
    ("key-service.change.before-commit", Step::RotateBefore),
    ("key-service.change.after-commit", Step::RotateAfter),
    ("key-service.change.before-reply", Step::RotateAfter),
    ("key-service.encrypt-seed.before-reply", Step::Encrypt),
    ("key-service.decrypt-seed.before-reply", Step::Decrypt),
    ("plugin.encrypt.before-reply", Step::Encrypt),
    ("plugin.decrypt.before-reply", Step::Decrypt),
    ("plugin.probe.before-publish", Step::Probe),
    ("plugin.state.before-rename", Step::Record),
    ("plugin.state.after-rename", Step::Record),
];

/// Points of other stories: an init that is asked for (`incluster`), and a rotation (`workloads`).
const ELSEWHERE: &[&str] = &[
    "key-service.awaiting.initialised",
    "key-service.awaiting.token-made",
    "key-service.rotate.decided",
    "key-service.rotate.made",
];

#[test]
fn every_fault_point_of_the_sources_is_in_the_table() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = BTreeSet::new();
    for folder in ["hsm-agent/src", "key-service/src", "kms-plugin/src"] {
        collect_points(&root.join(folder), &mut named)?;
    }
    // Those of a node's certificates are in a story of their own, `long_remote.rs`.
    let table = POINTS.iter().map(|(name, _)| *name);
    let table = table.chain(remote::POINTS.iter().chain(ELSEWHERE).copied());
    assert_eq!(named, table.map(str::to_owned).collect::<BTreeSet<_>>());
    Ok(())
}

fn collect_points(folder: &Path, named: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_points(&path, named)?;
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let calls = text.split("fault::point!(").skip(1);
        for call in calls {
            let name = call.split('"').nth(1);
            named.insert(name.context("a fault point has a name")?.to_owned());
        }
    }
    Ok(())
}

#[test]
fn killed_everywhere_in_init_it_is_finished_by_the_next() -> Result<()> {
    let mut stage = Stage::lay_out("faults-init", 24000, Build::FaultPoints, |_| {})?;
    for (name, step) in POINTS {
        check_init(&mut stage, name, *step).with_context(|| format!("{name}, {step:?}"))?;
    }
    stage.open()?;
    stage.check_seeds()?;
    stage.verify_audit()?;
    assert_eq!(stage.describe()?.primary_version, "1.1");
    stage.clean_up()
}

fn check_init(stage: &mut Stage, name: &str, step: Step) -> Result<()> {
    match step {
        Step::MakeToken => {
            // The program that dies is the child that has loaded the module.
            let mut init = stage.installation.command(Program::HsmAgent, "init");
            let output = init.env("FAILPOINTS", format!("{name}=kill")).output()?;
            ensure!(!output.status.success(), "it was not killed");
        }
        Step::InitializeToken(passed) => {
            if name == "hsm.init.before-intent" {
                stage.installation.init(Program::HsmAgent)?;
            }
            let faults = format!("{name}={passed}*off->kill");
            kill_worker(stage, &faults, |stage| {
                // An agent that has only just started may refuse before it comes to the point.
                let init = stage.installation.init(Program::KeyService);
                ensure!(init.is_err(), "init succeeded without the token");
                Ok(())
            })?;
        }
        Step::Initialize => {
            stage.start(Program::HsmAgent, "")?;
            stage.wait_answering(Program::HsmAgent)?;
            let mut init = stage.installation.command(Program::KeyService, "init");
            let output = init.env("FAILPOINTS", format!("{name}=kill")).output()?;
            ensure!(output.status.signal() == Some(9), "{}", output.status);
        }
        _ => {}
    }
    Ok(())
}

/// Runs an agent with faults until its worker was killed by one, then ends it too.
fn kill_worker(stage: &mut Stage, faults: &str, act: impl Fn(&Stage) -> Result<()>) -> Result<()> {
    let log = stage.installation.log(Program::HsmAgent);
    let before = fs::read_to_string(&log).unwrap_or_default().len();
    stage.start(Program::HsmAgent, faults)?;
    stage.wait_answering(Program::HsmAgent)?;
    wait(Duration::from_secs(30), "the worker is killed", || {
        act(stage)?;
        Ok(fs::read_to_string(&log)?[before..].contains("the worker ended during a call"))
    })?;
    stage.start(Program::HsmAgent, "")?;
    stage.wait_answering(Program::HsmAgent)
}

#[test]
fn killed_everywhere_in_service_nothing_is_lost_and_no_hand_is_needed() -> Result<()> {
    let mut stage = Stage::lay_out("faults-serve", 24010, Build::FaultPoints, |_| {})?;
    stage.bring_up()?;
    for (name, step) in POINTS {
        check_serving(&mut stage, name, *step).with_context(|| format!("{name}, {step:?}"))?;
    }
    stage.clean_up()
}

fn check_serving(stage: &mut Stage, name: &str, step: Step) -> Result<()> {
    let victim = match name.split('.').next() {
        Some("hsm") => Program::HsmAgent,
        Some("plugin") => Program::KmsPlugin,
        _ => Program::KeyService,
    };
    let always = format!("{name}=kill");
    // The first change of a start is the anchor of its first checkpoint.
    let second = format!("{name}=1*off->kill");
    let before = stage.dump()?;
    match step {
        Step::MakeToken | Step::InitializeToken(_) | Step::Initialize => return Ok(()),
        Step::Call => kill_worker(stage, &always, |_| Ok(()))?,
        Step::Anchor | Step::Probe => stage.start(victim, &always)?,
        Step::RotateBefore | Step::RotateAfter => {
            stage.start(victim, &second)?;
            stage.wait_ready(victim)?;
            ensure!(stage.rotate().is_err(), "the rotation was acknowledged");
        }
        Step::Encrypt => {
            stage.start(victim, &always)?;
            wait_serving(stage, victim)?;
            ensure!(stage.seal().is_err(), "the seed was sealed");
        }
        Step::Decrypt => {
            stage.start(victim, &always)?;
            wait_serving(stage, victim)?;
            ensure!(stage.check_seeds().is_err(), "a seed was opened");
        }
        Step::Record => {
            stage.start(victim, &always)?;
            stage.rotate()?;
        }
    }
    if step != Step::Call {
        stage.process(victim)?.wait_killed()?;
    }
    compare_after(stage, step, &before)
}

/// Until the plugin's probe reaches the key service that was just started, a call fails without coming to the point.
fn wait_serving(stage: &mut Stage, victim: Program) -> Result<()> {
    stage.wait_ready(victim)?;
    wait(Duration::from_secs(30), "the plugin is well", || {
        Ok(stage.plugin.status()?.healthz == "ok")
    })
}

fn compare_after(stage: &mut Stage, step: Step, before: &Dump) -> Result<()> {
    let killed = stage.dump()?;
    let rotated = matches!(step, Step::RotateAfter | Step::Record);
    let difference = before.difference(&killed);
    ensure!(
        is_rotation(&difference) == rotated && (rotated || difference.is_empty()),
        "killed, the store differs in {difference:?}"
    );
    stage.recover()?;
    let after = stage.dump()?;
    ensure!(after.records == killed.records, "the start changed records");
    ensure!(after.position >= killed.position && killed.position >= before.position);
    ensure!(stage.describe()?.versions.len() == versions(&after));
    stage.check_seeds()?;
    stage.seal()?;
    stage.check_seeds()?;
    stage.verify_audit()
}

/// A rotation changes the key's head and adds material, nothing else.
fn is_rotation(difference: &[String]) -> bool {
    matches!(difference, [head, material] if head.starts_with("key/") && material.starts_with("ver/"))
}

fn versions(dump: &Dump) -> usize {
    let paths = dump.records.keys();
    paths.filter(|path| path.starts_with("ver/")).count()
}
