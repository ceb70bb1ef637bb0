//! What a pod's author writes among the attributes in place of kubelet gives him nothing that is not his.

use anyhow::{Result, ensure};
use strongroom_e2e::{
    delivery::{Delivery, LIMIT},
    refusal::Refusal,
    tenant::{self, READER, UID},
    world::wait,
};

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

#[test]
fn forged_attributes_open_nothing_and_leave_nothing() -> Result<()> {
    let story = Delivery::begin("pods-forged", 30220)?;
    let cluster = &story.cluster;
    // Somebody whose secret is worth the try.
    tenant::create_pod(cluster, "api")?;
    story.tenant.grant(cluster, "api")?;
    tenant::wait_until_runs(cluster, "api")?;
    let uid = tenant::kubectl(cluster, &["get", "pod", "api", "-o", UID])?;
    let stolen = tenant::pod_token(cluster, "api")?;
    tenant::kubectl(cluster, &["create", "serviceaccount", "thief"])?;

    let no_role = Refusal::new(
        "PermissionDenied",
        "ServiceAccount payments/thief has no role SecretReader on ManagedSecret payments/db; add it under spec.access",
    );
    let tokens = Refusal::new(
        "InvalidArgument",
        &format!(
            "attribute {TOKENS:?} in the pod's volume is for kubelet alone to write: remove it"
        ),
    );
    let unknown = |name: &str| {
        let known = "`bundle`, `secrets` and `optional` are known";
        let sentence = format!("unknown attribute {name:?} in the pod's volume: {known}");
        Refusal::new("InvalidArgument", &sentence)
    };
    let pods = [
        (
            "token",
            vec![(
                TOKENS,
                format!("{{\"strongroom.dev\": {{\"token\": \"{stolen}\"}}}}"),
            )],
            tokens,
        ),
        (
            "name",
            vec![
                ("csi.storage.k8s.io/pod.name", "api".to_owned()),
                ("csi.storage.k8s.io/pod.uid", uid),
                ("csi.storage.k8s.io/pod.namespace", "payments".to_owned()),
                ("csi.storage.k8s.io/serviceAccount.name", "api".to_owned()),
            ],
            no_role.clone(),
        ),
        // kubelet says that the volume is of a pod, whatever is written.
        (
            "kind",
            vec![("csi.storage.k8s.io/ephemeral", "false".to_owned())],
            no_role,
        ),
        (
            "namespace",
            vec![("namespace", "payments".to_owned())],
            unknown("namespace"),
        ),
        (
            "ring",
            vec![("ring", "payments".to_owned())],
            unknown("ring"),
        ),
        (
            "account",
            vec![("serviceAccount", "api".to_owned())],
            unknown("serviceAccount"),
        ),
    ];
    for (pod, attributes, _) in &pods {
        let written: Vec<String> = attributes
            .iter()
            .map(|(name, value)| format!("{name}: '{value}'"))
            .collect();
        let manifest = READER.replace(
            "{secrets: \"db\"}",
            &format!("{{secrets: db, {}}}", written.join(", ")),
        );
        ensure!(manifest != READER);
        tenant::apply_pod(cluster, &manifest, pod, "thief")?;
    }
    for (pod, _, expected) in &pods {
        wait(LIMIT, &format!("kubelet tells of {pod}"), || {
            let told = Refusal::of_pod(pod, |words| tenant::kubectl(cluster, words))?;
            // Never anything else, either.
            ensure!(
                !told.is_empty() && told.iter().all(|it| it == expected),
                "{told:?}"
            );
            Ok(true)
        })?;
        let uid = tenant::kubectl(cluster, &["get", "pod", pod, "-o", UID])?;
        let volume = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/secrets/mount");
        let volume = story.node()?.on_disk(&volume);
        ensure!(
            volume.read_dir().map_or(0, Iterator::count) == 0,
            "{volume:?} is not empty"
        );
    }
    ensure!(story.mounts()? == 1, "{} mounts", story.mounts()?);
    ensure!(
        story.metric("strongroom_csi_driver_volumes")? == 1.0,
        "the driver remembers a volume"
    );

    // Those that only lied about kubelet's words start once they may; the lie goes on to mean nothing.
    story.tenant.grant(cluster, "thief")?;
    for pod in ["name", "kind"] {
        tenant::wait_until_runs(cluster, pod)?;
    }
    story.end()
}
