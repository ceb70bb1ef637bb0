//! Whoever shows a token of a service account: whose it is, and what the configuration says the account is for.

use std::sync::Arc;

use strongroom_auth::PodToken;
use strongroom_core::{Caller, PodIdentity, UnixMillis};

use super::{CallError, PodError, Service, Whose};

/// What an account is for, by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Nothing that the configuration says.
    Pod,
    /// A CSI driver.
    Driver,
    /// The operator of its cluster.
    Operator,
}

/// A token that counts.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Whose it is.
    pub identity: Arc<PodIdentity>,
    /// From this moment on it counts no more.
    pub expires: UnixMillis,
    /// What its account is for.
    pub kind: WorkloadKind,
}

impl Shown {
    /// Who calls, as policies and the audit log see it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let identity = self.identity.clone();
        match self.kind {
            WorkloadKind::Pod => Caller::Pod(identity),
            WorkloadKind::Driver => Caller::CsiDriver(identity),
            WorkloadKind::Operator => Caller::Operator(identity),
        }
    }
}

impl Service {
    /// Says whose a token is. Those that do not count are counted and not recorded: whoever has none is nobody.
    ///
    /// # Errors
    /// `NoToken`, or why it does not count.
    pub fn shown(&self, token: Option<&str>) -> Result<Shown, CallError> {
        let token = token.ok_or_else(|| self.not_counted(PodError::NoToken))?;
        let PodToken { identity, expires } = self.verify(Whose::Caller, token)?;
        let account = &identity.account;
        let known = (account.tenant.clone(), account.id.name.clone());
        let kind = if self.workloads.drivers.contains(&known) {
            WorkloadKind::Driver
        } else if self.workloads.operators.contains(&known) {
            WorkloadKind::Operator
        } else {
            WorkloadKind::Pod
        };
        Ok(Shown {
            identity,
            expires,
            kind,
        })
    }
}
