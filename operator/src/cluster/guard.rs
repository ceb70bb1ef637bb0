//! Whether the admission policy of the chart is in place, which asks for the verb `bind` before it lets `access` be changed.
//! Without it everybody who may edit an object could give rights away.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};

use crate::plan::Guard;

/// The name of the policy and of its binding.
pub const GUARD: &str = "strongroom-access";

/// What the API server has of both.
#[derive(Debug, Default)]
pub struct Guarding(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    policy: Option<Option<ValidatingAdmissionPolicy>>,
    binding: Option<Option<ValidatingAdmissionPolicyBinding>>,
}

impl Guarding {
    /// Takes the policy, or that there is none; says whether that changes anything.
    pub fn policy(&self, policy: Option<ValidatingAdmissionPolicy>) -> bool {
        self.change(|seen| seen.policy = Some(policy))
    }

    /// Takes the binding, or that there is none; says whether that changes anything.
    pub fn binding(&self, binding: Option<ValidatingAdmissionPolicyBinding>) -> bool {
        self.change(|seen| seen.binding = Some(binding))
    }

    /// What is known.
    pub fn guard(&self) -> Guard {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .guard()
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.guard();
        change(&mut seen);
        before != seen.guard()
    }
}

impl Seen {
    fn guard(&self) -> Guard {
        match (&self.policy, &self.binding) {
            (Some(policy), Some(binding)) => judge(policy.as_ref(), binding.as_ref()),
            _ => Guard::Unknown,
        }
    }
}

fn judge(
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> Guard {
    let Some(policy) = policy.and_then(|policy| policy.spec.as_ref()) else {
        return Guard::Missing("it is not there");
    };
    let Some(binding) = binding.and_then(|binding| binding.spec.as_ref()) else {
        return Guard::Missing("it has no ValidatingAdmissionPolicyBinding of its name");
    };
    let fails_closed = policy.failure_policy.as_deref().unwrap_or("Fail") == "Fail";
    let judges = policy.validations.as_ref().is_some_and(|it| !it.is_empty());
    let denies = binding
        .validation_actions
        .as_ref()
        .is_some_and(|actions| actions.iter().any(|action| action == "Deny"));
    if !fails_closed || !judges {
        Guard::Missing("it lets requests through that it cannot judge")
    } else if binding.policy_name.as_deref() != Some(GUARD) {
        Guard::Missing("its binding names another policy")
    } else if !denies {
        Guard::Missing("its binding does not deny")
    } else if binding.match_resources.is_some() {
        Guard::Missing("its binding leaves some requests out")
    } else {
        Guard::InPlace
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy() -> Value {
        json!({"metadata": {"name": GUARD}, "spec": {
            "failurePolicy": "Fail", "validations": [{"expression": "true"}],
        }})
    }

    fn binding() -> Value {
        json!({"metadata": {"name": GUARD}, "spec": {
            "policyName": GUARD, "validationActions": ["Deny", "Audit"],
        }})
    }

    fn check(change: impl FnOnce(&mut Value, &mut Value), expected: Option<&str>) {
        let (mut policy, mut binding) = (policy(), binding());
        change(&mut policy, &mut binding);
        let policy = serde_json::from_value(policy).unwrap();
        let binding = serde_json::from_value(binding).unwrap();
        match (judge(Some(&policy), Some(&binding)), expected) {
            (Guard::InPlace, None) => {}
            (Guard::Missing(why), Some(expected)) if why.contains(expected) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn policy_counts_only_if_it_denies_all_that_it_should() {
        check(|_, _| {}, None);
        check(
            |policy, _| policy["spec"]["failurePolicy"] = json!("Ignore"),
            Some("lets requests through"),
        );
        check(
            |policy, _| policy["spec"]["validations"] = json!([]),
            Some("lets requests through"),
        );
        check(
            |_, binding| binding["spec"]["policyName"] = json!("other"),
            Some("another policy"),
        );
        check(
            |_, binding| binding["spec"]["validationActions"] = json!(["Warn"]),
            Some("does not deny"),
        );
        check(
            |_, binding| binding["spec"]["matchResources"] = json!({"namespaceSelector": {}}),
            Some("leaves some requests out"),
        );
    }

    #[test]
    fn nothing_is_known_before_both_were_asked_for() {
        let guarding = Guarding::default();
        assert!(!guarding.policy(None));
        assert_eq!(guarding.guard(), Guard::Unknown);
        assert!(guarding.binding(None));
        assert!(matches!(guarding.guard(), Guard::Missing(_)));
    }
}
