//! What the charts render, looked at as parsed objects.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context, Result, ensure};
use expect_test::expect;
use serde_json::{Value, json};
use strongroom_hack::{
    charts::Chart,
    paths,
    programs::{Build, Programs},
};

use crate::objects::{
    DRIVERS_NAMESPACE, NAMESPACE, NEWEST, OLDER, Objects, annotation, containers, name,
};

/// The chart beside a key service that runs elsewhere.
const EXTERNAL: [&str; 4] = [
    "--set",
    "keyService.mode=External,keyService.endpoints={192.0.2.1:8445,[2001:db8::1]:8445}",
    "--set",
    "keyService.caSha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
];

#[test]
fn objects_are_these() -> Result<()> {
    expect![[r#"
        CSIDriver /csi.strongroom.dev
        ClusterRole /strongroom-admin
        ClusterRole /strongroom-edit
        ClusterRole /strongroom-key-service
        ClusterRole /strongroom-operator
        ClusterRole /strongroom-view
        ClusterRoleBinding /strongroom-key-service
        ClusterRoleBinding /strongroom-operator
        ConfigMap strongroom-csi/strongroom-csi-driver-config
        ConfigMap strongroom-system/strongroom-key-service-config
        ConfigMap strongroom-system/strongroom-operator-config
        DaemonSet strongroom-csi/strongroom-csi-driver
        Deployment strongroom-system/strongroom-operator
        Job strongroom-system/strongroom-init
        KeyRing strongroom-system/strongroom-test
        ManagedSecret strongroom-system/strongroom-test
        Namespace /strongroom-csi
        Pod strongroom-system/strongroom-test
        Role strongroom-csi/strongroom-key-service
        Role strongroom-system/strongroom-init
        Role strongroom-system/strongroom-key-service
        Role strongroom-system/strongroom-operator
        RoleBinding strongroom-csi/strongroom-key-service
        RoleBinding strongroom-system/strongroom-init
        RoleBinding strongroom-system/strongroom-key-service
        RoleBinding strongroom-system/strongroom-operator
        Service strongroom-system/strongroom-key-service
        ServiceAccount strongroom-csi/strongroom-csi-driver
        ServiceAccount strongroom-system/strongroom-init
        ServiceAccount strongroom-system/strongroom-key-service
        ServiceAccount strongroom-system/strongroom-operator
        ServiceAccount strongroom-system/strongroom-test
        StatefulSet strongroom-system/strongroom-key-service
        ValidatingAdmissionPolicy /strongroom-access
        ValidatingAdmissionPolicy /strongroom-operator
        ValidatingAdmissionPolicy /strongroom-published
        ValidatingAdmissionPolicyBinding /strongroom-access
        ValidatingAdmissionPolicyBinding /strongroom-operator
        ValidatingAdmissionPolicyBinding /strongroom-published"#]]
    .assert_eq(&Objects::by_default()?.names().join("\n"));
    Ok(())
}

#[test]
fn rights_are_these() -> Result<()> {
    let objects = Objects::by_default()?;
    let roles = ["Role", "ClusterRole"].map(|kind| objects.of_kind(kind).collect::<Vec<_>>());
    let mut table = String::new();
    for role in roles.concat() {
        table.push_str(&format!("{}\n", name(role)));
        for rule in role["rules"].as_array().context("rules")? {
            let words = |field: &str| -> String {
                let list = rule[field].as_array().into_iter().flatten();
                list.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            };
            let of = words("resourceNames");
            let of = if of.is_empty() {
                of
            } else {
                format!(" [{of}]")
            };
            let what = words("resources") + &words("nonResourceURLs");
            table.push_str(&format!("  {what}{of}: {}\n", words("verbs")));
        }
    }
    expect![[r#"
        Role strongroom-system/strongroom-key-service
          configmaps [strongroom-ca strongroom-witness strongroom-init]: get patch
          configmaps: create
        Role strongroom-csi/strongroom-key-service
          configmaps [strongroom-ca]: get patch
          configmaps: create
        Role strongroom-system/strongroom-operator
          leases [strongroom-operator]: get update patch
          leases: create
        Role strongroom-system/strongroom-init
          configmaps [strongroom-init]: get delete
          configmaps: create
        ClusterRole /strongroom-key-service
          /.well-known/openid-configuration /openid/v1/jwks: get
        ClusterRole /strongroom-operator
          keyrings cryptokeys managedsecrets secretrotations secretbundles: get list watch patch
          keyrings/status cryptokeys/status managedsecrets/status secretrotations/status secretbundles/status keyservices/status: patch
          keyservices: get list watch create patch
          namespaces serviceaccounts: get list watch
          validatingadmissionpolicies validatingadmissionpolicybindings [strongroom-access]: get list watch
          events: create patch
        ClusterRole /strongroom-view
          keyservices keyrings cryptokeys managedsecrets secretrotations secretbundles: get list watch
        ClusterRole /strongroom-edit
          cryptokeys managedsecrets secretrotations secretbundles: create update patch delete deletecollection
        ClusterRole /strongroom-admin
          cryptokeys managedsecrets: bind
    "#]].assert_eq(&table);
    Ok(())
}

#[test]
fn bindings_bind_our_own_accounts_to_our_own_roles() -> Result<()> {
    let objects = Objects::by_default()?;
    let known: BTreeSet<String> = objects.names().into_iter().collect();
    let bindings = ["RoleBinding", "ClusterRoleBinding"];
    for binding in bindings.iter().flat_map(|kind| objects.of_kind(kind)) {
        let role = &binding["roleRef"];
        let namespace = if role["kind"] == "Role" {
            &binding["metadata"]["namespace"]
        } else {
            &Value::Null
        };
        let role = json!({"kind": role["kind"], "metadata": {"name": role["name"], "namespace": namespace}});
        assert!(known.contains(&name(&role)), "{}", name(binding));
        for subject in binding["subjects"].as_array().context("subjects")? {
            let account = json!({"kind": subject["kind"], "metadata": subject});
            assert!(known.contains(&name(&account)), "{}", name(binding));
        }
    }
    Ok(())
}

#[test]
fn same_values_are_always_the_same_bytes() -> Result<()> {
    for arguments in [&[][..], &EXTERNAL] {
        let render = || Chart::Strongroom.render(NAMESPACE, NEWEST, arguments);
        assert_eq!(render()?, render()?);
    }
    let render = || Chart::Crds.render(NAMESPACE, NEWEST, &[]);
    assert_eq!(render()?, render()?);
    Ok(())
}

#[test]
fn nothing_is_secret_in_the_chart() -> Result<()> {
    for arguments in [&[][..], &EXTERNAL] {
        let objects = Objects::of(Chart::Strongroom, NEWEST, arguments)?;
        assert_eq!(objects.of_kind("Secret").count(), 0);
    }
    Ok(())
}

#[test]
fn every_object_says_whose_it_is() -> Result<()> {
    for object in Objects::by_default()?.iter() {
        let labels = &object["metadata"]["labels"];
        for (label, value) in [
            ("app.kubernetes.io/name", "strongroom"),
            ("app.kubernetes.io/instance", "strongroom"),
            ("app.kubernetes.io/managed-by", "Helm"),
            ("app.kubernetes.io/version", env!("CARGO_PKG_VERSION")),
        ] {
            assert_eq!(labels[label], value, "{}: {label}", name(object));
        }
    }
    Ok(())
}

/// The restricted Pod Security profile, and a root file system that nobody writes.
#[test]
fn every_container_but_the_drivers_is_restricted() -> Result<()> {
    let objects = Objects::by_default()?;
    let mut seen = 0;
    for (owner, pod) in objects.pods() {
        let driver = owner.starts_with("DaemonSet");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[host], Value::Null, "{owner}: {host}");
        }
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{owner}"
        );
        let volumes = pod["volumes"].as_array().into_iter().flatten();
        let of_host = volumes.filter(|volume| !volume["hostPath"].is_null());
        assert_eq!(of_host.count(), if driver { 3 } else { 0 }, "{owner}");
        for container in containers(pod) {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{owner}");
            if driver {
                assert_eq!(context["privileged"], true);
                continue;
            }
            seen += 1;
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{owner}");
            let user = [&context["runAsUser"], &pod["securityContext"]["runAsUser"]];
            let user = user.iter().find_map(|user| user.as_u64());
            assert!(user.is_some_and(|user| user > 0), "{owner}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{owner}");
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{owner}");
            assert_eq!(context["privileged"], Value::Null, "{owner}");
            assert!(container["resources"]["requests"].is_object(), "{owner}");
        }
    }
    assert_eq!(seen, 7, "containers");
    Ok(())
}

#[test]
fn programs_of_one_pod_have_users_of_their_own() -> Result<()> {
    let objects = Objects::by_default()?;
    let pod = &objects.get("StatefulSet", "strongroom-key-service")?["spec"]["template"]["spec"];
    for container in containers(pod) {
        let image = container["image"].as_str().context("an image")?;
        let user = if image.contains("hsm-agent") {
            2003
        } else {
            2001
        };
        let context = &container["securityContext"];
        assert_eq!(context["runAsUser"], user, "{image}");
        assert_eq!(context["runAsGroup"], user, "{image}");
    }
    Ok(())
}

/// A token for the API server is where one is needed, and nowhere else.
#[test]
fn tokens_of_the_api_server_are_in_three_containers() -> Result<()> {
    let objects = Objects::by_default()?;
    let mut holders = Vec::new();
    for (owner, pod) in objects.pods() {
        let account = pod["serviceAccountName"].as_str().context("an account")?;
        let account = objects.get("ServiceAccount", account)?;
        let of_pod = &pod["automountServiceAccountToken"];
        let of_account = &account["automountServiceAccountToken"];
        let everywhere = *of_pod != json!(false) && *of_account != json!(false);
        for container in containers(pod) {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            let mut paths = mounts.filter_map(|mount| mount["mountPath"].as_str());
            if everywhere || paths.any(|path| path.contains("kubernetes.io/serviceaccount")) {
                let container = container["name"].as_str().unwrap_or_default();
                holders.push(format!("{owner} {container}"));
            }
        }
    }
    holders.sort();
    assert_eq!(
        holders,
        [
            "Deployment strongroom-system/strongroom-operator operator",
            "Job strongroom-system/strongroom-init init",
            "StatefulSet strongroom-system/strongroom-key-service key-service",
        ]
    );
    Ok(())
}

#[test]
fn init_is_asked_for_after_an_install_and_never_at_an_upgrade() -> Result<()> {
    let objects = Objects::by_default()?;
    for kind in ["Job", "ServiceAccount", "Role", "RoleBinding"] {
        let object = objects.get(kind, "strongroom-init")?;
        assert_eq!(annotation(object, "helm.sh/hook"), "post-install");
        let ends = annotation(object, "helm.sh/hook-delete-policy");
        assert!(ends.contains("hook-succeeded"), "{kind}");
    }
    let hooks = objects
        .iter()
        .map(|object| annotation(object, "helm.sh/hook"));
    let hooks: BTreeSet<&str> = hooks.collect();
    assert_eq!(hooks, BTreeSet::from(["", "post-install", "test"]));
    Ok(())
}

#[test]
fn volumes_stay_and_are_told_so_to_everybody() -> Result<()> {
    let objects = Objects::of(
        Chart::Strongroom,
        NEWEST,
        &["--set", "keyService.persistence.storageClass=fast"],
    )?;
    let set = &objects.get("StatefulSet", "strongroom-key-service")?["spec"];
    assert_eq!(
        set["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    let claims = set["volumeClaimTemplates"].as_array().context("claims")?;
    let mut names = Vec::new();
    for claim in claims {
        names.push(claim["metadata"]["name"].as_str().context("a name")?);
        assert_eq!(annotation(claim, "helm.sh/resource-policy"), "keep");
        let argo = annotation(claim, "argocd.argoproj.io/sync-options");
        assert_eq!(argo, "Prune=false,Delete=false");
        assert_eq!(claim["spec"]["storageClassName"], "fast");
        // A StatefulSet refuses another claim, so nothing in it may follow the version.
        let labels = claim["metadata"]["labels"].as_object().context("labels")?;
        assert!(!labels.values().any(|it| it == env!("CARGO_PKG_VERSION")));
    }
    assert_eq!(names, ["audit", "store", "token"]);

    let by_default = Objects::by_default()?;
    let set = &by_default.get("StatefulSet", "strongroom-key-service")?["spec"];
    let class = set.pointer("/volumeClaimTemplates/0/spec/storageClassName");
    assert_eq!(class, None, "the cluster's default");
    Ok(())
}

#[test]
fn audit_log_fills_three_quarters_of_its_volume() -> Result<()> {
    for (size, capacity) in [("2Gi", "1536"), ("10Gi", "7680"), ("1Ti", "786432")] {
        let value = format!("keyService.persistence.size={size}");
        let objects = Objects::of(Chart::Strongroom, NEWEST, &["--set", &value])?;
        let config = objects.file("strongroom-key-service-config", "key-service.yaml")?;
        assert!(
            config.contains(&format!("capacityMib: {capacity}\n")),
            "{config}"
        );
    }
    Ok(())
}

#[test]
fn one_operator_has_no_disruption_budget_and_two_have() -> Result<()> {
    let budgets = |replicas: &str| -> Result<usize> {
        let value = format!("operator.replicas={replicas}");
        let objects = Objects::of(Chart::Strongroom, NEWEST, &["--set", &value])?;
        Ok(objects.of_kind("PodDisruptionBudget").count())
    };
    assert_eq!([budgets("1")?, budgets("2")?], [0, 1]);
    Ok(())
}

#[test]
fn tokens_of_pods_come_apart_from_attributes_where_the_cluster_can() -> Result<()> {
    let source = |kubernetes, arguments: &[&str]| -> Result<(Value, bool)> {
        let objects = Objects::of(Chart::Strongroom, kubernetes, arguments)?;
        let driver = objects.get("CSIDriver", "csi.strongroom.dev")?;
        let config = objects.file("strongroom-csi-driver-config", "csi-driver.yaml")?;
        let secrets = config.contains("source: Secrets\n");
        ensure!(secrets != config.contains("source: VolumeContext\n"));
        Ok((
            driver["spec"]["serviceAccountTokenInSecrets"].clone(),
            secrets,
        ))
    };
    assert_eq!(source(NEWEST, &[])?, (json!(true), true));
    assert_eq!(source("1.35.0-rc.1", &[])?, (json!(true), true));
    assert_eq!(source(OLDER, &[])?, (Value::Null, false));
    let context = ["--set", "csiDriver.tokenSource=VolumeContext"];
    assert_eq!(source(NEWEST, &context)?, (Value::Null, false));
    Ok(())
}

#[test]
fn driver_mounts_where_kubelet_is() -> Result<()> {
    let value = ["--set", "csiDriver.kubeletDir=/data/kubelet"];
    let objects = Objects::of(Chart::Strongroom, NEWEST, &value)?;
    let config = objects.file("strongroom-csi-driver-config", "csi-driver.yaml")?;
    assert!(config.contains("kubeletDir: /data/kubelet\n"), "{config}");
    let pod = &objects.get("DaemonSet", "strongroom-csi-driver")?["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().context("volumes")?;
    let container = containers(pod).next().context("a container")?;
    let mounts = container["volumeMounts"].as_array().context("mounts")?;
    let on_host = volumes
        .iter()
        .filter(|volume| volume["hostPath"].is_object());
    for volume in on_host {
        let path = &volume["hostPath"]["path"];
        assert!(
            path.as_str()
                .is_some_and(|path| path.starts_with("/data/kubelet/"))
        );
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]);
        assert_eq!(mount.context("it is mounted")?["mountPath"], *path);
    }
    Ok(())
}

#[test]
fn key_service_outside_leaves_operator_and_driver() -> Result<()> {
    let objects = Objects::of(Chart::Strongroom, NEWEST, &EXTERNAL)?;
    for absent in ["StatefulSet", "Job", "Service"] {
        assert_eq!(objects.of_kind(absent).count(), 0, "{absent}");
    }
    for (map, file) in [
        ("strongroom-csi-driver-config", "csi-driver.yaml"),
        ("strongroom-operator-config", "operator.yaml"),
    ] {
        let config: Value = serde_yaml_ng::from_str(objects.file(map, file)?)?;
        let expected = json!({
            "endpoints": ["192.0.2.1:8445", "[2001:db8::1]:8445"],
            "caSha256": "0123456789abcdef".repeat(4),
            "tokenFile": "/var/run/secrets/strongroom.dev/token",
        });
        assert_eq!(config["keyService"], expected, "{map}");
    }
    for (owner, pod) in objects.pods() {
        let volumes = pod["volumes"].as_array().context("volumes")?;
        assert!(volumes.iter().all(|it| it["name"] != "root"), "{owner}");
    }

    let bundle =
        "keyService.caBundle=-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let endpoint = "keyService.mode=External,keyService.endpoints={192.0.2.1:8445}";
    let arguments = ["--set", endpoint, "--set", bundle];
    let objects = Objects::of(Chart::Strongroom, NEWEST, &arguments)?;
    let maps = objects.of_kind("ConfigMap");
    let roots = maps.filter(|map| map["metadata"]["name"] == "strongroom-external-ca");
    let places: Vec<_> = roots
        .map(|map| (&map["metadata"]["namespace"], &map["data"]["ca.crt"]))
        .collect();
    let pem = json!("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n");
    let expected = [DRIVERS_NAMESPACE, NAMESPACE].map(|namespace| json!(namespace));
    assert_eq!(places, [(&expected[0], &pem), (&expected[1], &pem)]);
    Ok(())
}

#[test]
fn another_configuration_starts_the_programs_anew() -> Result<()> {
    let digests = |arguments: &[&str]| -> Result<Vec<(String, Value)>> {
        let objects = Objects::of(Chart::Strongroom, NEWEST, arguments)?;
        let owners = objects
            .iter()
            .filter(|object| object["spec"]["template"].is_object());
        let of = |owner: &Value| {
            owner["spec"]["template"]["metadata"]["annotations"]["strongroom.dev/config"].clone()
        };
        let digests = owners.map(|owner| (name(owner), of(owner)));
        Ok(digests.filter(|(_, digest)| !digest.is_null()).collect())
    };
    let before = digests(&[])?;
    let after = digests(&["--set", "cluster.audience=strongroom.dev/main"])?;
    assert_eq!(before.len(), 3);
    for ((owner, before), (_, after)) in before.iter().zip(&after) {
        // The operator's own configuration does not name the audience.
        let changed = !owner.starts_with("Deployment");
        assert_eq!(before != after, changed, "{owner}");
    }
    Ok(())
}

#[test]
fn key_service_takes_the_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = Programs::ensure_built(Build::Plain)?.key_service();
    let values = r#"administrators=[{"certificate": "it's: \"me\""}, {"certificate": "yes"}]"#;
    let ring = "0123456789abcdef".repeat(2);
    let access =
        format!(r#"access=[{{"role": "SecretReader", "certificate": "yes", "ring": "{ring}"}}]"#);
    for arguments in [
        &[][..],
        &["--set-json", values],
        &["--set-json", values, "--set-json", &access],
    ] {
        let objects = Objects::of(Chart::Strongroom, NEWEST, arguments)?;
        let file = folder.path().join("key-service.yaml");
        fs::write(
            &file,
            objects.file("strongroom-key-service-config", "key-service.yaml")?,
        )?;
        let output = Command::new(&program)
            .args(["check-config", "--config"])
            .arg(&file)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    Ok(())
}

#[test]
fn custom_resources_are_the_repositorys_and_stay() -> Result<()> {
    let folder = paths::checkout().join("crds");
    let mut expected = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "yaml") {
            expected.extend(Objects::parse(&fs::read_to_string(path)?)?.iter().cloned());
        }
    }
    let by_name = |one: &Value, other: &Value| name(one).cmp(&name(other));
    expected.sort_by(by_name);
    assert_eq!(expected.len(), 6);
    let rendered = Objects::of(Chart::Crds, NEWEST, &[])?;
    let mut rendered: Vec<Value> = rendered.iter().cloned().collect();
    rendered.sort_by(by_name);
    for crd in &mut rendered {
        assert_eq!(annotation(crd, "helm.sh/resource-policy"), "keep");
        let argo = annotation(crd, "argocd.argoproj.io/sync-options");
        assert_eq!(argo, "Prune=false,Delete=false");
        let metadata = crd["metadata"].as_object_mut().context("metadata")?;
        metadata.remove("annotations");
    }
    assert_eq!(numbers_alike(rendered), numbers_alike(expected));
    Ok(())
}

/// helm writes `0.0` as `0`.
fn numbers_alike(objects: Vec<Value>) -> Vec<Value> {
    objects
        .into_iter()
        .map(|object| match object {
            Value::Number(number) => json!(number.as_f64()),
            Value::Array(items) => numbers_alike(items).into(),
            Value::Object(fields) => {
                let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
                names.into_iter().zip(numbers_alike(values)).collect()
            }
            other => other,
        })
        .collect()
}
