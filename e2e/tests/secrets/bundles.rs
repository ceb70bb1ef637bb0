//! Bundles, from the operator's Apply to what a pod's volume gets: all files or none, of what the pod may read itself.

use anyhow::{Context, Result, ensure};
use strongroom_api::strongroom::v1::{
    AcquireControlEpochRequest, ApplyBundleRequest, ApplyOutcome, BundleFile, BundleSpec,
    BundleState, Fence, FieldFile, KeyRing, ObjectKind, ObjectRef, ReadForPodRequest,
    ReadForPodResponse, ReleaseRequest, RotateSecretRequest, SecretStage, TemplateFile, VolumeFile,
    VolumeSubscription, Want, bundle_file::Content, operator_client::OperatorClient,
};
use strongroom_e2e::{issuer::Pod, native::Native};
use tonic::{Code, Status, transport::Channel};

use super::{
    pods::connect,
    support::{
        API, Clusters, DRIVER, OPERATOR, generated, make_ring, make_secret, manual, owner, reader,
        up, with_token,
    },
    watch::Stream,
};

const PROCESS: &str = "0123456789abcdef0123456789abcdef";
/// As users write it, but for the values: `/` and `:` in a password would break the URL without the filter.
const ENV: &str =
    "DATABASE_URL=postgres://{{ db.username }}:{{ db.password | urlencode }}@pg/payments\n";

fn from(path: &str, secret: &str, field: &str) -> BundleFile {
    BundleFile {
        path: path.to_owned(),
        content: Some(Content::From(FieldFile {
            secret: secret.to_owned(),
            field: field.to_owned(),
            ..FieldFile::default()
        })),
        ..BundleFile::default()
    }
}

fn optional(path: &str, secret: &str, stage: SecretStage) -> BundleFile {
    let field = FieldFile {
        secret: secret.to_owned(),
        field: "password".to_owned(),
        stage: stage.into(),
        optional: true,
    };
    BundleFile {
        path: path.to_owned(),
        content: Some(Content::From(field)),
        ..BundleFile::default()
    }
}

fn template(path: &str, secrets: &[&str], text: &str) -> BundleFile {
    let template = TemplateFile {
        secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        text: text.to_owned(),
    };
    BundleFile {
        path: path.to_owned(),
        content: Some(Content::Template(template)),
        ..BundleFile::default()
    }
}

/// The bundle of the documentation.
fn api() -> Vec<BundleFile> {
    vec![
        BundleFile {
            mode: 0o400,
            uid: Some(1000),
            ..template("app.env", &["db"], ENV)
        },
        from("db/password", "db", "password"),
        optional("db/password.previous", "db", SecretStage::Previous),
        optional("later/password", "later", SecretStage::Current),
    ]
}

/// The operator of cluster `east`, with its control epoch.
struct Operator {
    client: OperatorClient<Channel>,
    token: String,
    epoch: u64,
}

impl Operator {
    async fn begin(world: &Clusters) -> Result<Self> {
        let mut client = OperatorClient::new(world.workloads().await?);
        let token = world.east.token(&OPERATOR)?;
        let request = AcquireControlEpochRequest {
            process: PROCESS.to_owned(),
            cluster_uid: "uid-of-kube-system".to_owned(),
        };
        let acquired = client.acquire_control_epoch(with_token(request, &token)?);
        let epoch = acquired.await?.into_inner().control_epoch;
        Ok(Self {
            client,
            token,
            epoch,
        })
    }

    fn fence(&self) -> Option<Fence> {
        Some(Fence {
            control_epoch: self.epoch,
            process: PROCESS.to_owned(),
        })
    }

    async fn apply(&self, files: Vec<BundleFile>) -> Result<Result<BundleState, Status>> {
        let request = ApplyBundleRequest {
            fence: self.fence(),
            object: Some(object("api", "uid-of-bundle")),
            ring: "payments".to_owned(),
            spec: Some(BundleSpec {
                default_mode: 0,
                files,
            }),
        };
        let request = with_token(request, &self.token)?;
        let applied = self.client.clone().apply_bundle(request).await;
        Ok(applied.map(tonic::Response::into_inner))
    }

