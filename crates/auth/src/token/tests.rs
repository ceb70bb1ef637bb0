//! Tokens as an API server signs them, and everything that differs from them in one thing.

mod golden;
mod properties;
mod signer;

use serde_json::{Value, json};

use super::*;
use signer::{Signer, rsa};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AUDIENCE: &str = "strongroom.dev";
/// 2026-11-22T11:00:00Z.
const NOW: i64 = 1_795_345_200;

fn at(second: i64) -> UnixMillis {
    UnixMillis::new((NOW + second) * 1000)
}

fn claims() -> Value {
    json!({
        "aud": [AUDIENCE],
        "exp": NOW + 3600,
        "iat": NOW,
        "iss": ISSUER,
        "jti": "9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0001",
        "kubernetes.io": {
            "namespace": "payments",
            "node": {"name": "worker-1.example", "uid": "9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0002"},
            "pod": {"name": "api-7d4f9", "uid": "9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0003"},
            "serviceaccount": {"name": "api", "uid": "9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0004"},
            "warnafter": NOW + 3607,
        },
        "nbf": NOW,
        "sub": "system:serviceaccount:payments:api",
    })
}

fn cluster(name: &str, signers: &[&Signer]) -> Cluster {
    Cluster {
        name: name.parse().unwrap(),
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        keys: IssuerKeys::from_jwks(signer::set(signers).as_bytes()).unwrap(),
    }
}

fn verifier(signer: &Signer) -> TokenVerifier {
    TokenVerifier::new(vec![cluster("east", &[signer])]).unwrap()
}

/// The claims with the member at `pointer` replaced, or removed.
fn changed(pointer: &str, value: Option<Value>) -> Value {
    let mut claims = claims();
    let (object, member) = pointer.rsplit_once('/').unwrap();
    let object = claims.pointer_mut(object).unwrap();
    let object = object.as_object_mut().unwrap();
    let member = member.replace("~1", "/");
    match value {
        Some(value) => object.insert(member, value),
        None => object.remove(&member),
    };
    claims
}

#[track_caller]
fn assert_refused(signer: &Signer, claims: &Value, expected: TokenError) {
    let token = signer.token(claims);
    let result = verifier(signer).verify(&token, at(0));
    assert_eq!(result, Err(expected), "{claims}");
}

const fn claim(claim: &'static str) -> TokenError {
    TokenError::Invalid(InvalidToken::Claim { claim })
}

#[test]
fn a_token_of_each_kind_of_key_stands_for_its_pod() {
    for signer in [
        rsa("key"),
        &Signer::p256("key"),
        &Signer::p384("key"),
        &Signer::p521("key"),
    ] {
        let verified = verifier(signer).verify(&signer.token(&claims()), at(0));
        let verified = verified.unwrap();
        assert_eq!(
            verified.identity.to_string(),
            "east/payments/api-7d4f9#9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0003,\
             account=api#9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0004,\
             node=worker-1.example#9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0002,\
             token=9c6b7a54-04b1-4c0e-8a5e-4a0e5f6f0001"
        );
        assert_eq!(verified.expires, at(3600));
    }
}

#[test]
fn each_claim_must_be_there() {
    let signer = Signer::p256("key");
    for (pointer, name) in [
        ("/aud", "aud"),
        ("/exp", "exp"),
        ("/iat", "iat"),
        ("/nbf", "nbf"),
        ("/iss", "iss"),
        ("/jti", "jti"),
        ("/sub", "sub"),
        ("/kubernetes.io", "kubernetes.io"),
        ("/kubernetes.io/namespace", "kubernetes.io/namespace"),
        ("/kubernetes.io/pod", "kubernetes.io/pod"),
        ("/kubernetes.io/pod/name", "kubernetes.io/pod"),
        ("/kubernetes.io/pod/uid", "kubernetes.io/pod"),
        ("/kubernetes.io/node", "kubernetes.io/node"),
        ("/kubernetes.io/node/name", "kubernetes.io/node"),
        ("/kubernetes.io/node/uid", "kubernetes.io/node"),
        (
            "/kubernetes.io/serviceaccount",
            "kubernetes.io/serviceaccount",
        ),
        (
            "/kubernetes.io/serviceaccount/name",
            "kubernetes.io/serviceaccount",
        ),
        (
            "/kubernetes.io/serviceaccount/uid",
            "kubernetes.io/serviceaccount",
        ),
    ] {
        assert_refused(&signer, &changed(pointer, None), claim(name));
        for other in [Value::Null, json!(true), json!(-1), json!(1.5)] {
            let claims = changed(pointer, Some(other));
            assert_refused(&signer, &claims, claim(name));
        }
    }
}

