//! An instance in a cluster: it is made when ConfigMap `strongroom-init` asks for it and nothing of one is anywhere, and what is
//! missing or another's is refused by name. All stories share one real API server.
#![forbid(unsafe_code)]

mod init;
mod kills;
mod place;
mod volumes;

use anyhow::Result;
use strongroom_hack::{
    cluster::{Options, ScopedCluster},
    programs::{Build, Programs},
};

#[test]
fn instance_is_made_by_request_and_by_nothing_else() -> Result<()> {
    // Built first, so that no story waits for a compiler.
    let programs = Programs::ensure_built(Build::Plain)?;
    let cluster = ScopedCluster::up(Options::new("e2e-incluster".parse()?))?;
    init::first_init_goes_through_the_request(&cluster, &programs)?;
    volumes::late_volumes_and_other_instances_are_refused_by_name(&cluster, &programs)?;
    Ok(())
}

#[test]
fn init_that_is_killed_goes_on() -> Result<()> {
    let programs = Programs::ensure_built(Build::FaultPoints)?;
    let cluster = ScopedCluster::up(Options::new("e2e-incluster-kills".parse()?))?;
    kills::each_point_is_gone_on_from(&cluster, &programs)
}
