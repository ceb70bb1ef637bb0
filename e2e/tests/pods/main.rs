//! A secret in a pod: a real kubelet, tokens of a real API server, the real key service, and the driver on the node.
#![forbid(unsafe_code)]

mod again;
mod forged;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::fs::inotify;
use strongroom_api::strongroom::v1::{
    BundleFile, FieldFile, SecretStage, TemplateFile, bundle_file::Content,
};
use strongroom_e2e::{
    delivery::{Delivery, LIMIT},
    tenant::{self, UID},
    world::wait,
};

const TWO_USERS: &str = include_str!("two-users.yaml");

fn field(path: &str, mode: u32, uid: Option<u32>) -> BundleFile {
    BundleFile {
        path: path.to_owned(),
        mode,
        uid,
        content: Some(Content::From(FieldFile {
            secret: "db".to_owned(),
            field: "password".to_owned(),
            ..FieldFile::default()
        })),
        ..BundleFile::default()
    }
}

fn template(path: &str, mode: u32, text: &str) -> BundleFile {
    BundleFile {
        content: Some(Content::Template(TemplateFile {
            secrets: vec!["db".to_owned()],
            text: text.to_owned(),
        })),
        ..field(path, mode, None)
    }
}

#[test]
fn pod_reads_its_secret_sees_it_rotate_and_leaves_nothing() -> Result<()> {
    let story = Delivery::begin("pods", 29100)?;
    tenant::create_pod(&story.cluster, "api")?;
    story.tenant.grant(&story.cluster, "api")?;
    tenant::wait_until_runs(&story.cluster, "api")?;
    let password = "/run/secrets/app/db/password";

    let shown = story.exec("api", &format!("stat -L -c '%u %g %a' {password}; id -u"))?;
    assert_eq!(shown, "0 2000 440\n1000\n");
    let first = story.exec("api", &format!("cat {password}"))?;
    assert_eq!(first.len(), 32, "as generated");
    assert_eq!(
        story.exec("api", "cat /run/secrets/app/db/username")?,
        "payments_api"
    );
    assert!(story.exec("api", "echo x > /run/secrets/app/x").is_err());
    assert_eq!(story.mounts()?, 1);

    // Read where the container has it, so that only the delivery is measured.
    let file = story
        .volume_of_container("db/password")?
        .join("db/password");
    let began = Instant::now();
    story.tenant.rotate()?;
    // Looked at more often than `wait` does, for the figure that is printed.
    while fs::read_to_string(&file).is_ok_and(|now| now == first) && began.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(2));
    }
    let delay = began.elapsed();
    let second = story.exec("api", &format!("cat {password}"))?;
    ensure!(
        second.len() == 32 && second != first,
        "the pod has no new version"
    );
    println!("rotation seen after {delay:?}");
    // kubelet's next publish would come after a minute.
    ensure!(
        delay < Duration::from_secs(30),
        "only polling brought it: {delay:?}"
    );

    let uid = tenant::kubectl(&story.cluster, &["get", "pod", "api", "-o", UID])?;
    tenant::kubectl(&story.cluster, &["delete", "pod", "api", "--timeout=60s"])?;
    wait(LIMIT, "the volume is gone", || Ok(story.mounts()? == 0))?;
    let folder = story
        .node()?
        .on_disk(&format!("/var/lib/kubelet/pods/{uid}"));
    wait(LIMIT, "the pod's folder is gone", || Ok(!folder.exists()))?;
    story.end()
}

#[test]
fn pod_without_the_role_is_told_what_to_add_and_starts_once_it_is() -> Result<()> {
    let story = Delivery::begin("pods-role", 29120)?;
    tenant::create_pod(&story.cluster, "api")?;
    wait(LIMIT, "the pod's author is told", || {
        let events = tenant::kubectl(
            &story.cluster,
            &["get", "events", "-o", "jsonpath={.items[*].message}"],
        )?;
        Ok(events.contains("ServiceAccount payments/api has no role SecretReader"))
    })?;
    assert_eq!(story.mounts()?, 0);
    story.tenant.grant(&story.cluster, "api")?;
    tenant::wait_until_runs(&story.cluster, "api")?;
    assert_eq!(
        story.exec("api", "cat /run/secrets/app/db/username")?,
        "payments_api"
    );
    story.end()
}

