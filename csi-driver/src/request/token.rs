//! The pod's token, as kubelet writes it: a JSON object from audience to token.
//!
//! kubelet writes it in one place. Where that is not the volume's context, whoever writes the pod can put something there.

use std::collections::BTreeMap;

use serde::Deserialize;
use strongroom_core::SecretBytes;
use zeroize::Zeroize;

use super::TOKENS;

/// Longer than any token of a service account.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why there is no token of the pod. The cluster's administrator is to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// kubelet sent none.
    #[error(
        "kubelet sent no token of the pod: the CSIDriver csi.strongroom.dev needs tokenRequests, and \
         serviceAccountTokenInSecrets as the driver's tokens.source has it"
    )]
    Missing,
    /// It is for somebody else.
    #[error(
        "kubelet sent no token of the pod for audience {0}: the CSIDriver csi.strongroom.dev needs it in tokenRequests"
    )]
    Audience(String),
    /// kubelet sent something else.
    #[error("what kubelet sent as token of the pod is none")]
    Malformed,
    /// The pod's author wrote one beside kubelet's, and is to mend it. Nothing would be given for it, but nobody writes it
    /// without meaning to.
    #[error("attribute {TOKENS:?} in the pod's volume is for kubelet alone to write: remove it")]
    Forged,
}

#[derive(Deserialize)]
struct Entry {
    token: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// Takes the token for an audience.
pub(super) fn find(text: Option<&String>, audience: &str) -> Result<SecretBytes, NoToken> {
    let text = text.ok_or(NoToken::Missing)?;
    let tokens: BTreeMap<String, Entry> =
        serde_json::from_str(text).map_err(|_| NoToken::Malformed)?;
    let Entry { token } = tokens
        .get(audience)
        .ok_or_else(|| NoToken::Audience(audience.to_owned()))?;
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token {
        Ok(SecretBytes::copy_from(token.as_bytes()))
    } else {
        Err(NoToken::Malformed)
    }
}