#[test]
fn texts_that_no_api_server_writes_are_refused() {
    let signer = Signer::p256("key");
    for (pointer, name) in [
        ("/jti", "jti"),
        ("/kubernetes.io/namespace", "kubernetes.io/namespace"),
        ("/kubernetes.io/pod/name", "kubernetes.io/pod"),
        ("/kubernetes.io/pod/uid", "kubernetes.io/pod"),
        ("/kubernetes.io/node/name", "kubernetes.io/node"),
        ("/kubernetes.io/node/uid", "kubernetes.io/node"),
        (
            "/kubernetes.io/serviceaccount/name",
            "kubernetes.io/serviceaccount",
        ),
        (
            "/kubernetes.io/serviceaccount/uid",
            "kubernetes.io/serviceaccount",
        ),
    ] {
        for text in ["", "a/b", "a#b", "a\"b", "a\\b", "a\nb", "a,b", "é"] {
            let claims = changed(pointer, Some(json!(text)));
            assert_refused(&signer, &claims, claim(name));
        }
    }
}

#[test]
fn the_audience_is_this_service_alone() {
    let signer = Signer::p256("key");
    let alone = changed("/aud", Some(json!(AUDIENCE)));
    let verified = verifier(&signer).verify(&signer.token(&alone), at(0));
    assert!(verified.is_ok(), "{verified:?}");
    for audience in [
        json!([]),
        json!(["another"]),
        json!("another"),
        json!(""),
        json!([AUDIENCE, "another"]),
        json!(["another", AUDIENCE]),
        json!([AUDIENCE, AUDIENCE]),
        json!([[AUDIENCE]]),
        json!("Strongroom.dev"),
        json!("strongroom.dev/east"),
    ] {
        let claims = changed("/aud", Some(audience));
        assert_refused(&signer, &claims, TokenError::WrongAudience);
    }
}

#[test]
fn the_issuer_is_the_one_of_the_cluster() {
    let signer = Signer::p256("key");
    for issuer in ["", "https://another", &format!("{ISSUER}/")] {
        let claims = changed("/iss", Some(json!(issuer)));
        assert_refused(&signer, &claims, InvalidToken::Issuer.into());
    }
}

