//! A PIN that the token refuses and a token that was made anew: both are named where people look, nothing is written, and
//! the right ones put back are found by a key service that was never restarted.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    time::Duration,
};

use anyhow::{Result, ensure};
use strongroom_api::strongroom::hsm::v1::{
    DescribeRequest, InitializeRequest, TokenDescription, hsm_agent_client::HsmAgentClient,
};
use strongroom_e2e::{
    user::as_user,
    world::{installation, wait},
};
use strongroom_hack::installation::{AGENT_UID, KEY_SERVICE_UID, Program};
use strongroom_runtime::socket;
use tonic::{Status, transport::Channel};

use crate::place::{Place, copy, difference};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn wrong_pin_and_wrong_root_are_named_and_nothing_is_written() -> Result<()> {
    let mut installation = installation("refusals-token", 25040)?;
    installation.bring_up()?;
    installation.stop_all()?;
    let mut place = Place { installation };
    place.save("good")?;
    copy(&place.path("agent"), &place.path("good/agent"))?;
    wrong_pin_is_named_until_it_is_replaced(&mut place)?;
    new_token_of_the_same_name_is_refused(&mut place)?;
    another_root_for_the_same_instance_is_refused(&mut place)?;
    put_token_back(&mut place)?;
    place.restore("good")?;
    place.serve_during(async |_| Ok(()))?;
    place.clean_up()
}

fn wrong_pin_is_named_until_it_is_replaced(place: &mut Place) -> Result<()> {
    let pin = place.path("agent/pin");
    let right = fs::read(&pin)?;
    replace_pin(place, b"not the PIN")?;
    let of_service = |place: &Place| -> Result<_> {
        let mut files = place.bytes()?;
        // A store that is open has an empty file of changes beside it; the agent keeps the record of the refusal.
        files.retain(|path, bytes| {
            let unused = path.ends_with("store.db-wal") && bytes.is_empty();
            !unused && !path.starts_with(place.path("agent"))
        });
        Ok(files)
    };
    let before = of_service(place)?;
    place.installation.start(Program::HsmAgent, &[])?;
    let first = "the token strongroom refused the PIN; it is not tried again until the PIN file is replaced";
    // The next look, two seconds later, finds the record of the refusal and names the file.
    let later = format!(
        "the token refused the PIN in {}; it is not tried again until that file is replaced",
        pin.display()
    );
    says(place, Program::HsmAgent, "token: ", &[first, &later])?;
    place.installation.start(Program::KeyService, &[])?;
    says(
        place,
        Program::KeyService,
        "hsm: WrongPin: ",
        &[first, &later],
    )?;
    for _ in 0..5 {
        place.installation.stop(Program::HsmAgent)?;
        place.installation.start(Program::HsmAgent, &[])?;
        // Nothing but the record of the refusal can say this: a token that is asked says the other sentence first.
        says(place, Program::HsmAgent, "token: ", &[&later])?;
        says(place, Program::KeyService, "hsm: WrongPin: ", &[&later])?;
    }
    let changed = difference(&before, &of_service(place)?);
    ensure!(changed.is_empty(), "{changed:?} were written");

    replace_pin(place, &right)?;
    // Neither program is started again.
    for program in [Program::HsmAgent, Program::KeyService] {
        place.installation.wait_ready(program)?;
    }
    place.installation.stop(Program::KeyService)?;
    place.installation.stop(Program::HsmAgent)
}

/// Whoever lost the token's folder and runs `init` gets an empty token under the old label.
fn new_token_of_the_same_name_is_refused(place: &mut Place) -> Result<()> {
    place.restore("good")?;
    let agent = place.path("agent");
    fs::remove_dir_all(agent.join("tokens"))?;
    fs::remove_file(agent.join("pin"))?;
    place.installation.init(Program::HsmAgent)?;
    place.installation.start(Program::HsmAgent, &[])?;
    // From here on the agent writes nothing: it has logged in.
    let made = ["the token strongroom is not initialised"];
    says(place, Program::HsmAgent, "token: ", &made)?;
    let instance = place.instance()?;
    let sentence = format!("the token has no objects of instance {instance}: connect the token");
    place.refuses("serve", &sentence)?;
    let said = place.installation.init(Program::KeyService)?;
    ensure!(said.starts_with("already initialised"), "{said}");
    // Nor did that give the token keys.
    place.refuses("serve", &sentence).map(drop)
}

/// The new token is told to belong to the old instance: its keys are others all the same.
fn another_root_for_the_same_instance_is_refused(place: &mut Place) -> Result<()> {
    let instance = place.instance()?;
    let instance_id = hex::decode(&instance)?;
    let made = ask(place, async move |mut agent| {
        agent.initialize(InitializeRequest { instance_id }).await?;
        Ok(agent.describe(DescribeRequest {}).await?.into_inner())
    })?;
    place.refuses(
        "serve",
        "the token says that it belongs to this instance, but its keys are not the pinned ones",
    )?;

    // Even with its keys pinned, it has neither signed the records nor has it the root that opens them.
    let keys = made.keys.unwrap_or_default();
    let pin = serde_json::json!({
        "instanceId": instance,
        "recordSigningKey": hex::encode(keys.record_signing_key),
        "checkpointCertifyingKey": hex::encode(keys.checkpoint_certifying_key),
    });
    place.put("service/pin.json", &serde_json::to_vec(&pin)?)?;
    let sentence = "the KEK of the system ring is not what the token signed";
    place.refuses("serve", sentence).map(drop)
}

fn put_token_back(place: &mut Place) -> Result<()> {
    place.installation.stop(Program::HsmAgent)?;
    fs::remove_dir_all(place.path("agent"))?;
    copy(&place.path("good/agent"), &place.path("agent"))?;
    place.installation.start(Program::HsmAgent, &[])?;
    place.installation.wait_ready(Program::HsmAgent)
}

fn ask(
    place: &Place,
    call: impl AsyncFnOnce(HsmAgentClient<Channel>) -> Result<TokenDescription, Status> + Send + 'static,
) -> Result<TokenDescription> {
    let path = place.path("run/hsm/agent.sock");
    let answer = as_user(KEY_SERVICE_UID, KEY_SERVICE_UID, async move || {
        call(HsmAgentClient::new(socket::channel(&path, AGENT_UID))).await
    })?;
    Ok(answer?)
}

/// Puts another file at the path, as a mounted secret does it.
fn replace_pin(place: &Place, pin: &[u8]) -> Result<()> {
    let next = place.path("agent/next");
    fs::write(&next, pin)?;
    chown(&next, Some(AGENT_UID), Some(AGENT_UID))?;
    fs::set_permissions(&next, fs::Permissions::from_mode(0o400))?;
    Ok(fs::rename(next, place.path("agent/pin"))?)
}

/// Waits until a condition of a program that lives on says one of these sentences.
fn says(place: &Place, program: Program, condition: &str, sentences: &[&str]) -> Result<()> {
    let what = format!("{} says {sentences:?}", program.name());
    wait(LIMIT, &what, || {
        let body = place.installation.probe(program, "/readyz")?.body;
        let said = sentences.iter().any(|sentence| {
            body.lines()
                .any(|line| line.starts_with(condition) && line.contains(sentence))
        });
        ensure!(said, "{body}");
        Ok(true)
    })
}
