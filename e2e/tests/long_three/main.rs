//! Three control-plane nodes with an API server each and one key service: one key id for all of them, through a rotation, a
//! plugin that is paused in the middle of one, a renewal, a revocation and a new enrolment.
#![forbid(unsafe_code)]

mod identity;
mod kubeconfig;
mod skew;
mod trio;

use std::time::Instant;

use anyhow::{Result, ensure};

use self::trio::Trio;

#[test]
fn three_api_servers_share_one_key_service() -> Result<()> {
    let trio = Trio::start("e2e-three")?;
    kubeconfig::is_accepted(&trio)?;
    all_encrypt_with_the_same_key_id(&trio, "before")?;
    rotation_reaches_all(&trio)?;
    skew::reads_work_everywhere(&trio)?;
    all_encrypt_with_the_same_key_id(&trio, "after-skew")?;
    identity::renews_is_revoked_and_is_enrolled_anew(&trio)?;
    all_encrypt_with_the_same_key_id(&trio, "after-enrolment")?;
    trio.read_everything()
}

/// What lies in etcd, and what each API server and each plugin says, is one key id.
fn all_encrypt_with_the_same_key_id(trio: &Trio, round: &str) -> Result<()> {
    let mut hashes = Vec::new();
    for node in trio.nodes()? {
        let key_id = trio.write(node, &format!("{round}-{}", node.name()))?;
        hashes.push(trio::hash(&key_id));
        hashes.push(trio.reported(node)?);
        hashes.push(trio.used_by_plugin(node)?);
    }
    let first = &hashes[0];
    ensure!(hashes.iter().all(|hash| hash == first), "{hashes:?}");
    Ok(())
}

fn rotation_reaches_all(trio: &Trio) -> Result<()> {
    let before = trio.write(trio.first()?, "before-rotation")?;
    let start = Instant::now();
    let rotated = trio::said(trio.rotate_and_wait(&["--timeout=4m"])?)?;
    println!(
        "report: three API servers: a rotation was in use on all of them after {:.0} s",
        start.elapsed().as_secs_f64()
    );
    ensure!(rotated["wait"]["converged"] == true, "{rotated}");
    let servers = rotated["wait"]["servers"].as_array().map_or(0, Vec::len);
    ensure!(servers == 3, "{rotated}");
    all_encrypt_with_the_same_key_id(trio, "rotated")?;
    let after = trio.write(trio.first()?, "after-rotation")?;
    ensure!(after != before, "the key id is still {before}");
    ensure!(
        rotated["now"]["keyIDHash"] == trio::hash(&after),
        "{rotated}"
    );
    trio.read_everything()
}
