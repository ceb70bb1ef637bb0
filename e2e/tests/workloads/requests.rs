//! Rotation by request: once for each id, also for whoever asks again because nobody answered.

use anyhow::{Context, Result, ensure};
use strongroom_api::strongroom::v1::{
    ChangeVersionRequest, RequestRotationRequest, RequestRotationResponse,
    operator_client::OperatorClient, request_rotation_request::Target,
};
use strongroom_e2e::{native::Native, nodes::read_audit};
use strongroom_hack::installation::Program;
use tonic::{Code, Status};

use super::support::{OPERATOR, Operator, Story, current, generated, manual, primary, with_token};

/// As many at once as a hasty operator might send.
const AT_ONCE: usize = 8;

fn asked(operator: &Operator, target: Target, id: &str) -> RequestRotationRequest {
    RequestRotationRequest {
        fence: operator.fence(),
        namespace: "payments".to_owned(),
        namespace_uid: "uid-of-payments".to_owned(),
        target: Some(target),
        ring: "payments".to_owned(),
        request_id: id.to_owned(),
        reason: "INC-42".to_owned(),
    }
}

fn key() -> Target {
    Target::Key("orders".to_owned())
}

fn secret(name: &str) -> Target {
    Target::Secret(name.to_owned())
}

fn request(
    story: &Story,
    operator: &Operator,
    target: Target,
    id: &str,
) -> Result<Result<RequestRotationResponse, Status>> {
    let request = asked(operator, target, id);
    story.operator(request, async |mut client, request| {
        client.request_rotation(request).await
    })
}

#[test]
fn a_request_rotates_once_however_often_it_is_made() -> Result<()> {
    let mut story = Story::up("workloads-requests", 29640)?;
    let (operator, ring) = story.begin(Vec::new())?;
    operator.key(&story, None, Vec::new())??;
    operator.secret(&story, "db", generated(), None)??;
    operator.secret(&story, "stripe", manual(), None)??;

    for target in [key(), secret("db")] {
        let first = request(&story, &operator, target.clone(), "first")??;
        ensure!(first.version == "1.2", "{}", first.version);
        let again = request(&story, &operator, target.clone(), "first")??;
        ensure!(again == first, "{}", again.version);
        let second = request(&story, &operator, target.clone(), "second")??;
        ensure!(second.version == "1.3", "{}", second.version);
        let versions = at_once(&story, &operator, &target)?;
        ensure!(versions == vec!["1.4"; AT_ONCE], "{versions:?}");
    }
    killed_in_between(&mut story, &operator)?;
    let late = request(&story, &operator, secret("db"), "first")??;
    ensure!(late.version == "1.2", "after restarts: {}", late.version);
    refusals_have_their_words(&story, &operator, &ring.id)?;

    let audit = read_audit(&story.stage)?;
    let parts = [
        "\"cause\":\"Request\"",
        "\"request\":\"second\"",
        "\"reason\":\"INC-42\"",
        "operator:east/strongroom-system/operator-1#",
    ];
    let found = audit
        .lines()
        .find(|line| parts.iter().all(|part| line.contains(part)));
    found.context("the request is on record")?;
    story.down()
}

/// All of them ask for one rotation over one connection.
fn at_once(story: &Story, operator: &Operator, target: &Target) -> Result<Vec<String>> {
    let token = story.token(&story.east, &OPERATOR)?;
    story.stage.block_on(async {
        let client = OperatorClient::new(story.connect().await?);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let mut client = client.clone();
            let request = with_token(asked(operator, target.clone(), "hasty"), &token)?;
            calls.spawn(async move { client.request_rotation(request).await });
        }
        let mut versions = Vec::new();
        while let Some(answer) = calls.join_next().await {
            versions.push(answer??.into_inner().version);
        }
        Ok(versions)
    })
}

fn killed_in_between(story: &mut Story, operator: &Operator) -> Result<()> {
    for (point, version) in [("decided", "1.5"), ("made", "1.6")] {
        story.kill()?;
        story.start_with(&format!("key-service.rotate.{point}=kill"))?;
        let unanswered = request(story, operator, secret("db"), point)?;
        ensure!(unanswered.is_err(), "{point}: nobody ended the service");
        story.stage.process(Program::KeyService)?.wait_killed()?;
        story.stage.recover()?;
        let answered = request(story, operator, secret("db"), point)??;
        ensure!(answered.version == version, "{point}: {}", answered.version);
        let state = operator.secret(story, "db", generated(), None)??;
        let now = current(&state);
        ensure!(now == Some(version), "{point}: {now:?}");
    }
    Ok(())
}

fn refusals_have_their_words(story: &Story, operator: &Operator, ring: &str) -> Result<()> {
    let refused = |target: Target, change: fn(&mut RequestRotationRequest)| {
        let mut request = asked(operator, target, "refused");
        change(&mut request);
        let answer = story.operator(request, async |mut client, request| {
            client.request_rotation(request).await
        })?;
        let status = answer.err().context("was not refused")?;
        let word = status.metadata().get("strongroom-reason");
        let word = word.and_then(|word| word.to_str().ok()).unwrap_or_default();
        Ok::<_, anyhow::Error>((status.code(), format!("{word}: {}", status.message())))
    };
    let check = |(code, said): (Code, String), expected, words: &str| {
        ensure!(code == expected && said.contains(words), "{code:?} {said}");
        Ok(())
    };
    check(refused(secret("none"), |_| {})?, Code::NotFound, "NotFound")?;
    let none = |request: &mut RequestRotationRequest| request.ring = "none".to_owned();
    check(
        refused(key(), none)?,
        Code::FailedPrecondition,
        "RingNotFound",
    )?;
    check(
        refused(secret("stripe"), |_| {})?,
        Code::FailedPrecondition,
        "set by people",
    )?;
    let other = |request: &mut RequestRotationRequest| request.namespace_uid = "other".to_owned();
    for target in [key(), secret("db")] {
        check(
            refused(target, other)?,
            Code::FailedPrecondition,
            "OwnedByFormerNamespace",
        )?;
    }
    let empty = |request: &mut RequestRotationRequest| request.request_id.clear();
    check(
        refused(key(), empty)?,
        Code::InvalidArgument,
        "request_id: an id of a request has",
    )?;
    let stale = |request: &mut RequestRotationRequest| {
        request.fence.get_or_insert_default().control_epoch += 1;
    };
    check(refused(key(), stale)?, Code::Aborted, "StaleControlEpoch")?;

    // What an administrator has stopped stays stopped.
    let state = operator.key(story, None, Vec::new())??;
    let request = ChangeVersionRequest {
        ring_id: ring.to_owned(),
        key: "orders".to_owned(),
        version: primary(&state).context("a version")?.to_owned(),
        ..ChangeVersionRequest::default()
    };
    story.stage.block_on(async {
        let native = Native::connect(&story.stage.installation, "administrator").await?;
        anyhow::Ok(native.keys().disable_version(request).await?)
    })?;
    check(
        refused(key(), |_| {})?,
        Code::FailedPrecondition,
        "is disabled",
    )
}
