//! The policy of the installation: platform policies compiled in, bindings from the configuration, decisions by Cedar.
//!
//! Cedar skips a policy that it cannot evaluate, a forbid too, and may then answer Allow. Here any such error is a denial.

mod bindings;
mod entities;
mod memo;
mod platform;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use cedar_policy::{Authorizer, Context, PolicySet, Request};
use strongroom_core::{Caller, Decide, Decision, Question, Resource, RingId};

use crate::common_name::{InvalidCommonName, check_common_name};

pub use bindings::{BINDINGS_PER_RING_MAX, Binding, Role};
use memo::Memo;
use platform::Platform;

/// Why the policy of an installation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Nobody could do anything: the first principals come from the configuration alone.
    #[error("the configuration names no administrator: `administrators` must not be empty")]
    NoAdministrator,
    /// No certificate can carry this name.
    #[error("the configuration gives rights to {name:?}, which no certificate can be called")]
    Name {
        /// The name as configured.
        name: String,
        /// What it breaks.
        #[source]
        source: InvalidCommonName,
    },
    /// Each decision reads all bindings of one ring, so that there is a bound.
    #[error(
        "the configuration binds {count} roles on ring {ring}, at most {BINDINGS_PER_RING_MAX} are possible"
    )]
    TooManyBindings {
        /// The ring.
        ring: RingId,
        /// How many different ones were configured.
        count: usize,
    },
    /// Our own files do not parse or do not fit the schema: a fault of the build.
    #[error("the policies compiled into this program are not valid")]
    Platform(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Decides who may do what. Immutable: another configuration is another `Policy` with another revision.
#[derive(Debug)]
pub struct Policy {
    platform: Platform,
    administrators: BTreeSet<String>,
    /// Platform policies with the links of one ring, for rings that have bindings.
    by_ring: BTreeMap<RingId, PolicySet>,
    authorizer: Authorizer,
    memo: Memo,
    errors: AtomicU64,
    revision: u64,
}

impl Policy {
    /// Compiles the policy of an installation.
    ///
    /// # Errors
    /// See `PolicyError`.
    pub fn new(administrators: &[String], bindings: &[Binding]) -> Result<Self, PolicyError> {
        let names = bindings.iter().map(|binding| &binding.certificate);
        for name in administrators.iter().chain(names) {
            check_common_name(name).map_err(|source| PolicyError::Name {
                name: name.clone(),
                source,
            })?;
        }
        Self::compile(Platform::load()?, administrators, bindings)
    }

    fn compile(
        platform: Platform,
        administrators: &[String],
        bindings: &[Binding],
    ) -> Result<Self, PolicyError> {
        if administrators.is_empty() {
            return Err(PolicyError::NoAdministrator);
        }
        let administrators: BTreeSet<_> = administrators.iter().cloned().collect();
        let bindings: BTreeSet<_> = bindings.iter().cloned().collect();
        Ok(Self {
            by_ring: bindings::link(&platform, &bindings)?,
            revision: bindings::revision(&administrators, &bindings),
            platform,
            administrators,
            authorizer: Authorizer::new(),
            memo: Memo::default(),
            errors: AtomicU64::new(0),
        })
    }

    /// How many questions could not be evaluated and were denied for that reason. Not zero means a fault of ours.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// What can be about a question: platform policies and the links that can name the caller.
    fn policies(&self, question: Question<'_>) -> Result<Cow<'_, PolicySet>, Fault> {
        if let Caller::Pod(identity) = question.caller
            && let Resource::Key { ring, access, .. } | Resource::Secret { ring, access, .. } =
                question.resource
        {
            let object = entities::resource(question.resource);
            let records = [
                (entities::ring(ring.id), &*ring.access),
                (object, &**access),
            ];
            let linked = bindings::link_records(&self.platform, &identity.account, records);
            return linked.map(Cow::Owned);
        }
        let ring = question.resource.ring();
        let bound = ring.and_then(|ring| self.by_ring.get(&ring));
        Ok(Cow::Borrowed(bound.unwrap_or(self.platform.policies())))
    }

    fn evaluate(&self, question: Question<'_>) -> Result<Decision, EvaluateError> {
        let schema = self.platform.schema();
        let request = Request::new(
            entities::principal(question.caller),
            entities::action(question.action),
            entities::resource(question.resource),
            Context::empty(),
            Some(schema),
        )
        .map_err(|error| EvaluateError(error.to_string()))?;
        let entities = entities::slice(question, &self.administrators, schema)
            .map_err(|error| EvaluateError(error.to_string()))?;
        let policies = self
            .policies(question)
            .map_err(|error| EvaluateError(error.to_string()))?;

        let response = self
            .authorizer
            .is_authorized(&request, &policies, &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(EvaluateError(error.to_string()));
        }
        Ok(match response.decision() {
            cedar_policy::Decision::Allow => Decision::Allow,
            cedar_policy::Decision::Deny => Decision::Deny,
        })
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer. It goes to our log only.
struct EvaluateError(String);

impl Decide for Policy {
    fn decide(&self, question: Question<'_>) -> Decision {
        if let Some(decision) = self.memo.find(question) {
            return decision;
        }
        match self.evaluate(question) {
            Ok(decision) => {
                self.memo.insert(question, decision);
                decision
            }
            // Not memoized, so that each such denial counts.
            Err(EvaluateError(error)) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                let (caller, action) = (question.caller, question.action);
                tracing::error!(%caller, %action, error, "policy evaluation failed, denied");
                Decision::Deny
            }
        }
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests;
