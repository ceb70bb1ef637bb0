//! Makes the keys of an instance: first the plan with their ids, then the keys, last the seal. A crash anywhere between is
//! finished by asking again for the same instance; after the seal no key is ever made again.
#![forbid(unsafe_code)]

use strongroom_core::InstanceId;
use strongroom_runtime::fault;

use super::{
    Holdings, OperationError, Plan, Token,
    attach::{AttachError, boxed, find_holdings, find_keys},
    foreign,
    keys::{self, Purpose},
};
use crate::files;

impl Token {
    /// Makes what is missing of an instance's keys.
    pub(crate) fn initialize(&mut self, instance: InstanceId) -> Result<(), OperationError> {
        // What another agent, or we before a crash, did to the same token counts, not what we remember.
        self.holdings = find_holdings(&self.session).map_err(boxed)?;
        let plan = match &self.holdings {
            Holdings::Complete(keys) => return Ok(keys.check_instance(instance)?),
            Holdings::Begun(plan) if plan.instance == instance => *plan,
            Holdings::Begun(plan) => return Err(foreign(*plan, instance).into()),
            Holdings::Nothing => self.begin(instance)?,
        };
        self.make_keys(&plan)?;
        let keys = find_keys(&self.session, plan).map_err(|error| boxed(error.into()))?;
        self.sync()?;
        fault::point!("hsm.init.before-seal");
        plan.seal(&self.session)?;
        self.sync()?;
        self.holdings = Holdings::Complete(Box::new(keys));
        tracing::info!(%instance, root = %plan.root_id(), "token initialised");
        fault::point!("hsm.init.before-reply");
        Ok(())
    }

    fn begin(&mut self, instance: InstanceId) -> Result<Plan, OperationError> {
        let plan = Plan::draw(instance);
        fault::point!("hsm.init.before-intent");
        plan.write(&self.session)?;
        self.sync()?;
        self.holdings = Holdings::Begun(plan);
        fault::point!("hsm.init.intent-written");
        Ok(plan)
    }

    fn make_keys(&self, plan: &Plan) -> Result<(), OperationError> {
        keys::ensure_root(&self.session, &plan.root)?;
        fault::point!("hsm.init.key-made");
        for purpose in [
            Purpose::RecordSigning,
            Purpose::CertificateAuthority,
            Purpose::CheckpointCertifying,
        ] {
            keys::ensure_pair(&self.session, purpose, plan.signing_key(purpose))?;
            fault::point!("hsm.init.key-made");
        }
        Ok(())
    }

    /// SoftHSM writes files and does not sync them.
    fn sync(&self) -> Result<(), OperationError> {
        match &self.files {
            Some(folder) => {
                files::sync_below(folder).map_err(|error| boxed(AttachError::Sync(error)))
            }
            None => Ok(()),
        }
    }
}
