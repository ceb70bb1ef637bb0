//! What the token signs for others: certificates of the certificate authority, and checkpoint keys.

use rcgen::{KeyPair, PublicKeyData};
use strongroom_core::{InstanceId, StoreEpoch};
use strongroom_crypto::P256PublicKey;
use strongroom_hsm::{
    AgentClient, CaCertificateRequest, CaSubject, CheckpointKeyStatement, Hsm, Reason, TokenState,
    Validity,
};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use crate::place::{Place, ask};

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);
const DAY_S: i64 = 86_400;
const NOW_S: i64 = 1_800_000_000;

fn request(subject: CaSubject) -> CaCertificateRequest {
    let validity = Validity::new(NOW_S, NOW_S + 365 * DAY_S).unwrap();
    CaCertificateRequest {
        instance: INSTANCE,
        subject,
        validity,
    }
}

fn verify(der: &[u8], issuer: &P256PublicKey) {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let signed = certificate.tbs_certificate.as_ref();
    issuer
        .verify_der(signed, &certificate.signature_value.data)
        .unwrap();
}

/// One line for each extension that decides what a certificate is good for.
fn meaning(der: &[u8]) -> String {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let mut lines = vec![format!(
        "{} | {} | {} days",
        certificate.subject(),
        certificate.issuer(),
        (certificate.validity().not_after.timestamp() - NOW_S) / DAY_S
    )];
    for extension in certificate.extensions() {
        let critical = if extension.critical { "!" } else { "" };
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => {
                let length = constraints.path_len_constraint;
                lines.push(format!("{critical}ca={} path={length:?}", constraints.ca));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => lines.push(format!(
                "{critical}server={} client={} any={}",
                usage.server_auth, usage.client_auth, usage.any
            )),
            ParsedExtension::KeyUsage(usage) => lines.push(format!("{critical}usage={usage}")),
            ParsedExtension::NameConstraints(constraints) => lines.push(format!(
                "{critical}names={:?}",
                constraints
                    .permitted_subtrees
                    .as_ref()
                    .map(|trees| trees[0].base.to_string())
            )),
            _ => {}
        }
    }
    lines.join("\n")
}

#[test]
fn the_authority_has_a_root_and_two_intermediates_of_one_purpose() {
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    let (token, certificates) = ask(&place, async |agent: AgentClient| {
        let token = agent.initialize(INSTANCE).await.unwrap();
        let public_key = KeyPair::generate().unwrap().subject_public_key_info();
        let issue = async |subject| agent.sign_ca_certificate(&request(subject)).await.unwrap();
        let certificates = [
            issue(CaSubject::Root).await,
            issue(CaSubject::ServerIntermediate {
                public_key: public_key.clone(),
            })
            .await,
            issue(CaSubject::ClientIntermediate { public_key }).await,
        ];
        (token, certificates)
    });
    let keys = token.keys.unwrap();
    let authority = P256PublicKey::from_spki(&keys.certificate_authority_key).unwrap();
    for certificate in &certificates {
        verify(certificate, &authority);
    }
    let root = "O=Strongroom, CN=Strongroom root 01010101010101010101010101010101";
    let usage = "!usage=Key Cert Sign, CRL Sign";
    let [shown_root, server, client] = certificates.each_ref().map(|der| meaning(der));
    assert_eq!(
        shown_root,
        format!("{root} | {root} | 365 days\n{usage}\n!ca=true path=Some(1)")
    );
    assert_eq!(
        server,
        format!(
            "{} | {root} | 365 days\n{usage}\nserver=true client=false any=false\n\
             !names=Some(\"DNSName(strongroom.dev)\")\n!ca=true path=Some(0)",
            root.replace("root", "server")
        )
    );
    assert_eq!(
        client,
        format!(
            "{} | {root} | 365 days\n{usage}\nserver=false client=true any=false\n!ca=true path=Some(0)",
            root.replace("root", "client")
        )
    );
}

#[test]
fn a_certificate_for_another_instance_or_kind_of_key_is_refused() {
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    ask(&place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await.unwrap();
        let refused = async |request: CaCertificateRequest| {
            agent
                .sign_ca_certificate(&request)
                .await
                .unwrap_err()
                .reason()
        };
        let instance = InstanceId::from_bytes([2; 16]);
        let foreign = CaCertificateRequest {
            instance,
            ..request(CaSubject::Root)
        };
        assert_eq!(refused(foreign).await, Reason::ForeignInstance);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let public_key = key.subject_public_key_info();
        let other = request(CaSubject::ServerIntermediate { public_key });
        assert_eq!(refused(other).await, Reason::InvalidRequest);
    });
}

#[test]
fn a_checkpoint_key_is_certified_by_the_key_for_it() {
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    let statement = CheckpointKeyStatement {
        instance: INSTANCE,
        replica: "cp-1".to_owned(),
        store_epoch: StoreEpoch::FIRST,
        start_size: 7,
        previous_checkpoint: [3; 32],
        public_key: [4; 32],
    };
    let (token, signature, refusal) = ask(&place, async |agent: AgentClient| {
        let token = agent.initialize(INSTANCE).await.unwrap();
        let signature = agent.certify_checkpoint_key(&statement).await.unwrap();
        let mut foreign = statement.clone();
        foreign.instance = InstanceId::from_bytes([2; 16]);
        let refusal = agent.certify_checkpoint_key(&foreign).await.unwrap_err();
        (token, signature, refusal)
    });
    let key = P256PublicKey::from_spki(&token.keys.unwrap().checkpoint_certifying_key).unwrap();
    key.verify_fixed(&statement.signed_bytes(), signature.as_bytes())
        .unwrap();
    assert_eq!(refusal.reason(), Reason::ForeignInstance);
}
