//! What is missing, late or another's: each is named, nothing is made in its place, and it goes on by itself once it is right.

use anyhow::{Result, ensure};
use serde_json::json;
use strongroom_api::strongroom::v1::DescribeInstanceRequest;
use strongroom_e2e::native::Native;
use strongroom_hack::{cluster::ScopedCluster, installation::Program, programs::Programs};

use crate::place::{Place, WITNESS};

pub(crate) fn late_volumes_and_other_instances_are_refused_by_name(
    cluster: &ScopedCluster,
    programs: &Programs,
) -> Result<()> {
    let mut place = Place::lay_out(cluster, "strongroom-init-two", 29310, programs)?;
    place.start_both()?;
    place.granted()?;
    place.wait_serves()?;
    let instance = place.word(WITNESS, "instanceId")?;
    place.installation.administrator("administrator")?;

    store_that_is_not_there_is_missed(&mut place, &instance)?;
    token_that_is_not_there_is_missed(&mut place)?;
    what_is_gone_with_the_store_is_known_by_the_witness(&mut place, &instance)?;
    witness_of_another_instance_fences(&mut place, &instance)?;
    place.clean_up()
}

fn refused(place: &Place<'_>, sentence: &str) -> Result<()> {
    let output = place.request_init("20s")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains(sentence), "{said}");
    Ok(())
}

fn store_that_is_not_there_is_missed(place: &mut Place<'_>, instance: &str) -> Result<()> {
    place.stop(Program::KeyService);
    place.empty("service")?;
    place.start(Program::KeyService, "")?;
    let sentence = format!("strongroom-witness names instance {instance}, but its store is not");
    place.wait_says(Program::KeyService, 503, &sentence)?;
    refused(place, &sentence)?;
    ensure!(place.files("service")?.is_empty());

    // Without a witness the token says it.
    place.remove(WITNESS)?;
    let sentence = format!("the token has objects of instance {instance}");
    place.wait_says(Program::KeyService, 503, &sentence)?;
    refused(place, &sentence)?;
    ensure!(place.files("service")?.is_empty());

    place.restore("service")?;
    place.wait_serves()?;
    strongroom_e2e::world::wait(
        std::time::Duration::from_secs(30),
        "the witness names the instance again",
        || Ok(place.word(WITNESS, "instanceId")? == instance),
    )
}

fn token_that_is_not_there_is_missed(place: &mut Place<'_>) -> Result<()> {
    stop_both(place);
    place.empty("agent")?;
    place.start_both()?;
    place.wait_says(Program::HsmAgent, 200, "awaiting init")?;
    place.wait_says(Program::KeyService, 503, "hsm: NotMade")?;
    let output = place.request_init("5s")?;
    ensure!(output.status.code() == Some(3), "{output:?}");
    ensure!(place.files("agent")?.is_empty());

    place.restore("agent")?;
    place.wait_serves()
}

/// Whatever is gone together with the store: nothing is made in its place, and it is named.
fn what_is_gone_with_the_store_is_known_by_the_witness(
    place: &mut Place<'_>,
    instance: &str,
) -> Result<()> {
    let sentence = format!("strongroom-witness names instance {instance}");
    for gone in [
        &["service", "agent"][..],
        &["service", "audit"],
        &["service", "agent", "audit"],
    ] {
        stop_both(place);
        for folder in gone {
            place.empty(folder)?;
        }
        place.start_both()?;
        place.wait_says(Program::KeyService, 503, &sentence)?;
        refused(place, &sentence)?;
        for folder in gone {
            ensure!(place.files(folder)?.is_empty(), "{folder} of {gone:?}");
        }
        stop_both(place);
        for folder in gone {
            place.restore(folder)?;
        }
    }
    place.start_both()?;
    place.wait_serves()
}

fn stop_both(place: &mut Place<'_>) {
    for program in [Program::KeyService, Program::HsmAgent] {
        place.stop(program);
    }
}

/// It is compared at the start, and calls are refused from then on; nothing of the store changes.
fn witness_of_another_instance_fences(place: &mut Place<'_>, instance: &str) -> Result<()> {
    let other = "0123456789abcdef0123456789abcdef";
    place.patch(WITNESS, &json!({ "instanceId": other }))?;
    place.start(Program::KeyService, "")?;
    let sentence =
        format!("witness: strongroom-witness names instance {other}, this is {instance}");
    place.wait_says(Program::KeyService, 503, &sentence)?;
    let refusal = describe(place)?.expect_err("is fenced");
    ensure!(refusal.contains("is fenced"), "{refusal}");
    let metrics = place.installation.probe(Program::KeyService, "/metrics")?;
    ensure!(metrics.body.contains("strongroom_witness_differs 1"));
    ensure!(place.word(WITNESS, "instanceId")? == other);

    place.patch(WITNESS, &json!({ "instanceId": instance }))?;
    place.wait_serves()?;
    ensure!(describe(place)? == Ok(instance.to_owned()));
    Ok(())
}

/// The instance as an administrator sees it, or what he is told.
fn describe(place: &Place<'_>) -> Result<Result<String, String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let native = Native::connect(&place.installation, "administrator").await?;
        let described = native.instance().describe(DescribeInstanceRequest {}).await;
        Ok(described
            .map(|described| described.into_inner().instance_id)
            .map_err(|status| status.message().to_owned()))
    })
}