#[test]
fn bundle_gives_each_user_of_a_pod_his_own_and_nobody_more() -> Result<()> {
    let story = Delivery::begin("pods-bundle", 29140)?;
    let cluster = &story.cluster;
    let optional = BundleFile {
        content: Some(Content::From(FieldFile {
            secret: "db".to_owned(),
            field: "password".to_owned(),
            stage: SecretStage::Previous.into(),
            optional: true,
        })),
        ..field("db/previous", 0, None)
    };
    let files = vec![
        field("db/password", 0, None),
        field("private", 0o400, Some(1000)),
        template("app.env", 0, "PASSWORD={{ db.password | shell }}\n"),
        template("run.sh", 0o666, "#!/bin/sh\necho it runs\n"),
        optional,
    ];
    story.apply_bundle("api", files)?;
    tenant::kubectl(cluster, &["create", "serviceaccount", "api"])?;
    story.tenant.grant(cluster, "api")?;
    tenant::apply_pod(cluster, TWO_USERS, "api", "api")?;
    tenant::wait_until_runs(cluster, "api")?;
    let run = |container: &str, script: &str| {
        let words = ["exec", "api", "-c", container, "--", "sh", "-c", script];
        tenant::kubectl(cluster, &words)
    };

    let shown = run(
        "owner",
        "cd /run/secrets/app; stat -L -c '%n %u %g %a' app.env db/password private run.sh",
    )?;
    assert_eq!(
        shown,
        "app.env 0 2000 440\ndb/password 0 2000 440\nprivate 1000 2000 400\nrun.sh 0 2000 666\n"
    );
    assert_eq!(
        run("owner", "ls -d /run/secrets/app/db/*")?,
        "/run/secrets/app/db/password\n"
    );
    let password = run("owner", "cat /run/secrets/app/private")?;
    assert_eq!(run("other", "cat /run/secrets/app/db/password")?, password);
    let refused = run("other", "cat /run/secrets/app/private 2>&1 || true")?;
    ensure!(refused.contains("Permission denied"), "{refused}");
    assert_eq!(
        run("owner", ". /run/secrets/app/app.env; echo $PASSWORD")?,
        format!("{password}\n")
    );

    nothing_but_reading_works(&story, run)?;
    // Who is neither the file's user nor in its group.
    let path = story
        .volume_of_container("db/password")?
        .join("db/password");
    let path = path.to_str().context("UTF-8")?;
    let nobody = [
        "--reuid=4711",
        "--regid=4711",
        "--clear-groups",
        "--",
        "cat",
        path,
    ];
    let stranger = std::process::Command::new("setpriv")
        .args(nobody)
        .output()?;
    ensure!(!stranger.status.success(), "a stranger reads the file");

    // Another pod of the same account sees nothing of it.
    let without = TWO_USERS.split("\n  volumes:").next().unwrap_or_default();
    let without = without.replace(
        "volumeMounts: &mounts [{name: secrets, mountPath: /run/secrets/app, readOnly: true}]",
        "volumeMounts: &mounts []",
    );
    tenant::apply_pod(cluster, &without, "neighbour", "api")?;
    tenant::wait_until_runs(cluster, "neighbour")?;
    let neighbour = |script: &str| {
        let words = ["exec", "neighbour", "-c", "owner", "--", "sh", "-c", script];
        tenant::kubectl(cluster, &words)
    };
    assert_eq!(
        neighbour("ls /run/secrets/app 2>/dev/null | wc -l")?.trim(),
        "0"
    );
    assert_eq!(
        neighbour("grep -c strongroom /proc/mounts || true")?.trim(),
        "0"
    );

    story.tenant.rotate()?;
    wait(LIMIT, "the previous password is there", || {
        Ok(run(
            "owner",
            "cat /run/secrets/app/db/previous 2>/dev/null || true",
        )? == password)
    })?;
    story.end()
}

/// The tmpfs keeps programs, set-uid bits, devices and more than its size out; the container's mount keeps writing out.
fn nothing_but_reading_works(
    story: &Delivery,
    run: impl Fn(&str, &str) -> Result<String>,
) -> Result<()> {
    // The runtime makes a read-only bind of the mount and drops nosuid, nodev and noexec from it; so no file has a mode by
    // which it could be executed.
    let inside = run("owner", "grep ' /run/secrets/app ' /proc/mounts")?;
    has_options(&inside, &["ro", "noswap", "size=16384k"])?;
    let uid = tenant::kubectl(&story.cluster, &["get", "pod", "api", "-o", UID])?;
    let mount = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/secrets/mount");
    let node = story.node()?;
    let mounted = node.output("grep", &[&format!(" {mount} "), "/proc/mounts"])?;
    has_options(
        &mounted,
        &["nosuid", "nodev", "noexec", "noswap", "size=16384k"],
    )?;
    let executed = run("owner", "/run/secrets/app/run.sh 2>&1 || true")?;
    ensure!(executed.contains("Permission denied"), "{executed}");
    assert_eq!(run("owner", "sh /run/secrets/app/run.sh")?, "it runs\n");
    for script in [
        "echo x > /run/secrets/app/new",
        "echo x >> /run/secrets/app/db/password",
        "rm /run/secrets/app/db/password",
        "mv /run/secrets/app/run.sh /run/secrets/app/moved",
        "chmod 777 /run/secrets/app/run.sh",
        "ln -s /etc/passwd /run/secrets/app/link",
        "mknod /run/secrets/app/null c 1 3",
        "mount -o remount,rw /run/secrets/app",
        "mount -o remount,exec /run/secrets/app",
    ] {
        ensure!(run("owner", script).is_err(), "{script} works");
    }
    // Not even who writes on the node's side of it can make it larger or leave a device or a set-uid program that counts.
    let script = format!(
        "cd {mount}; dd if=/dev/zero of=fill bs=1M count=64 2>&1 | grep -o 'No space left'; rm -f fill; \
         mknod null c 1 3; cat null 2>&1 | grep -o 'Permission denied'; rm null; \
         cp /usr/bin/id id; chmod 6755 id; ./id 2>&1 | grep -o 'Permission denied'; rm id"
    );
    let said = node.output("sh", &["-c", &script])?;
    assert_eq!(
        said,
        "No space left\nPermission denied\nPermission denied\n"
    );
    Ok(())
}