    async fn release(&self, uid: &str) -> Result<String> {
        let request = ReleaseRequest {
            fence: self.fence(),
            kind: ObjectKind::SecretBundle.into(),
            object: Some(object("api", uid)),
        };
        let request = with_token(request, &self.token)?;
        Ok(self
            .client
            .clone()
            .release(request)
            .await?
            .into_inner()
            .kept)
    }
}

fn object(name: &str, uid: &str) -> ObjectRef {
    ObjectRef {
        namespace: "payments".to_owned(),
        namespace_uid: "uid-of-payments".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

fn bundle() -> Option<Want> {
    Some(Want {
        bundle: "api".to_owned(),
        ..Want::default()
    })
}

async fn read(
    world: &Clusters,
    pod: &Pod,
    have: &str,
) -> Result<Result<ReadForPodResponse, Status>> {
    let message = ReadForPodRequest {
        pod_token: world.east.token(pod)?,
        pod_uid: pod.uid(),
        want: bundle(),
        have: have.to_owned(),
    };
    let request = with_token(message, &world.east.token(&DRIVER)?)?;
    let answer = connect(world).await?.read_for_pod(request).await;
    Ok(answer.map(tonic::Response::into_inner))
}

fn refused(answer: Result<ReadForPodResponse, Status>) -> Result<(Code, String, String)> {
    let status = answer.err().context("nothing was refused")?;
    let reason = status.metadata().get("strongroom-reason");
    let reason = reason.and_then(|it| it.to_str().ok()).unwrap_or_default();
    Ok((
        status.code(),
        reason.to_owned(),
        status.message().to_owned(),
    ))
}

fn file<'a>(files: &'a [VolumeFile], path: &str) -> Result<&'a VolumeFile> {
    let found = files.iter().find(|file| file.path == path);
    found.with_context(|| format!("no file {path}"))
}

