//! Callers, actions and resources as Cedar entities. Names go in as entity ids, never as text to parse.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema,
};
use strongroom_core::{
    ActionKind, Caller, Name, Question, Resource, RingId, RingKind, RingRef, SecretId,
    ServiceAccount, Tenant,
};

use super::Fault;

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

pub(super) fn secret(id: SecretId) -> EntityUid {
    uid("Secret", &id.to_string())
}

/// The parts of its id hold no `/` and no `#`, so that no two accounts have one text.
pub(super) fn service_account(account: &ServiceAccount) -> EntityUid {
    uid("ServiceAccount", &account.to_string())
}

fn cluster(name: &Name) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid("Cluster", name.as_str()))
}

fn tenant(tenant: &Tenant) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid("Tenant", &tenant.to_string()))
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
        Caller::Pod(identity) => service_account(&identity.account),
        Caller::CsiDriver(identity) => uid("CsiDriver", &identity.account.to_string()),
        Caller::Operator(identity) => uid("Operator", &identity.account.to_string()),
        Caller::System(job) => uid("Job", job.as_str()),
    }
}

pub(super) fn resource(resource: &Resource) -> EntityUid {
    match resource {
        Resource::Instance => uid("Instance", "instance"),
        Resource::Ring(in_ring) => ring(in_ring.id),
        Resource::Key { key, .. } => uid("Key", &key.to_string()),
        Resource::Secret { secret: id, .. } => secret(*id),
    }
}

/// Everything that a policy can look at for one question: the caller, what is acted on, its ring, the actions.
pub(super) fn slice(
    question: Question<'_>,
    administrators: &BTreeSet<String>,
    schema: &Schema,
) -> Result<Entities, Fault> {
    let mut entities = vec![principal_entity(question.caller, administrators)?];
    match question.resource {
        Resource::Instance => entities.push(Entity::with_uid(resource(question.resource))),
        Resource::Ring(ring) => entities.push(ring_entity(ring)?),
        Resource::Key { ring: in_ring, .. } => {
            entities.push(ring_entity(in_ring)?);
            let owner = in_ring.access.tenant();
            entities.push(member(question.resource, in_ring, owner)?);
        }
        Resource::Secret {
            ring: in_ring,
            access,
            ..
        } => {
            entities.push(ring_entity(in_ring)?);
            entities.push(member(question.resource, in_ring, access.tenant())?);
        }
    }
    // The schema adds the actions with their groups.
    Ok(Entities::from_entities(entities, Some(schema))?)
}

/// What lies in a ring.
fn member(of: &Resource, in_ring: &RingRef, owner: Option<&Tenant>) -> Result<Entity, Fault> {
    let ring = ring(in_ring.id);
    let attribute = RestrictedExpression::new_entity_uid(ring.clone());
    let mut attributes = HashMap::from([("ring".to_owned(), attribute)]);
    attributes.extend(owner.map(|owner| ("tenant".to_owned(), tenant(owner))));
    Ok(Entity::new(
        resource(of),
        attributes,
        HashSet::from([ring]),
    )?)
}

fn principal_entity(caller: &Caller, administrators: &BTreeSet<String>) -> Result<Entity, Fault> {
    let (mut attributes, mut groups) = (HashMap::new(), HashSet::new());
    match caller {
        Caller::Certificate(identity) if administrators.contains(&*identity.name) => {
            groups.insert(uid("Administrators", "administrators"));
        }
        Caller::Pod(identity) => {
            let owner = tenant(&identity.account.tenant);
            attributes.insert("tenant".to_owned(), owner);
        }
        Caller::Operator(identity) => {
            let own = cluster(&identity.account.tenant.cluster);
            attributes.insert("cluster".to_owned(), own);
        }
        Caller::Certificate(_)
        | Caller::KmsSocket { .. }
        | Caller::KmsPlugin(_)
        | Caller::Enrolment(_)
        | Caller::AdminSocket { .. }
        | Caller::CsiDriver(_)
        | Caller::System(_) => {}
    }
    Ok(Entity::new(principal(caller), attributes, groups)?)
}

fn ring_entity(ring_ref: &RingRef) -> Result<Entity, Fault> {
    let kind = match ring_ref.kind {
        RingKind::System => "system",
        RingKind::Application => "application",
    };
    let kind = RestrictedExpression::new_entity_uid(uid("RingKind", kind));
    let mut attributes = HashMap::from([("kind".to_owned(), kind)]);
    let owner = ring_ref.access.tenant();
    attributes.extend(owner.map(|owner| ("cluster".to_owned(), cluster(&owner.cluster))));
    Ok(Entity::new(ring(ring_ref.id), attributes, HashSet::new())?)
}