/// A line of `/proc/mounts` has these options.
fn has_options(line: &str, wanted: &[&str]) -> Result<()> {
    let options = line.split(' ').nth(3).context("options of a mount")?;
    let options: BTreeSet<&str> = options.split(',').collect();
    for option in wanted {
        ensure!(options.contains(option), "no {option} in {options:?}");
    }
    Ok(())
}

#[test]
fn hundred_rotations_are_seen_whole_at_once_and_once_each() -> Result<()> {
    const ROTATIONS: usize = 100;
    let story = Delivery::begin("pods-rotate", 29160)?;
    let cluster = &story.cluster;
    // Two files of one version: what a reader must never see apart.
    let files = vec![field("a", 0, None), template("b", 0, "{{ db.password }}")];
    story.apply_bundle("api", files)?;
    tenant::kubectl(cluster, &["create", "serviceaccount", "api"])?;
    story.tenant.grant(cluster, "api")?;
    tenant::apply_pod(cluster, TWO_USERS, "api", "api")?;
    tenant::wait_until_runs(cluster, "api")?;
    let volume = story.volume_of_container("a")?;

    let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    // With what stands between them, since the kernel makes one of equal events that follow one another.
    let moves = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::MOVED_FROM;
    inotify::add_watch(&events, &volume, moves)?;
    let ends = Arc::new(AtomicBool::new(false));
    let reader = {
        let (ends, volume) = (ends.clone(), volume.clone());
        thread::spawn(move || read_pairs(&volume, &ends))
    };
    let mut delays = Vec::new();
    for _ in 0..ROTATIONS {
        let before = fs::read(volume.join("a"))?;
        let began = Instant::now();
        story.tenant.rotate()?;
        while fs::read(volume.join("a")).is_ok_and(|now| now == before) {
            ensure!(began.elapsed() < LIMIT, "a rotation is not seen");
            thread::sleep(Duration::from_micros(500));
        }
        delays.push(began.elapsed());
    }
    ends.store(true, Ordering::Relaxed);
    let pairs = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    delays.sort_unstable();
    let at = |percent: usize| delays[(ROTATIONS * percent).div_ceil(100) - 1];
    println!(
        "{ROTATIONS} rotations seen after P50 {:?}, P99 {:?}, at most {:?}; {pairs} pairs read whole",
        at(50),
        at(99),
        at(100)
    );
    // Only polling would take so long.
    ensure!(at(99) < Duration::from_secs(30), "P99 {:?}", at(99));
    ensure!(pairs > ROTATIONS, "only {pairs} pairs were read");
    assert_eq!(swaps(&events)?, ROTATIONS, "one event of `..data` for each");
    // Two links of users, `..data` and the folder that it names.
    wait(LIMIT, "only one version is kept", || {
        Ok(fs::read_dir(&volume)?.count() == 4)
    })?;
    story.end()
}

/// Resolves `..data` once and reads both files through it, again and again; they must be of one version.
fn read_pairs(volume: &Path, ends: &AtomicBool) -> Result<usize> {
    use rustix::fs::{Mode, OFlags, open, openat};
    let mut pairs = 0;
    while !ends.load(Ordering::Relaxed) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // The folder that `..data` names can go while the name is looked up: whoever is told so looks again.
        let data = match open(volume.join("..data"), flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => continue,
            opened => opened?,
        };
        let read = |name: &str| -> Result<Option<Vec<u8>>> {
            match openat(&data, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut fs::File::from(file), &mut bytes)?;
                    Ok(Some(bytes))
                }
                // The version that was resolved is gone: the reader resolves again.
                Err(rustix::io::Errno::NOENT) => Ok(None),
                Err(errno) => Err(errno.into()),
            }
        };
        if let (Some(a), Some(b)) = (read("a")?, read("b")?) {
            ensure!(a == b && a.len() == 32, "two versions at once");
            pairs += 1;
        }
    }
    Ok(pairs)
}

/// How often `..data` was replaced.
fn swaps(events: &rustix::fd::OwnedFd) -> Result<usize> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    let mut count = 0;
    loop {
        match reader.next() {
            Ok(event) => {
                let is_data = event.file_name().is_some_and(|name| name == c"..data");
                count += usize::from(is_data);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(count),
            Err(errno) => return Err(errno.into()),
        }
    }
}
