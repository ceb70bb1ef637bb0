//! The one place where everything meets: boot, listeners, jobs.

use std::sync::Arc;

use strongroom_runtime::{Handle, tasks::TaskFailure};

use crate::{
    boot::{self, Booted},
    config::Config,
    jobs, listeners,
};

/// Brings the service up and spawns its tasks.
///
/// # Errors
/// What will not pass by itself; what is late is waited for.
pub(crate) async fn start(config: Config, handle: Handle) -> Result<(), TaskFailure> {
    let config = Arc::new(config);
    let Booted {
        service,
        store,
        checkpointer,
    } = boot::boot(&config, &handle).await?;

    listeners::spawn_kms(&config, &handle, service.clone())?;
    listeners::spawn_admin(&config, &handle, service.clone())?;
    listeners::spawn_tls(&config, &handle, service.clone()).await?;

    let anchored = handle.readiness.condition("audit");
    let interval = config.audit.checkpoint_interval;
    let shutdown = handle.shutdown();
    handle.spawn("anchor", {
        let service = service.clone();
        async move {
            let ended = jobs::anchor(service.clone(), checkpointer, interval, anchored, shutdown).await;
            // The last thing that writes: after it log and store are closed in order.
            service.trail.log().close().await;
            if let Err(error) = store.close().await {
                tracing::warn!(error = %strongroom_runtime::Chain(&error), "the store was not closed in order");
            }
            ended
        }
    });
    let hsm = handle.readiness.condition("hsm");
    hsm.met();
    handle.spawn(
        "refresh",
        jobs::refresh(
            service.clone(),
            config.kek_cache_ttl,
            hsm,
            handle.shutdown(),
        ),
    );
    handle.spawn("fold", jobs::fold(service, handle.shutdown()));
    Ok(())
}
