//! Rotation by period and window, while the service runs, is killed, or is away.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use strongroom_api::strongroom::v1::{
    ApplyOutcome, ObjectKind, ReleaseRequest, RotationSchedule, SecretState,
};
use strongroom_core::Clock;
use strongroom_e2e::{nodes::read_audit, world::wait};
use strongroom_hack::installation::Program;
use tonic::Code;

use super::support::{
    LIMIT, Operator, Story, current, every, every_in, generated, manual, object, primary,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A rotation that is due and does not happen is looked for every second.
const QUIET: Duration = Duration::from_secs(3);

#[test]
fn a_schedule_makes_one_version_for_each_period_whatever_happens_in_between() -> Result<()> {
    let mut story = Story::up("workloads-schedules", 29600)?;
    let (operator, _) = story.begin(Vec::new())?;
    let made = applied(&story, &operator)?;
    ensure!(made == ("1.1".to_owned(), "1.1".to_owned()), "{made:?}");
    refusals_say_what_to_mend(&story, &operator)?;

    story.clock.skip(23 * HOUR)?;
    stays_at(&story, &operator, "1.1")?;
    story.clock.skip(2 * HOUR)?;
    comes_to(&story, &operator, "1.2")?;

    // Between the decision and the write, and between the write and anything else.
    for (point, version) in [("decided", "1.3"), ("made", "1.4")] {
        story.kill()?;
        story.start_with(&format!("key-service.rotate.{point}=kill"))?;
        story.clock.skip(25 * HOUR)?;
        let service = story.stage.process(Program::KeyService)?;
        service.wait_killed()?;
        story.stage.recover()?;
        comes_to(&story, &operator, version)?;
    }

    // Ten periods pass while nobody is there.
    story.kill()?;
    story.clock.skip(10 * DAY)?;
    story.stage.recover()?;
    comes_to(&story, &operator, "1.5")?;
    stays_at(&story, &operator, "1.5")?;

    let audit = read_audit(&story.stage)?;
    let scheduled = |action: &str| {
        let parts = ["system:rotate", action, "\"cause\":\"Schedule\""];
        let matches = |line: &&str| parts.iter().all(|part| line.contains(part));
        audit.lines().filter(matches).count()
    };
    ensure!(scheduled("\"RotateKey\"") == 4, "{audit}");
    ensure!(scheduled("\"RotateSecret\"") == 4, "{audit}");
    story.down()
}

#[test]
fn a_rotation_that_is_due_waits_for_its_window_and_for_somebody_who_wants_it() -> Result<()> {
    let story = Story::up("workloads-windows", 29620)?;
    let (operator, _) = story.begin(Vec::new())?;
    // The window opens in six hours, at the full hour.
    let opens = (story.clock.now().as_i64() / 3_600_000 + 6) * 3_600_000;
    let hour = (opens / 3_600_000) % 24;
    let nightly = || every_in(HOUR, &format!("0 {hour} * * *"), 2 * HOUR);
    let state = db(&story, &operator, Some(nightly()))?;
    ensure!(current(&state) == Some("1.1"));
    let next = state.next_rotation.context("it is told")?;
    ensure!(next.seconds * 1000 == opens, "{next:?} is not {opens}");

    story.clock.skip(4 * HOUR)?;
    sleep(QUIET);
    let state = db(&story, &operator, Some(nightly()))?;
    ensure!(current(&state) == Some("1.1"), "outside the window");
    ensure!(state.outcome() == ApplyOutcome::Unchanged);
    ensure!(state.next_rotation == Some(next));
    story.clock.skip(2 * HOUR)?;
    wait(LIMIT, "the window opens", || {
        let state = db(&story, &operator, Some(nightly()))?;
        Ok(current(&state) == Some("1.2"))
    })?;

    // Another schedule counts at once, from the version that is there.
    story.clock.skip(3 * HOUR)?;
    sleep(QUIET);
    ensure!(current(&db(&story, &operator, Some(nightly()))?) == Some("1.2"));
    let changed = db(&story, &operator, Some(every(HOUR)))?;
    ensure!(changed.outcome() == ApplyOutcome::Updated);
    wait(LIMIT, "the new schedule rotates", || {
        let state = db(&story, &operator, Some(every(HOUR)))?;
        Ok(current(&state) == Some("1.3"))
    })?;

    // What nobody holds is kept as it is.
    let request = ReleaseRequest {
        fence: operator.fence(),
        kind: ObjectKind::ManagedSecret.into(),
        object: Some(object("db")),
    };
    story.operator(request, async |mut client, request| {
        client.release(request).await
    })??;
    story.clock.skip(5 * HOUR)?;
    sleep(QUIET);
    let adopted = db(&story, &operator, None)?;
    ensure!(adopted.outcome() == ApplyOutcome::Adopted);
    ensure!(current(&adopted) == Some("1.3") && adopted.next_rotation.is_none());
    story.down()
}

fn refusals_say_what_to_mend(story: &Story, operator: &Operator) -> Result<()> {
    for (source, rotation, code, words) in [
        (
            manual(),
            every(DAY),
            Code::FailedPrecondition,
            "set by people; it cannot have a rotation schedule",
        ),
        (
            generated(),
            every(Duration::from_secs(60)),
            Code::InvalidArgument,
            "rotation.period: a rotation period is between 1h",
        ),
        (
            generated(),
            every_in(DAY, "0 3 * *", HOUR),
            Code::InvalidArgument,
            "rotation.window: \"0 3 * *\" is not a time of cron",
        ),
        (
            generated(),
            every_in(DAY, "0 0 30 2 *", HOUR),
            Code::InvalidArgument,
            "never opens",
        ),
    ] {
        let refused = operator.secret(story, "stripe", source, Some(rotation))?;
        let status = refused.err().context(words)?;
        ensure!(status.code() == code, "{status:?}");
        ensure!(status.message().contains(words), "{status:?}");
    }
    Ok(())
}

fn db(
    story: &Story,
    operator: &Operator,
    rotation: Option<RotationSchedule>,
) -> Result<SecretState> {
    Ok(operator.secret(story, "db", generated(), rotation)??)
}

/// Applies both with a schedule of a day, and says their versions.
fn applied(story: &Story, operator: &Operator) -> Result<(String, String)> {
    let key = operator.key(story, Some(every(DAY)), Vec::new())??;
    let secret = db(story, operator, Some(every(DAY)))?;
    for next in [key.next_rotation, secret.next_rotation] {
        let next = next.context("the next rotation is told")?.seconds;
        let now = story.clock.now().as_i64() / 1000;
        ensure!(
            next <= now + 24 * 3600,
            "{next} is later than {now} and a day"
        );
    }
    let text = |version: Option<&str>| version.map(str::to_owned).context("a version");
    Ok((text(primary(&key))?, text(current(&secret))?))
}

fn comes_to(story: &Story, operator: &Operator, version: &str) -> Result<()> {
    let both = (version.to_owned(), version.to_owned());
    wait(LIMIT, "both are rotated", || {
        Ok(applied(story, operator)? == both)
    })
}

fn stays_at(story: &Story, operator: &Operator, version: &str) -> Result<()> {
    sleep(QUIET);
    let now = applied(story, operator)?;
    ensure!(now == (version.to_owned(), version.to_owned()), "{now:?}");
    Ok(())
}
