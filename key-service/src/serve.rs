//! The one place where everything meets: boot, listeners, jobs.

use std::{convert::Infallible, sync::Arc, time::Duration};

use strongroom_audit::Checkpointer;
use strongroom_runtime::{Handle, tasks::TaskFailure};
use strongroom_store::SqliteStore;
use tokio::sync::mpsc;

use crate::{
    awaiting,
    boot::{self, Booted},
    config::Config,
    jobs, kubernetes, listeners, metrics,
    service::Service,
};

/// How long calls in work may take at the end; the process has five seconds in all.
const DRAIN: Duration = Duration::from_secs(3);

/// Brings the service up and spawns its tasks.
///
/// # Errors
/// What will not pass by itself; what is late is waited for.
pub(crate) async fn start(config: Config, handle: Handle) -> Result<(), TaskFailure> {
    let config = Arc::new(config);
    let made_for = awaiting::until_initialised(&config, &handle).await?;
    let Booted {
        service,
        store,
        checkpointer,
    } = boot::boot(&config, &handle).await?;

    let (serving, drained) = mpsc::channel(1);
    listeners::spawn_kms(&config, &handle, service.clone(), serving.clone())?;
    listeners::spawn_plugins(&config, &handle, service.clone(), serving.clone())?;
    listeners::spawn_admin(&config, &handle, service.clone(), serving.clone())?;
    listeners::spawn_workloads(&config, &handle, service.clone(), serving.clone()).await?;
    listeners::spawn_tls(&config, &handle, service.clone(), serving).await?;
    kubernetes::spawn(&config, &handle, service.clone(), made_for);
    spawn_jobs(
        &config,
        &handle,
        &service,
        Arc::new(checkpointer),
        store,
        drained,
    );
    Ok(())
}

fn spawn_jobs(
    config: &Config,
    handle: &Handle,
    service: &Arc<Service>,
    checkpointer: Arc<Checkpointer>,
    store: Arc<SqliteStore>,
    mut drained: mpsc::Receiver<Infallible>,
) {
    let anchored = handle.readiness.condition("audit");
    let interval = config.audit.checkpoint_interval;
    let anchor = jobs::anchor(
        service.clone(),
        checkpointer.clone(),
        interval,
        anchored,
        handle.shutdown(),
    );
    handle.spawn("anchor", anchor);

    let hsm = handle.readiness.condition("hsm");
    hsm.met();
    let available = handle
        .metrics
        .gauge("hsm_available", "1 while the token gives KEKs when asked.");
    let refresh = jobs::refresh(
        service.clone(),
        config.kek_cache_ttl,
        hsm,
        available,
        handle.shutdown(),
    );
    handle.spawn("refresh", refresh);

    handle.spawn(
        "watch",
        metrics::watch(service.clone(), handle.metrics.clone(), handle.shutdown()),
    );
    handle.spawn("fold", jobs::fold(service.clone(), handle.shutdown()));
    handle.spawn("time", jobs::keep_time(service.clone(), handle.shutdown()));
    handle.spawn("rotate", jobs::rotate(service.clone(), handle.shutdown()));
    let volumes = jobs::count_volumes(service.clone(), handle.shutdown());
    handle.spawn("volumes", volumes);

    let (service, shutdown) = (service.clone(), handle.shutdown());
    handle.spawn("close", async move {
        shutdown.await;
        // Nobody sends: the channel ends when the last listener has answered its last call.
        let _ = tokio::time::timeout(DRAIN, drained.recv()).await;
        jobs::close(&service, &checkpointer, &store).await;
        Ok::<(), Infallible>(())
    });
}