async fn rotate(native: &Native, ring: &KeyRing, secret: &str) -> Result<()> {
    let request = RotateSecretRequest {
        ring_id: ring.id.clone(),
        secret: secret.to_owned(),
        ..RotateSecretRequest::default()
    };
    native.secrets().rotate_secret(request).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundle_becomes_files_of_what_the_pod_may_read_itself() -> Result<()> {
    let mut world = up("secrets-bundles", 29040)?;
    let native = world.administrator().await?;
    let ring = make_ring(&native, "payments", Some(owner("east", "payments"))).await?;
    make_secret(&native, &ring, "db", generated(), vec![reader(&API)]).await?;
    let operator = Operator::begin(&world).await?;

    let none = refused(read(&world, &API, "").await?)?;
    ensure!(
        none.2 == "there is no SecretBundle payments/api",
        "{none:?}"
    );
    let applied = operator.apply(api()).await??;
    ensure!(applied.outcome() == ApplyOutcome::Created);
    ensure!(applied.missing == ["later"], "{:?}", applied.missing);
    files_are_as_asked_for(&world, &native, &ring).await?;
    nothing_changes_twice(&operator, &applied).await?;
    all_files_or_none(&world, &native, &ring, &operator).await?;
    stream_tells_of_the_bundle(&world, &native, &ring, &operator).await?;

    // It is of its namespace alone, and is there after a restart.
    let foreign = Pod {
        namespace: "other",
        ..API
    };
    let elsewhere = refused(read(&world, &foreign, "").await?)?;
    ensure!(
        elsewhere.2 == "there is no KeyRing in namespace other; the platform makes it",
        "{elsewhere:?}"
    );
    world.restart()?;
    let operator = Operator::begin(&world).await?;
    ensure!(operator.apply(api()).await??.outcome() == ApplyOutcome::Unchanged);

    // A custom resource that is no more deletes nothing of its successor.
    ensure!(operator.release("uid-of-another").await?.is_empty());
    ensure!(read(&world, &API, "").await?.is_ok());
    ensure!(!operator.release("uid-of-bundle").await?.is_empty());
    ensure!(operator.release("uid-of-bundle").await?.is_empty());
    let gone = refused(read(&world, &API, "").await?)?;
    ensure!(gone.1 == "NotFound", "{gone:?}");
    world.down()
}

async fn files_are_as_asked_for(world: &Clusters, native: &Native, ring: &KeyRing) -> Result<()> {
    let first = read(world, &API, "").await??;
    let paths: Vec<&str> = first.files.iter().map(|file| file.path.as_str()).collect();
    ensure!(paths == ["app.env", "db/password"], "{paths:?}");
    let env = file(&first.files, "app.env")?;
    let place = (env.mode, env.uid, env.gid);
    ensure!(place == (0o400, Some(1000), None), "{place:?}");
    let password = file(&first.files, "db/password")?;
    ensure!((password.mode, password.uid) == (0o440, None));
    let expected = format!(
        "DATABASE_URL=postgres://payments_api:{}@pg/payments\n",
        String::from_utf8(password.content.clone())?
    );
    ensure!(env.content == expected.as_bytes());

    let again = read(world, &API, &first.etag).await??;
    ensure!(again.not_modified && again.files.is_empty());
    rotate(native, ring, "db").await?;
    let second = read(world, &API, &first.etag).await??;
    ensure!(second.etag != first.etag && second.files.len() == 3);
    ensure!(file(&second.files, "db/password.previous")?.content == password.content);
    ensure!(file(&second.files, "app.env")?.content != env.content);

    let audit = world.audit()?;
    let mut records = audit.lines().filter(|line| line.contains("\"ReadSecret\""));
    let record = records
        .find(|line| line.contains("/1.1\"") && line.contains("/1.2\""))
        .context("no record of both versions")?;
    ensure!(record.contains("\"bundle\":\"api\""), "{record}");
    let value = String::from_utf8(password.content.clone())?;
    ensure!(!audit.contains(&value), "a value is in the audit log");
    Ok(())
}

async fn nothing_changes_twice(operator: &Operator, before: &BundleState) -> Result<()> {
    let mut files = api();
    files.reverse();
    let again = operator.apply(files).await??;
    ensure!(again.outcome() == ApplyOutcome::Unchanged);
    ensure!(again.etag == before.etag);
    Ok(())
}

async fn all_files_or_none(
    world: &Clusters,
    native: &Native,
    ring: &KeyRing,
    operator: &Operator,
) -> Result<()> {
    make_secret(native, ring, "closed", generated(), Vec::new()).await?;
    make_secret(native, ring, "unset", manual(&["key"]), vec![reader(&API)]).await?;
    let open = || from("db/password", "db", "password");
    for (with, reason, words) in [
        (
            from("x", "closed", "password"),
            "RoleMissing",
            "ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/closed; add it under spec.access",
        ),
        // What need not be there is still not given to whoever may not have it.
        (
            optional("x", "closed", SecretStage::Current),
            "RoleMissing",
            "ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/closed; add it under spec.access",
        ),
        (
            template("x", &["db", "closed"], "{{ db.username }}"),
            "RoleMissing",
            "ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/closed; add it under spec.access",
        ),
        (
            from("x", "nothing", "password"),
            "NotFound",
            "there is no ManagedSecret payments/nothing",
        ),
        (
            from("x", "unset", "key"),
            "AwaitingValue",
            "ManagedSecret payments/unset has no value yet; set it with `kubectl strongroom secret set`",
        ),
        (
            from("x", "db", "port"),
            "FieldMissing",
            "ManagedSecret payments/db has no field port; name one of its fields in the SecretBundle",
        ),
        (
            template("x", &["db"], "\n{{ db.port }}"),
            "TemplateFailed",
            "the template of x in SecretBundle payments/api failed: line 2: a field is used that the secret does not have",
        ),
    ] {
        let applied = operator.apply(vec![open(), with]).await??;
        ensure!(applied.outcome() == ApplyOutcome::Updated);
        let refused = refused(read(world, &API, "").await?)?;
        ensure!(
            (refused.1.as_str(), refused.2.as_str()) == (reason, words),
            "{refused:?}"
        );
    }
    // Whatever was tried, what is there now is given whole.
    operator.apply(api()).await??;
    ensure!(read(world, &API, "").await??.files.len() == 3);
    hostile_bundles_are_refused(world, operator).await
}

async fn hostile_bundles_are_refused(world: &Clusters, operator: &Operator) -> Result<()> {
    let loops = |depth: usize| {
        let open = "{% for a in '0123456789abcdef0123456789abcdef' %}".repeat(depth);
        format!("{open}x{}", "{% endfor %}".repeat(depth))
    };
    let mode = |mode| BundleFile {
        mode,
        ..from("x", "db", "password")
    };
    let of = |path: &str| from(path, "db", "password");
    for (files, words) in [
        (vec![], "spec.files: a bundle has 1 to 128 files"),
        (vec![of("../x")], "spec.files: \"../x\": a path is relative"),
        (
            vec![of("/etc/passwd")],
            "spec.files: \"/etc/passwd\": a path is relative",
        ),
        (
            vec![of("..data/x")],
            "spec.files: \"..data/x\": a path is relative",
        ),
        (
            vec![of("x"), of("x")],
            "spec.files: the path x is there twice",
        ),
        (
            vec![of("x/y"), of("x")],
            "spec.files: x cannot be a file, since x/y lies below it",
        ),
        (
            vec![mode(0o4755)],
            "spec.files: x: mode 4755 has other bits than those for reading and writing",
        ),
        (
            vec![template("x", &["db"], "{{ other.password }}")],
            "spec.files: template of x: \"other\" is none of the secrets",
        ),
        (
            vec![template("x", &["db"], "{{ db.")],
            "spec.files: template of x: line 1: ",
        ),
        (
            vec![template("x", &["db"], "{% include '/etc/passwd' %}")],
            "spec.files: template of x: line 1: ",
        ),
        (
            vec![template("x", &["db"], &loops(6))],
            "spec.files: template of x: it",
        ),
        (
            vec![template(
                "x",
                &["db"],
                &format!("{{{{ {}1 }}}}", "-".repeat(15_000)),
            )],
            "",
        ),
    ] {
        let applied = operator.apply(files).await?;
        if words.is_empty() {
            // Whatever it is, the service goes on.
            continue;
        }
        let status = applied
            .err()
            .with_context(|| format!("accepted: {words}"))?;
        ensure!(status.code() == Code::InvalidArgument, "{status:?}");
        ensure!(status.message().starts_with(words), "{status:?}");
    }
    operator.apply(api()).await??;
    ensure!(read(world, &API, "").await??.files.len() == 3);
    Ok(())
}

async fn stream_tells_of_the_bundle(
    world: &Clusters,
    native: &Native,
    ring: &KeyRing,
    operator: &Operator,
) -> Result<()> {
    let driver = world.east.token(&DRIVER)?;
    let mut stream = Stream::open(world, &driver).await??;
    let held = read(world, &API, "").await??.etag;
    let add = |have: &str| -> Result<VolumeSubscription> {
        Ok(VolumeSubscription {
            volume: "v".to_owned(),
            pod_token: world.east.token(&API)?,
            pod_uid: API.uid(),
            want: bundle(),
            have: have.to_owned(),
        })
    };
    stream.subscribe(add("")?).await?;
    ensure!(stream.next().await? == format!("v etag {held}"));

    // A secret of it, a secret that it may have, and what it says.
    let mut told = vec![format!("v etag {held}")];
    rotate(native, ring, "db").await?;
    told.push(stream.next().await?);
    make_secret(native, ring, "later", generated(), vec![reader(&API)]).await?;
    told.push(stream.next().await?);
    let changed = vec![from("password", "db", "password")];
    operator.apply(changed).await??;
    told.push(stream.next().await?);
    ensure!(
        told.iter().all(|event| event.starts_with("v etag ")),
        "{told:?}"
    );
    let distinct: std::collections::BTreeSet<&String> = told.iter().collect();
    ensure!(distinct.len() == 4, "{told:?}");
    let now = read(world, &API, "").await??;
    ensure!(told.last() == Some(&format!("v etag {}", now.etag)));
    ensure!(now.files.len() == 1);
    operator.apply(api()).await??;
    ensure!(stream.next().await?.starts_with("v etag "));
    ensure!(read(world, &API, "").await??.files.len() == 4);
    Ok(())
}
