//! The files under `policies/`, parsed and strictly validated.

use cedar_policy::{PolicyId, PolicySet, Schema, Template, ValidationMode, Validator};

use super::{Fault, PolicyError, Role};

const SCHEMA: &str = include_str!("../../policies/platform.cedarschema");
const POLICIES: &str = include_str!("../../policies/platform.cedar");

/// Schema, policies that hold everywhere, and one template for each role.
#[derive(Debug)]
pub(super) struct Platform {
    schema: Schema,
    policies: PolicySet,
}

impl Platform {
    pub(super) fn load() -> Result<Self, PolicyError> {
        Self::parse(POLICIES)
            .and_then(Self::validated)
            .map_err(PolicyError::Platform)
    }

    /// Parses `text` as the policies that hold everywhere. Nothing is validated yet.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)?;
        let mut policies = PolicySet::new();
        for policy in text.parse::<PolicySet>()?.policies() {
            let id = policy.annotation("id").ok_or("a policy has no @id")?;
            policies.add(policy.new_id(PolicyId::new(id)))?;
        }
        for role in Role::ALL {
            let id = PolicyId::new(role.as_str());
            policies.add_template(Template::parse(Some(id), role.template())?)?;
        }
        Ok(Self { schema, policies })
    }

    /// Refuses what the strict validator has anything to say about.
    pub(super) fn validated(self) -> Result<Self, Fault> {
        let validator = Validator::new(self.schema.clone());
        let result = validator.validate(&self.policies, ValidationMode::Strict);
        if result.validation_passed_without_warnings() {
            Ok(self)
        } else {
            Err(result.to_string().into())
        }
    }

    pub(super) const fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(super) const fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The text of all files, for the revision.
    pub(super) fn texts() -> impl Iterator<Item = &'static str> {
        let templates = Role::ALL.iter().map(|role| role.template());
        [SCHEMA, POLICIES].into_iter().chain(templates)
    }
}

#[cfg(test)]
impl Platform {
    /// The platform with one policy more.
    pub(super) fn with(policy: &str) -> Self {
        Self::parse(&format!("{POLICIES}\n@id(\"more\") {policy}")).expect("the policy parses")
    }
}
