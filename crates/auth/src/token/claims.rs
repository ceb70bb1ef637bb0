//! What a verified token says, compared with what is expected of it.
//!
//! API servers add claims from release to release: unknown ones are let be. Each that is named here must be there.

use std::str::FromStr;

use serde_json::{Map, Value};
use strongroom_core::{Name, ObjectId, PodIdentity, ServiceAccount, Tenant, UnixMillis};

use super::{CLOCK_LEEWAY, InvalidToken, TOKEN_LIFETIME_MAX, TokenError, json};

pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, InvalidToken> {
        json::object(payload)
            .map(Self)
            .map_err(|_| InvalidToken::Claims)
    }

    pub(super) fn check_issuer(&self, issuer: &str) -> Result<(), InvalidToken> {
        if text(&self.0, "iss", "iss")? == issuer {
            Ok(())
        } else {
            Err(InvalidToken::Issuer)
        }
    }

    /// One audience can stand alone or in a list of one.
    pub(super) fn check_audience(&self, audience: &str) -> Result<(), TokenError> {
        let ours = |value: &Value| value.as_str() == Some(audience);
        match self.0.get("aud") {
            Some(one @ Value::String(_)) if ours(one) => Ok(()),
            Some(Value::Array(list)) if matches!(list.as_slice(), [one] if ours(one)) => Ok(()),
            Some(Value::String(_) | Value::Array(_)) => Err(TokenError::WrongAudience),
            Some(_) | None => Err(InvalidToken::Claim { claim: "aud" }.into()),
        }
    }

    /// Gives the moment from which on the token counts no more.
    pub(super) fn check_time(&self, now: UnixMillis) -> Result<UnixMillis, TokenError> {
        let (issued, begins) = (self.moment("iat")?, self.moment("nbf")?);
        let expires = self.moment("exp")?;
        let lasts = expires.since(issued.min(begins));
        if lasts.is_zero() || lasts > TOKEN_LIFETIME_MAX {
            return Err(InvalidToken::Lifetime.into());
        }
        if issued.max(begins) > now.plus(CLOCK_LEEWAY) {
            return Err(InvalidToken::NotYet.into());
        }
        if now >= expires {
            return Err(TokenError::Expired);
        }
        Ok(expires)
    }

    /// Whole seconds since 1970, as API servers write them.
    fn moment(&self, claim: &'static str) -> Result<UnixMillis, InvalidToken> {
        let seconds = self.0.get(claim).and_then(Value::as_u64);
        let milliseconds = seconds
            .and_then(|seconds| seconds.checked_mul(1000))
            .and_then(|milliseconds| i64::try_from(milliseconds).ok());
        milliseconds
            .map(UnixMillis::new)
            .ok_or(InvalidToken::Claim { claim })
    }

    /// Reads whom the token stands for in the cluster whose key signed it.
    pub(super) fn identity(&self, cluster: &Name) -> Result<PodIdentity, InvalidToken> {
        let bound = member(&self.0, "kubernetes.io", "kubernetes.io")?;
        let account = ServiceAccount {
            tenant: Tenant {
                cluster: cluster.clone(),
                namespace: parsed(bound, "namespace", "kubernetes.io/namespace")?,
            },
            id: object_id(bound, "serviceaccount", "kubernetes.io/serviceaccount")?,
        };
        let Tenant { namespace, .. } = &account.tenant;
        let subject = format!("system:serviceaccount:{namespace}:{}", account.id.name);
        if text(&self.0, "sub", "sub")? != subject {
            return Err(InvalidToken::Subject);
        }
        Ok(PodIdentity {
            account,
            pod: object_id(bound, "pod", "kubernetes.io/pod")?,
            node: object_id(bound, "node", "kubernetes.io/node")?,
            token: parsed(&self.0, "jti", "jti")?,
        })
    }
}

fn object_id(
    object: &Map<String, Value>,
    name: &str,
    claim: &'static str,
) -> Result<ObjectId, InvalidToken> {
    let object = member(object, name, claim)?;
    Ok(ObjectId {
        name: parsed(object, "name", claim)?,
        uid: parsed(object, "uid", claim)?,
    })
}

fn member<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    claim: &'static str,
) -> Result<&'a Map<String, Value>, InvalidToken> {
    let value = object.get(name).and_then(Value::as_object);
    value.ok_or(InvalidToken::Claim { claim })
}

fn text<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    claim: &'static str,
) -> Result<&'a str, InvalidToken> {
    let value = object.get(name).and_then(Value::as_str);
    value.ok_or(InvalidToken::Claim { claim })
}

fn parsed<T: FromStr>(
    object: &Map<String, Value>,
    name: &str,
    claim: &'static str,
) -> Result<T, InvalidToken> {
    let value = text(object, name, claim)?.parse();
    value.map_err(|_| InvalidToken::Claim { claim })
}