#[test]
fn the_subject_is_the_account() {
    let signer = Signer::p256("key");
    let subject = |text: &str| changed("/sub", Some(json!(text)));
    for claims in [
        subject("system:serviceaccount:payments:web"),
        subject("system:serviceaccount:ledger:api"),
        subject("system:serviceaccount:payments:api:x"),
        subject("api"),
        changed("/kubernetes.io/namespace", Some(json!("ledger"))),
        changed("/kubernetes.io/serviceaccount/name", Some(json!("web"))),
    ] {
        assert_refused(&signer, &claims, InvalidToken::Subject.into());
    }
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end() {
    let signer = Signer::p256("key");
    let verifier = verifier(&signer);
    let token = signer.token(&claims());
    let when = |now: UnixMillis| verifier.verify(&token, now).map(|token| token.expires);
    let (first, last) = (at(-30), UnixMillis::new(at(3600).as_i64() - 1));
    assert_eq!(when(first), Ok(at(3600)));
    assert_eq!(when(last), Ok(at(3600)));
    let too_early = UnixMillis::new(first.as_i64() - 1);
    assert_eq!(when(too_early), Err(InvalidToken::NotYet.into()));
    assert_eq!(when(at(3600)), Err(TokenError::Expired));
    assert_eq!(when(at(1_000_000)), Err(TokenError::Expired));
}

#[test]
fn a_token_lasts_an_hour_at_most() {
    let signer = Signer::p256("key");
    let times = |iat: i64, nbf: i64, exp: i64| {
        let mut claims = claims();
        claims["iat"] = json!(NOW + iat);
        claims["nbf"] = json!(NOW + nbf);
        claims["exp"] = json!(NOW + exp);
        claims
    };
    for refused in [
        times(0, 0, 3601),
        times(-1, 0, 3600),
        times(0, -1, 3600),
        times(0, 0, 0),
        times(0, 0, -1),
        times(-100_000, 0, 10),
    ] {
        assert_refused(&signer, &refused, InvalidToken::Lifetime.into());
    }
    for (refused, expected) in [
        (times(31, 0, 3600), InvalidToken::NotYet.into()),
        (times(0, 31, 3600), InvalidToken::NotYet.into()),
        (times(-3600, -3600, 0), TokenError::Expired),
    ] {
        assert_refused(&signer, &refused, expected);
    }
    // In milliseconds the first is no i64, the second no u64; taken modulo 2^64 it would end in an hour.
    for end in [i64::MAX / 1000 + 1, (1 << 61) + NOW + 3600] {
        let claims = changed("/exp", Some(json!(end)));
        assert_refused(&signer, &claims, claim("exp"));
    }
}

#[test]
fn claims_given_twice_are_refused() {
    let signer = Signer::p256("key");
    let text = claims().to_string();
    for twice in [
        text.replacen('{', r#"{"aud":["another"],"#, 1),
        text.replace(r#""pod":{"#, r#""pod":{"name":"x","#),
        text.replacen('{', r#"{"x":{"y":1,"y":1},"#, 1),
    ] {
        let token = signer.sign(&signer.header(), &twice);
        let refused = verifier(&signer).verify(&token, at(0));
        assert_eq!(refused, Err(InvalidToken::Claims.into()), "{twice}");
    }
}

#[test]
fn a_signature_has_one_text() {
    let signer = Signer::p256("key");
    let token = signer.token(&claims());
    // 64 bytes are 86 digits, of which the last carries four bits that mean nothing.
    let (rest, last) = token.split_at(token.len() - 1);
    let spare = match last {
        "A" => "B",
        "Q" => "R",
        "g" => "h",
        _ => "x",
    };
    for other in [
        format!("{rest}{spare}"),
        format!("{token}="),
        format!("{token}=="),
        format!("{token}\n"),
        format!("{token}."),
        format!(".{token}"),
        format!("Bearer {token}"),
        rest.to_owned(),
    ] {
        let refused = verifier(&signer).verify(&other, at(0));
        assert_eq!(refused, Err(InvalidToken::Form.into()), "{other}");
    }
}

#[test]
fn a_header_chooses_a_key_and_nothing_else() {
    let signer = Signer::p256("key");
    let verifier = verifier(&signer);
    let verify = |header: &str| {
        let token = signer.sign(header, &claims().to_string());
        verifier.verify(&token, at(0)).map(|_| ())
    };
    assert_eq!(verify(r#"{"typ":"JWT","kid":"key","alg":"ES256"}"#), Ok(()));
    for (header, expected) in [
        (r#"{"alg":"none","kid":"key"}"#, InvalidToken::UnknownKey),
        (r#"{"alg":"HS256","kid":"key"}"#, InvalidToken::UnknownKey),
        (r#"{"alg":"RS256","kid":"key"}"#, InvalidToken::UnknownKey),
        (r#"{"alg":"ES384","kid":"key"}"#, InvalidToken::UnknownKey),
        (r#"{"alg":"es256","kid":"key"}"#, InvalidToken::UnknownKey),
        (r#"{"alg":"ES256","kid":"other"}"#, InvalidToken::UnknownKey),
        (r#"{"alg":"ES256","kid":""}"#, InvalidToken::UnknownKey),
        (r#"{"alg":"ES256"}"#, InvalidToken::Header),
        (r#"{"kid":"key"}"#, InvalidToken::Header),
        (r#"{"alg":"ES256","kid":1}"#, InvalidToken::Header),
        (
            r#"{"alg":"ES256","kid":"key","alg":"ES256"}"#,
            InvalidToken::Header,
        ),
        (
            r#"{"alg":"ES256","kid":"key","typ":"at+jwt"}"#,
            InvalidToken::Header,
        ),
        (
            r#"{"alg":"ES256","kid":"key","crit":[]}"#,
            InvalidToken::Header,
        ),
        (
            r#"{"alg":"ES256","kid":"key","b64":true}"#,
            InvalidToken::Header,
        ),
        (
            r#"{"alg":"ES256","kid":"key","jku":"https://x"}"#,
            InvalidToken::Header,
        ),
        (r#"["ES256","key"]"#, InvalidToken::Header),
        ("null", InvalidToken::Header),
    ] {
        assert_eq!(verify(header), Err(expected.into()), "{header}");
    }
}

#[test]
fn an_hmac_under_the_public_key_is_no_signature() {
    let signer = rsa("key");
    for header in [
        r#"{"alg":"HS256","kid":"key"}"#,
        r#"{"alg":"RS256","kid":"key"}"#,
    ] {
        let token = signer.hmac(header, &claims().to_string());
        let refused = verifier(signer).verify(&token, at(0));
        assert!(
            matches!(refused, Err(TokenError::Invalid(_))),
            "{header}: {refused:?}"
        );
    }
}

#[test]
fn another_keys_signature_is_none() {
    let (ours, others) = (Signer::p256("key"), Signer::p256("key"));
    let refused = verifier(&ours).verify(&others.token(&claims()), at(0));
    assert_eq!(refused, Err(InvalidToken::Signature.into()));
}

#[test]
fn what_nobody_signed_is_not_read() {
    let (ours, others) = (Signer::p256("key"), Signer::p256("key"));
    for claims in [
        changed("/aud", Some(json!(["another"]))),
        changed("/exp", Some(json!(NOW - 1))),
        changed("/iss", Some(json!("another"))),
    ] {
        let refused = verifier(&ours).verify(&others.token(&claims), at(0));
        assert_eq!(refused, Err(InvalidToken::Signature.into()));
    }
}

#[test]
fn identity_follows_the_key_whatever_the_issuer_says() {
    // Two clusters with one issuer, one audience, and keys of one name.
    let (east, west) = (Signer::p256("key"), Signer::p256("key"));
    let clusters = vec![cluster("east", &[&east]), cluster("west", &[&west])];
    let verifier = TokenVerifier::new(clusters).unwrap();
    for (signer, name) in [(&east, "east"), (&west, "west")] {
        let verified = verifier.verify(&signer.token(&claims()), at(0)).unwrap();
        let tenant = &verified.identity.account.tenant;
        assert_eq!(tenant.to_string(), format!("{name}/payments"));
    }
}

#[test]
fn a_token_of_one_cluster_is_not_measured_by_another_ones_texts() {
    let (east, west) = (Signer::p256("east"), Signer::p256("west"));
    let other = Cluster {
        issuer: "https://west".to_owned(),
        audience: "strongroom.dev/west".to_owned(),
        ..cluster("west", &[&west])
    };
    let verifier = TokenVerifier::new(vec![cluster("east", &[&east]), other]).unwrap();
    let mut claims = claims();
    claims["iss"] = json!("https://west");
    let refused = verifier.verify(&east.token(&claims), at(0));
    assert_eq!(refused, Err(InvalidToken::Issuer.into()));
    let refused = verifier.verify(&west.token(&claims), at(0));
    assert_eq!(refused, Err(TokenError::WrongAudience));
}

#[test]
fn an_old_and_a_new_key_both_count() {
    let (old, new) = (rsa("old"), Signer::p384("new"));
    let verifier = TokenVerifier::new(vec![cluster("east", &[old, &new])]).unwrap();
    for signer in [old, &new] {
        let verified = verifier.verify(&signer.token(&claims()), at(0));
        assert!(verified.is_ok(), "{verified:?}");
    }
}

#[test]
fn keys_of_a_cluster_are_replaced_and_not_merged() {
    let (old, new, other) = (
        Signer::p256("old"),
        Signer::p256("new"),
        Signer::p256("other"),
    );
    let clusters = vec![cluster("east", &[&old]), cluster("west", &[&other])];
    let verifier = TokenVerifier::new(clusters).unwrap();
    let verifier = verifier.with(cluster("east", &[&new])).unwrap();
    let counts = |signer: &Signer| verifier.verify(&signer.token(&claims()), at(0)).is_ok();
    assert_eq!([&old, &new, &other].map(counts), [false, true, true]);
    // A cluster whose keys were not known is registered with its first ones.
    let verifier = TokenVerifier::default()
        .with(cluster("east", &[&new]))
        .unwrap();
    assert!(verifier.verify(&new.token(&claims()), at(0)).is_ok());
    let taken = verifier.with(cluster("west", &[&new]));
    assert!(matches!(taken, Err(ClustersError::SharedKey { .. })));
}

#[test]
fn clusters_that_could_be_mistaken_are_refused() {
    let (first, second) = (Signer::p256("first"), Signer::p256("second"));
    let name = || "east".parse().unwrap();
    let same_name = vec![cluster("east", &[&first]), cluster("east", &[&second])];
    assert_eq!(
        TokenVerifier::new(same_name).unwrap_err(),
        ClustersError::SameName { name: name() }
    );
    let renamed = first.named("third");
    let shared = vec![
        cluster("east", &[&first]),
        cluster("west", &[&second, &renamed]),
    ];
    assert_eq!(
        TokenVerifier::new(shared).unwrap_err(),
        ClustersError::SharedKey {
            first: name(),
            second: "west".parse().unwrap()
        }
    );
}

#[test]
fn issuer_and_audience_are_plain_texts() {
    let signer = Signer::p256("key");
    let longest = "x".repeat(256);
    for (text, good) in [
        (longest.as_str(), true),
        (&"x".repeat(257), false),
        ("", false),
        ("a b", false),
        ("a\n", false),
        ("é", false),
    ] {
        let issuer = Cluster {
            issuer: text.to_owned(),
            ..cluster("east", &[&signer])
        };
        let audience = Cluster {
            audience: text.to_owned(),
            ..cluster("east", &[&signer])
        };
        assert_eq!(TokenVerifier::new(vec![issuer]).is_ok(), good, "{text:?}");
        assert_eq!(TokenVerifier::new(vec![audience]).is_ok(), good, "{text:?}");
    }
}

#[test]
fn errors_say_their_word_and_quote_no_claim() {
    let invalid = TokenError::from(InvalidToken::Claim { claim: "jti" });
    let words = [TokenError::WrongAudience, TokenError::Expired, invalid].map(TokenError::word);
    assert_eq!(words, ["WrongAudience", "TokenExpired", "TokenInvalid"]);
    assert_eq!(invalid.to_string(), "the token is not acceptable");
}
