//! Starts, ends, and workers that die or hang.

use std::{fs, os::unix::fs::PermissionsExt, sync::mpsc};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use strongroom_core::InstanceId;
use strongroom_hsm::{AgentClient, Hsm, Reason, TokenState};

use crate::place::{Agent, Place, ask, until};

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

fn ready(place: &Place) -> Agent<'_> {
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    ask(place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await
    })
    .unwrap();
    agent
}

#[test]
fn the_agent_ends_on_sigterm_and_takes_worker_and_socket_along() {
    let place = Place::with_token();
    let agent = ready(&place);
    let worker = agent.worker();
    assert!(agent.probe("/healthz").starts_with("HTTP/1.1 200"));
    assert!(agent.probe("/readyz").starts_with("HTTP/1.1 200"));
    assert!(agent.stop().success());
    assert!(test_kill_process(worker).is_err());
    assert!(!place.socket().exists());
}

#[test]
fn the_worker_dies_with_an_agent_that_is_killed() {
    let place = Place::with_token();
    let agent = ready(&place);
    let worker = agent.worker();
    // One that hangs does not see that its socket is closed.
    kill_process(worker, Signal::STOP).unwrap();
    drop(agent);
    until(|| test_kill_process(worker).is_err().then_some(())).expect("the worker is alive");
}

#[test]
fn a_worker_that_is_killed_is_replaced() {
    let place = Place::with_token();
    let agent = ready(&place);
    for _ in 0..3 {
        let before = agent.worker();
        kill_process(before, Signal::KILL).unwrap();
        agent
            .ask_until_available(async |agent: AgentClient| agent.random(16).await)
            .unwrap();
        assert_ne!(agent.worker(), before);
    }
    agent.wait_for(TokenState::Ready);
    let metrics = agent.probe("/metrics");
    assert!(
        metrics.contains("strongroom_hsm_worker_restarts_total 3"),
        "{metrics}"
    );
}

/// The signal is sent at once, but each thread stops when it next looks; one that runs could still answer.
fn wait_stopped(process: Pid) {
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    while !fs::read_dir(&tasks)
        .unwrap()
        .all(|task| is_stopped(task.unwrap()))
    {
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_that_hangs_is_killed_and_callers_are_not_kept() {
    let place = Place::with_token();
    let agent = ready(&place);
    let before = agent.worker();
    kill_process(before, Signal::STOP).unwrap();
    wait_stopped(before);
    let (first, second) = ask(&place, async |agent: AgentClient| {
        let first = agent.random(16);
        let second = agent.random(16);
        tokio::join!(first, second)
    });
    let mut reasons = [first, second].map(|outcome| outcome.unwrap_err().reason());
    reasons.sort_by_key(|reason| reason.name());
    assert_eq!(reasons, [Reason::DeadlineExceeded, Reason::Overloaded]);
    agent
        .ask_until_available(async |agent: AgentClient| agent.random(16).await)
        .unwrap();
    assert_ne!(agent.worker(), before);
    agent.wait_for(TokenState::Ready);
}

#[test]
fn a_client_finds_an_agent_that_was_restarted() {
    let place = Place::with_token();
    let agent = ready(&place);
    let (next, steps) = mpsc::channel();
    let (done, results) = mpsc::channel();
    // One client for all of it; the agents are started outside, as another user.
    let client = async |client: AgentClient| {
        for () in steps {
            done.send(client.random(16).await.map(drop)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| ask(&place, client));
        let outcome = || {
            next.send(()).unwrap();
            results.recv().unwrap()
        };
        outcome().unwrap();
        drop(agent);
        assert_eq!(outcome().unwrap_err().reason(), Reason::Unreachable);
        let _agent = place.start();
        let back = until(|| outcome().ok());
        drop(next);
        back.expect("the client never finds the agent");
    });
}

#[test]
fn a_second_agent_does_not_take_the_socket() {
    let place = Place::with_token();
    let agent = ready(&place);
    assert_eq!(place.start().wait().code(), Some(1));
    assert!(place.log().contains("another process listens on"));
    ask(&place, async |agent: AgentClient| agent.random(16).await).unwrap();
    drop(agent);
}

#[test]
fn a_module_that_is_not_there_refuses_the_start() {
    let place = Place::default().module("/nowhere/module.so");
    assert_eq!(place.start().wait().code(), Some(1));
    assert!(
        place
            .log()
            .contains("token.module: /nowhere/module.so is not a file")
    );
    assert!(!place.socket().exists());
}

#[test]
fn a_file_that_is_no_module_is_named() {
    let place = Place::default().module("/etc/passwd");
    fs::create_dir(place.data("tokens")).unwrap();
    let token = place.start().wait_for(TokenState::ModuleFailed);
    let sentence = "the PKCS#11 module /etc/passwd cannot be loaded: ";
    assert!(token.message.starts_with(sentence), "{}", token.message);
}

#[test]
fn only_the_worker_loads_the_module_and_neither_can_be_dumped() {
    let place = Place::with_token();
    let agent = ready(&place);
    let maps =
        |pid: Pid| fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_nonzero())).unwrap();
    assert!(!maps(agent.pid()).contains("softhsm"));
    assert!(maps(agent.worker()).contains("softhsm"));
    for pid in [agent.pid(), agent.worker()] {
        let limits = fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).unwrap();
        let cores = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
        let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"));
    }
    let environment = fs::read(format!("/proc/{}/environ", agent.worker().as_raw_nonzero()));
    let environment = String::from_utf8(environment.unwrap()).unwrap();
    let names: Vec<&str> = environment
        .split_terminator('\0')
        .filter_map(|entry| entry.split('=').next())
        .collect();
    assert_eq!(names, ["SOFTHSM2_CONF"]);
}

#[test]
fn the_pin_is_the_agents_alone() {
    let place = Place::with_token();
    let mode = |name| fs::metadata(place.data(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("pin"), 0o400);
    assert_eq!(mode("tokens"), 0o700);
    assert!(!place.data("init-pending").exists());
}

#[test]
fn init_leaves_a_token_that_is_there_alone() {
    let place = Place::with_token();
    let pin = fs::read(place.data("pin")).unwrap();
    let output = place.init();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("there is a token with the label strongroom already"),
        "{log}"
    );
    assert_eq!(fs::read(place.data("pin")).unwrap(), pin);
}

#[test]
fn init_if_missing_takes_a_token_that_is_there_for_made() {
    let place = Place::with_token();
    let pin = fs::read(place.data("pin")).unwrap();
    let output = place.command("init").arg("--if-missing").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(place.data("pin")).unwrap(), pin);

    fs::remove_dir_all(place.data("tokens")).unwrap();
    let output = place.command("init").arg("--if-missing").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!place.data("tokens").read_dir().unwrap().any(|_| true));
}

#[test]
fn init_does_not_replace_a_token_that_was_lost() {
    let place = Place::with_token();
    fs::remove_dir_all(place.data("tokens")).unwrap();
    let output = place.init();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("no token with the label strongroom: a token may be lost"),
        "{log}"
    );
}

#[test]
fn a_token_that_a_kill_during_a_login_emptied_is_put_back() {
    let place = Place::with_token();
    let tokens = fs::read_dir(place.data("tokens")).unwrap();
    let objects: Vec<_> = tokens
        .map(|token| token.unwrap().path().join("token.object"))
        .collect();
    assert_eq!(objects.len(), 1);
    // SoftHSM empties this file and fills it again at every login.
    fs::write(&objects[0], "").unwrap();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    assert!(place.log().contains("a torn token was put back"));
}
