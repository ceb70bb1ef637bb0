//! Init of the key service beside an agent that comes later, as in the pod that runs both.
#![forbid(unsafe_code)]

use std::process::Stdio;

use anyhow::{Result, ensure};
use strongroom_e2e::stage::Stage;
use strongroom_hack::{installation::Program, programs::Build};

#[test]
fn init_waits_for_an_agent_that_is_late() -> Result<()> {
    let mut stage = Stage::lay_out("late-agent", 27900, Build::Plain, |_| {})?;
    stage.installation.init(Program::HsmAgent)?;
    let init = stage
        .installation
        .command(Program::KeyService, "init")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    stage.start(Program::HsmAgent, "")?;
    let output = init.wait_with_output()?;
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "{said}");
    assert!(said.starts_with("initialised\n"), "{said}");
    stage.clean_up()
}
