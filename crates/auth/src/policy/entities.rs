//! Callers, actions and resources as Cedar entities. Names go in as entity ids, never as text to parse.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema,
};
use strongroom_core::{ActionKind, Caller, Question, Resource, RingId, RingKind, RingRef};

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn uid(entity_type: &'static str, id: &str) -> EntityUid {
    let name = format!("Strongroom::{entity_type}");
    let name: EntityTypeName = name.parse().expect("our entity types are valid names");
    EntityUid::from_type_name_and_id(name, EntityId::new(id))
}

pub(super) fn certificate(common_name: &str) -> EntityUid {
    uid("Certificate", common_name)
}

pub(super) fn ring(id: RingId) -> EntityUid {
    uid("Ring", &id.to_string())
}

pub(super) fn action(action: ActionKind) -> EntityUid {
    uid("Action", action.as_str())
}

pub(super) fn principal(caller: &Caller) -> EntityUid {
    match caller {
        Caller::Certificate(identity) => certificate(&identity.name),
        Caller::KmsSocket { uid: user } => uid("KmsSocket", &user.to_string()),
        Caller::KmsPlugin(credential) => uid("KmsPlugin", credential.identity.node.as_str()),
        Caller::Enrolment(identity) => uid("Enrolment", &identity.to_string()),
        Caller::AdminSocket { uid: user } => uid("AdminSocket", &user.to_string()),
        Caller::System(job) => uid("Job", job.as_str()),
    }
}

pub(super) fn resource(resource: &Resource) -> EntityUid {
    match resource {
        Resource::Instance => uid("Instance", "instance"),
        Resource::Ring(in_ring) => ring(in_ring.id),
        Resource::Key { key, .. } => uid("Key", &key.to_string()),
    }
}

/// Everything that a policy can look at for one question: the caller, what is acted on, its ring, the actions.
pub(super) fn slice(
    question: Question<'_>,
    administrators: &BTreeSet<String>,
    schema: &Schema,
) -> Result<Entities, Fault> {
    let mut entities = vec![principal_entity(question.caller, administrators)];
    match question.resource {
        Resource::Instance => entities.push(Entity::with_uid(resource(question.resource))),
        Resource::Ring(ring) => entities.push(ring_entity(*ring)?),
        Resource::Key { ring: in_ring, .. } => {
            let ring = ring(in_ring.id);
            let attribute = RestrictedExpression::new_entity_uid(ring.clone());
            entities.push(ring_entity(*in_ring)?);
            entities.push(Entity::new(
                resource(question.resource),
                HashMap::from([("ring".to_owned(), attribute)]),
                HashSet::from([ring]),
            )?);
        }
    }
    // The schema adds the actions with their groups.
    Ok(Entities::from_entities(entities, Some(schema))?)
}

fn principal_entity(caller: &Caller, administrators: &BTreeSet<String>) -> Entity {
    let groups = match caller {
        Caller::Certificate(identity) if administrators.contains(&*identity.name) => {
            HashSet::from([uid("Administrators", "administrators")])
        }
        Caller::Certificate(_)
        | Caller::KmsSocket { .. }
        | Caller::KmsPlugin(_)
        | Caller::Enrolment(_)
        | Caller::AdminSocket { .. }
        | Caller::System(_) => HashSet::new(),
    };
    Entity::new_no_attrs(principal(caller), groups)
}

fn ring_entity(ring_ref: RingRef) -> Result<Entity, Fault> {
    let kind = match ring_ref.kind {
        RingKind::System => "system",
        RingKind::Application => "application",
    };
    let kind = RestrictedExpression::new_entity_uid(uid("RingKind", kind));
    let attributes = HashMap::from([("kind".to_owned(), kind)]);
    Ok(Entity::new(ring(ring_ref.id), attributes, HashSet::new())?)
}
