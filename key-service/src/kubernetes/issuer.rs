//! Who signs the tokens of the cluster: the issuer that its API server says it is, and its keys.

use serde::Deserialize;

use super::{AskError, Connection};

const KEYS: &str = "/openid/v1/jwks";
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why the issuer is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssuerError {
    /// Nobody said.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// What was said is not what API servers say.
    #[error("the API server's {DISCOVERY} has no issuer")]
    Discovery(#[source] serde_json::Error),
}

/// What an API server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) issuer: String,
    /// A JSON Web Key Set.
    pub(super) keys: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

/// Asks for the keys, and for the issuer where the configuration does not say it.
pub(super) async fn ask(
    connection: &mut Connection,
    configured: Option<&String>,
) -> Result<Said, IssuerError> {
    let keys = connection.text(KEYS).await?;
    let issuer = match configured {
        Some(issuer) => issuer.clone(),
        None => {
            let text = connection.text(DISCOVERY).await?;
            let said: Discovery = serde_json::from_str(&text).map_err(IssuerError::Discovery)?;
            said.issuer
        }
    };
    Ok(Said { issuer, keys })
}
