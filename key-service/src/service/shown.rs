//! Whoever shows a token of a service account: whose it is, and what the configuration says the account is for.

use std::sync::Arc;

use strongroom_auth::PodToken;
use strongroom_core::{Caller, PodIdentity, ServiceAccount, UnixMillis};

use super::{CallError, PodError, Service, Whose, Workloads};

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
        self.kind.caller(self.identity.clone())
    }
}

impl WorkloadKind {
    /// Somebody of this kind, as policies see him.
    pub(super) fn caller(self, identity: Arc<PodIdentity>) -> Caller {
        match self {
            Self::Pod => Caller::Pod(identity),
            Self::Driver => Caller::CsiDriver(identity),
            Self::Operator => Caller::Operator(identity),
        }
    }
}

impl Workloads {
    /// What an account is for.
    pub(super) fn kind(&self, account: &ServiceAccount) -> WorkloadKind {
        let known = (account.tenant.clone(), account.id.name.clone());
        if self.drivers.contains(&known) {
            WorkloadKind::Driver
        } else if self.operators.contains(&known) {
            WorkloadKind::Operator
        } else {
            WorkloadKind::Pod
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
        Ok(Shown {
            kind: self.workloads.kind(&identity.account),
            identity,
            expires,
        })
    }
}
