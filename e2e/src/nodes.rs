//! An installation with a port for plugins of other nodes, and what administrators and auditors do with it, under the clock
//! of the story.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use strongroom_api::strongroom::v1::{
    DescribeInstanceRequest, DescribeInstanceResponse, InviteNodeRequest, NodeState,
    instance_client::InstanceClient, nodes_client::NodesClient,
};
use strongroom_hack::{installation::Settings, programs::Build};

use crate::{
    mtls::{self, Credentials, StoryClock},
    remote::Remote,
    stage::Stage,
    world::run,
};

/// An installation with a port for plugins, and the clock of its programs.
///
/// # Errors
/// With what did not come up.
pub fn stage(name: &str, port: u16) -> Result<(Stage, StoryClock)> {
    stage_with(name, port, |_| {})
}

/// The same with other settings.
///
/// # Errors
/// As `stage`.
pub fn stage_with(
    name: &str,
    port: u16,
    change: impl FnOnce(&mut Settings),
) -> Result<(Stage, StoryClock)> {
    let mut clock = None;
    let mut stage = Stage::lay_out(name, port, Build::FaultPoints, |settings| {
        settings.plugins = true;
        change(settings);
        clock = Some(StoryClock::of(settings));
    })?;
    let clock = clock.context("the settings were changed")?;
    clock.start()?;
    stage.bring_up()?;
    Ok((stage, clock))
}

/// Verifies the audit log and removes everything; the last step of a story.
///
/// # Errors
/// When the log does not verify, or a folder cannot be removed.
pub fn clean_up(stage: Stage, clock: &StoryClock) -> Result<()> {
    stage.verify_audit()?;
    clock.remove()?;
    stage.clean_up()
}

/// An enrolment file for a node, as an administrator makes it on a machine with the true time.
///
/// # Errors
/// As the command line.
pub fn invite(stage: &Stage, node: &str) -> Result<PathBuf> {
    let file = place(stage, node);
    // A file that is there is never written over.
    let _ = fs::remove_file(&file);
    let administrator = stage.installation.path("etc/administrator.yaml");
    let mut command = stage.installation.kubectl_strongroom(&administrator);
    run(command.args(["enrol", "node", node, "-f"]).arg(&file))?;
    Ok(file)
}

fn place(stage: &Stage, node: &str) -> PathBuf {
    let folder = stage.installation.path("etc");
    folder.join(format!("enrolment-{node}.yaml"))
}

/// The same under the clock of the story.
///
/// # Errors
/// As the key service.
pub fn invite_now(stage: &Stage, clock: &StoryClock, node: &str) -> Result<PathBuf> {
    stage.installation.administrator("administrator")?;
    let credentials = Credentials::of_administrator(&stage.installation, "administrator")?;
    let request = InviteNodeRequest {
        node: node.to_owned(),
    };
    let address = stage.installation.server();
    let invited = stage.block_on(async {
        let channel = mtls::channel(&address, &credentials, clock).await?;
        anyhow::Ok(NodesClient::new(channel).invite(request).await?)
    });
    let invited = invited?.into_inner();
    let file = place(stage, node);
    let text = format!(
        "expires: soon\ninstanceID: {}\nnode: {node}\nrootSha256: {}\nsecret: {}\nendpoints: ['{}']\n",
        invited.instance_id,
        invited.root_sha256,
        invited.secret,
        invited.endpoints.join("', '"),
    );
    fs::write(&file, text)?;
    Ok(file)
}

/// What the key service says of the installation.
///
/// # Errors
/// As the key service.
pub fn describe(stage: &Stage, clock: &StoryClock) -> Result<DescribeInstanceResponse> {
    stage.installation.administrator("administrator")?;
    let credentials = Credentials::of_administrator(&stage.installation, "administrator")?;
    let address = stage.installation.server();
    let described = stage.block_on(async {
        let channel = mtls::channel(&address, &credentials, clock).await?;
        let request = DescribeInstanceRequest {};
        anyhow::Ok(InstanceClient::new(channel).describe(request).await?)
    });
    Ok(described?.into_inner())
}

/// Enrols a node with a file.
///
/// # Errors
/// With what the plugin said.
pub fn enrol(stage: &Stage, remote: &Remote, file: &Path) -> Result<()> {
    let output = remote.enrol(&stage.installation, file, "")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}

/// What the plugin says when a file does not enrol it.
///
/// # Errors
/// When it was enrolled.
pub fn refused(stage: &Stage, remote: &Remote, file: &Path) -> Result<String> {
    let output = remote.enrol(&stage.installation, file, "")?;
    ensure!(!output.status.success(), "it was enrolled");
    Ok(String::from_utf8(output.stderr)?)
}

/// All bytes of the audit log, as text.
///
/// # Errors
/// When they cannot be read.
pub fn read_audit(stage: &Stage) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(stage.installation.audit_dir())? {
        let path = entry?.path();
        if path.is_file() {
            text.push_str(&String::from_utf8_lossy(&fs::read(path)?));
        }
    }
    Ok(text)
}

/// What became of each node, as the key service says it.
///
/// # Errors
/// As the key service.
pub fn states(stage: &Stage, clock: &StoryClock) -> Result<Vec<&'static str>> {
    let described = describe(stage, clock)?;
    let word = |state| match state {
        NodeState::Unspecified => "Unspecified",
        NodeState::Invited => "Invited",
        NodeState::Enrolled => "Enrolled",
        NodeState::Expired => "Expired",
        NodeState::Revoked => "Revoked",
    };
    Ok(described
        .nodes
        .iter()
        .map(|node| word(node.state()))
        .collect())
}
