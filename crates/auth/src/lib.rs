//! Decides with Cedar; verifies certificates and tokens.
#![forbid(unsafe_code)]

mod certificate;
mod common_name;
mod policy;
mod tls;
mod token;

pub use certificate::{IdentityError, identity, node_credential, node_uri, not_after};
pub use common_name::{InvalidCommonName, check_common_name};
pub use policy::{BINDINGS_PER_RING_MAX, Binding, Policy, PolicyError, Role};
pub use tls::{
    SERVER_NAME, TlsError, client_tls, enrolling_server_tls, provider, server_name, server_tls,
    token_server_tls,
};
pub use token::{
    CLOCK_LEEWAY, Cluster, ClustersError, ISSUER_KEYS_MAX, InvalidToken, IssuerKeys,
    IssuerKeysError, KeyError, PodToken, TOKEN_BYTES_MAX, TOKEN_LIFETIME_MAX, TokenError,
    TokenVerifier,
};
