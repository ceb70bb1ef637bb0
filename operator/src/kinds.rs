//! What the kinds have in common: an object is observed, what it wants is decided, the key service is asked, and what it says
//! becomes a status. Each kind says only what is its own.

mod crypto_key;
mod key_ring;
mod managed_secret;
mod secret_bundle;
mod secret_rotation;

use std::{collections::BTreeSet, fmt::Debug};

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use strongroom_api::strongroom::v1::{ApplyOutcome, Fence, ObjectKind, ObjectRef};

use crate::{
    cluster::{Caches, Notice, Store},
    crds::{AccessRule, Condition},
    object::Kind,
    plan::{Blocked, Course, Facts, Reason, Verdict},
    service::{Failure, Service},
};

/// A kind of objects that are told to the key service.
pub trait Managed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// Which it is.
    const KIND: Kind;
    /// What the key service holds for such an object, and lets go of when it ends.
    const HELD: Option<ObjectKind>;
    /// Its status.
    type Status: Status;
    /// What such an object wants.
    type Wish: Send + Sync;
    /// What the key service says to that.
    type State: Send + Sync;

    /// Where they are kept.
    fn store(caches: &Caches) -> &Store<Self>;

    /// What was last said about it.
    fn status(&self) -> Self::Status;

    /// The service accounts that it names.
    fn subjects(&self) -> BTreeSet<&str> {
        BTreeSet::new()
    }

    /// Whether nothing is ever to be done about it any more.
    fn is_done(&self) -> bool {
        false
    }

    /// Decides what it wants.
    ///
    /// # Errors
    ///
    /// When something that it needs is not there.
    fn wish(&self, facts: &Facts) -> Result<Self::Wish, Blocked>;

    /// Asks the key service for it.
    fn ask(
        service: &Service,
        fence: Fence,
        wish: &Self::Wish,
    ) -> impl Future<Output = Result<Self::State, Failure>> + Send;

    /// Decides what to say about it.
    fn told(&self, wish: &Self::Wish, state: &Self::State) -> Told<Self::Status>;
}

/// The status of a kind.
pub trait Status: Clone + Debug + Default + PartialEq + Serialize + Send + Sync {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];

    /// The same with other conditions, of a generation of the object.
    fn observed(self, generation: i64, conditions: Vec<Condition>) -> Self;
}

/// What is said about an object after the key service has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Told<S> {
    /// The status, but for its conditions.
    pub status: S,
    /// What its conditions say.
    pub verdict: Verdict,
    /// What was done.
    pub notices: Vec<(Notice, String)>,
    /// Whether other objects may have waited for it.
    pub is_new: bool,
}

/// Names an object to the key service.
///
/// # Errors
///
/// When its namespace was not seen yet.
pub fn object_ref<K: Resource>(object: &K, facts: &Facts) -> Result<ObjectRef, Blocked> {
    let namespace = object.namespace().unwrap_or_default();
    let Some(namespace_uid) = facts.namespace_uid.clone() else {
        return Err(Blocked {
            reason: Reason::NamespaceUnknown,
            message: format!("namespace {namespace} was not seen yet"),
        });
    };
    Ok(ObjectRef {
        namespace,
        namespace_uid,
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    })
}

/// What is said about an object that the key service refuses, in its own sentence.
pub fn refused(reason: &str, sentence: String) -> Verdict {
    let (reason, course) = match reason {
        "OwnedByFormerNamespace" => (Reason::OwnedByFormerNamespace, Course::Settled),
        "RingNotFound" => (Reason::RingNotFound, Course::Reconciling),
        "NotFound" => (Reason::SecretNotFound, Course::Reconciling),
        "ImmutableField" => (Reason::ImmutableField, Course::Stalled),
        "NotGenerated" => (Reason::NotGenerated, Course::Stalled),
        _ => (Reason::Invalid, Course::Stalled),
    };
    Verdict::not_ready(reason, sentence, course)
}

fn subjects<R>(rules: &[AccessRule<R>]) -> BTreeSet<&str> {
    let subjects = rules.iter().flat_map(|rule| &rule.subjects);
    subjects.map(|subject| subject.name.as_str()).collect()
}

/// Of what has nothing more to tell.
const AS_WRITTEN: &str = "the key service has it as it is written";

/// What an Apply did, in events.
fn notices(outcome: ApplyOutcome, what: &str, rebound: &[String]) -> Vec<(Notice, String)> {
    let done = match outcome {
        ApplyOutcome::Unspecified | ApplyOutcome::Unchanged => None,
        ApplyOutcome::Created => Some((Notice::Created, format!("the key service made {what}"))),
        ApplyOutcome::Updated => Some((
            Notice::Updated,
            format!("the key service has {what} as it is written now"),
        )),
        ApplyOutcome::Adopted => Some((
            Notice::Adopted,
            format!("{what} was there already, and is this object's now"),
        )),
    };
    let rebound = rebound.iter().map(|account| {
        let note = format!("service account {account} was made anew and has its roles again");
        (Notice::Rebound, note)
    });
    done.into_iter().chain(rebound).collect()
}

fn is_new(outcome: ApplyOutcome) -> bool {
    matches!(outcome, ApplyOutcome::Created | ApplyOutcome::Adopted)
}

/// Implements [`Status`] for a struct with the usual two fields.
macro_rules! status {
    ($name:ty) => {
        impl crate::kinds::Status for $name {
            fn conditions(&self) -> &[crate::crds::Condition] {
                &self.conditions
            }

            fn observed(
                mut self,
                generation: i64,
                conditions: Vec<crate::crds::Condition>,
            ) -> Self {
                self.observed_generation = Some(generation);
                self.conditions = conditions;
                self
            }
        }
    };
}
use status;

fn count(number: usize) -> Option<i64> {
    i64::try_from(number).ok()
}
