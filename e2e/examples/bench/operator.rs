//! The operator with many objects: how long one takes to become ready, what they cost, and what it asks when nothing changes.

use std::{thread, time::Duration};

use anyhow::Result;
use strongroom_e2e::{
    operated::{Operated, load},
    world::wait,
};
use strongroom_hack::programs::{Build, Programs};

use crate::figures::Figure;

/// Secrets that are made at once.
const OBJECTS: usize = 1000;
/// How long nothing changes; watches begin anew every three minutes.
const IDLE: Duration = Duration::from_secs(360);
const POD: &str = "operator-a";
const PORT: u16 = 30500;
const RING: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: payments, namespace: payments}, spec: {}}";

/// Measures everything.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let programs = Programs::ensure_built(Build::Release)?;
    let mut story = Operated::begin_with(programs, "bench-operator", PORT, 0)?;
    story.start(POD)?;
    story.apply(RING)?;
    story.wait_ready("keyring", "payments")?;
    let empty_kib = story.memory_kib(POD)?;
    let manifests = load::secrets(OBJECTS);
    story
        .cluster
        .kubectl_with_input(&["create", "-f", "-"], &manifests)?;
    wait(Duration::from_secs(300), "all are ready", || {
        Ok(load::seconds_to_ready(&story)?.len() == OBJECTS)
    })?;
    let seconds_to_ready = load::seconds_to_ready(&story)?;
    // The ring counts them once more.
    thread::sleep(Duration::from_secs(10));
    let full_kib = story.memory_kib(POD)?;
    let idle_requests = load::requests_in(&story, IDLE)?;
    story.end()?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let seconds = seconds_to_ready.iter().map(|it| *it as f64).collect();
    let mut figures = vec![
        Figure::one("resident memory without objects", "MiB", mib(empty_kib)),
        Figure::one(
            &format!("resident memory with {OBJECTS} secrets"),
            "MiB",
            mib(full_kib),
        ),
        Figure {
            what: format!("{OBJECTS} secrets made at once, each from creation to Ready"),
            unit: "s".to_owned(),
            samples: seconds,
        },
    ];
    let minutes = IDLE.as_secs_f64() / 60.0;
    let each = idle_requests.into_iter().map(|(request, count)| {
        let what = format!("requests to the API server while nothing changes: {request}");
        Figure::one(&what, "a minute", count as f64 / minutes)
    });
    figures.extend(each);
    Ok(figures)
}
