//! Calls as one of the programs, or as nobody in particular.

use std::{future::Future, thread};

use anyhow::Result;
use rustix::process::{Gid, Uid};

/// Runs calls in a thread with other credentials: the kernel notes those of the thread that connects.
///
/// # Errors
/// Without root.
///
/// # Panics
/// When the calls do.
pub fn as_user<T: Send + 'static, F: Future<Output = T>>(
    uid: u32,
    gid: u32,
    calls: impl FnOnce() -> F + Send + 'static,
) -> Result<T> {
    let inside = thread::spawn(move || -> Result<T> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(async { calls().await }))
    });
    inside.join().expect("the calls do not panic")
}
