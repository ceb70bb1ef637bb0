//! The first init through the request: what is seen before, what is made, what a second request hears, and what becomes of
//! keys of tokens and of a root certificate that somebody replaces.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use strongroom_api::strongroom::v1::{ReadForPodRequest, pods_client::PodsClient};
use strongroom_e2e::{
    issuer::{Issuer, Pod},
    world::wait,
};
use strongroom_hack::{cluster::ScopedCluster, installation::Program, programs::Programs};
use strongroom_runtime::{
    SystemClock,
    tls::{self, Look, RemoteAddress, Trust},
};
use tonic::{Code, Request};

use crate::place::{AUTHORITY, Place, REQUEST, WITNESS};

/// Nobody's: signed with a key that no API server has.
const DRIVER: Pod = Pod {
    namespace: "strongroom-csi",
    account: "driver",
    account_uid: "uid-driver",
    name: "driver-1",
    node: "node-1",
};

pub(crate) fn first_init_goes_through_the_request(
    cluster: &ScopedCluster,
    programs: &Programs,
) -> Result<()> {
    let mut place = Place::lay_out(cluster, "strongroom-init-one", 29300, programs)?;
    place.start_both()?;
    place.wait_says(Program::HsmAgent, 200, "awaiting init")?;
    place.wait_says(Program::KeyService, 200, "awaiting init")?;
    nothing_is_there(&place)?;
    stale_request_is_ignored(&place)?;

    let said = place.granted()?;
    ensure!(said.starts_with("initialised\n"), "{said}");
    place.wait_serves()?;
    let instance = place.word(WITNESS, "instanceId")?;
    ensure!(said.contains(&instance) && instance.len() == 32, "{said}");
    ensure!(said.contains("audit fingerprint: "), "{said}");
    ensure!(place.data(&place.system, REQUEST)?.is_none());
    wait_for_root(&place)?;

    let again = place.granted()?;
    ensure!(again.starts_with("already initialised\n"), "{again}");
    ensure!(again.contains(&instance), "{again}");
    replaced_root_is_not_believed(&mut place)?;
    keys_of_a_file_count_until_the_api_server_told_its_own(&mut place)?;
    place.clean_up()
}

fn nothing_is_there(place: &Place<'_>) -> Result<()> {
    ensure!(place.files("service")?.is_empty());
    ensure!(place.files("audit")?.is_empty());
    ensure!(place.files("agent")?.is_empty());
    for name in [WITNESS, AUTHORITY] {
        ensure!(place.data(&place.system, name)?.is_none());
    }
    let refused = std::net::TcpStream::connect(place.installation.server());
    ensure!(refused.is_err(), "it serves");
    Ok(())
}

/// Written into etcd, since an API server stamps the time of a request itself.
fn stale_request_is_ignored(place: &Place<'_>) -> Result<()> {
    let system = &place.system;
    let request = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"request": "Init"},
        "metadata": {
            "name": REQUEST, "namespace": system, "uid": "9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0001",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
    });
    let path = format!("/registry/configmaps/{system}/{REQUEST}");
    place
        .cluster
        .etcd_put(&path, request.to_string().as_bytes())?;
    ensure!(place.word(REQUEST, "request")? == "Init");
    // It looks once a second.
    std::thread::sleep(Duration::from_secs(4));
    place.wait_says(Program::KeyService, 200, "awaiting init")?;
    nothing_is_there(place)
}

fn root(place: &Place<'_>, namespace: &str) -> Result<String> {
    let data = place.data(namespace, AUTHORITY)?.unwrap_or_default();
    Ok(data.get("ca.crt").cloned().unwrap_or_default())
}

fn wait_for_root(place: &Place<'_>) -> Result<()> {
    place.installation.administrator("administrator")?;
    let issued = place.installation.path("etc/administrator-root.crt");
    let issued = fs::read_to_string(issued)?;
    for namespace in [place.system.clone(), format!("{}-csi", place.system)] {
        wait(Duration::from_secs(30), "the root is shown", || {
            Ok(root(place, &namespace)? == issued)
        })?;
    }
    Ok(())
}

/// A client that trusted the first root goes on with it, and the key service puts the ConfigMap right.
fn replaced_root_is_not_believed(place: &mut Place<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ca.crt");
    fs::write(&file, root(place, &place.system)?)?;
    let trust = Arc::new(Trust::new(&file));
    ensure!(trust.look() == Look::Trusted);
    let runtime = runtime()?;
    let address: RemoteAddress = place.installation.workloads_address().parse()?;
    let config = Arc::new(tls::following(trust.clone(), Arc::new(SystemClock))?);
    runtime.block_on(tls::connect(&address, config.clone()))?;

    let other = rcgen_root()?;
    place.patch(AUTHORITY, &json!({ "ca.crt": other }))?;
    fs::write(&file, root(place, &place.system)?)?;
    ensure!(matches!(trust.look(), Look::Refused(_)));
    runtime
        .block_on(tls::connect(&address, config))
        .context("the first root is trusted still")?;
    let late = Arc::new(Trust::new(&file));
    let config = Arc::new(tls::following(late, Arc::new(SystemClock))?);
    ensure!(runtime.block_on(tls::connect(&address, config)).is_err());

    // It looks once a minute, and at its start.
    place.start(Program::KeyService, "")?;
    place.wait_serves()?;
    wait_for_root(place)
}

fn rcgen_root() -> Result<String> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Ok(params.self_signed(&rcgen::KeyPair::generate()?)?.pem())
}

fn keys_of_a_file_count_until_the_api_server_told_its_own(place: &mut Place<'_>) -> Result<()> {
    let issuer = Issuer::new("https://file.example")?;
    let keys = place.installation.path("etc/keys.jwks");
    fs::write(&keys, issuer.jwks())?;
    place.installation.settings_mut().clusters = vec![format!(
        "{{name: main, issuer: 'https://file.example', keysFile: {}, drivers: [{{namespace: strongroom-csi, name: driver}}]}}",
        keys.display()
    )];
    place.installation.write_configuration()?;
    place.forward.cut(true);
    place.start(Program::KeyService, "")?;
    place.wait_serves()?;
    ensure!(ask(place, &issuer)? != Code::Unauthenticated);
    place.forward.cut(false);
    wait(
        Duration::from_secs(90),
        "the keys of the file are replaced",
        || Ok(ask(place, &issuer)? == Code::Unauthenticated),
    )
}

/// How a read with tokens of this issuer ends.
fn ask(place: &Place<'_>, issuer: &Issuer) -> Result<Code> {
    let token = issuer.token(&DRIVER)?;
    let mut request = Request::new(ReadForPodRequest {
        pod_token: token.clone(),
        pod_uid: DRIVER.uid(),
        ..ReadForPodRequest::default()
    });
    let bearer = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", bearer);
    let root = fs::read(place.installation.path("etc/administrator-root.crt"))?;
    let config = Arc::new(tls::trusting(&root, Arc::new(SystemClock))?);
    let address: RemoteAddress = place.installation.workloads_address().parse()?;
    let answer = runtime()?.block_on(async {
        let channel = tls::channel(&address, config);
        PodsClient::new(channel).read_for_pod(request).await
    });
    Ok(answer.map_or_else(|status| status.code(), |_| Code::Ok))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
