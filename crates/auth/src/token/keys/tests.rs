//! Key sets as API servers serve them, and everything that must not be taken for one.

use serde_json::json;

use super::*;

/// The key of RFC 7515, appendix A.3.
fn ec() -> Value {
    json!({
        "kid": "ec", "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

/// Any odd number of so many bits: whether it has two factors is between the API server and its key.
fn rsa(bits: usize) -> Value {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> (modulus.len() * 8 - bits);
    json!({
        "kid": "rsa", "kty": "RSA", "use": "sig", "alg": "RS256",
        "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB",
    })
}

fn parse(keys: &[Value]) -> Result<IssuerKeys, IssuerKeysError> {
    IssuerKeys::from_jwks(json!({ "keys": keys }).to_string().as_bytes())
}

/// The key with members replaced; null removes one.
fn with(mut key: Value, members: Value) -> Value {
    let Value::Object(members) = members else {
        panic!("members are an object");
    };
    for (member, value) in members {
        let object = key.as_object_mut().unwrap();
        match value {
            Value::Null => object.remove(&member),
            value => object.insert(member, value),
        };
    }
    key
}

#[track_caller]
fn assert_refused(key: Value, source: KeyError) {
    let refused = parse(std::slice::from_ref(&key)).unwrap_err();
    assert_eq!(refused, IssuerKeysError::Key { index: 0, source }, "{key}");
}

#[test]
fn the_type_of_a_key_is_its_algorithm() {
    let keys = parse(&[ec(), rsa(2048)]).unwrap();
    assert!(keys.find("ec", "ES256").is_some());
    assert!(keys.find("rsa", "RS256").is_some());
    for (name, algorithm) in [
        ("ec", "RS256"),
        ("ec", "ES384"),
        ("ec", "none"),
        ("rsa", "ES256"),
        ("rsa", "PS256"),
        ("rsa", "RS384"),
        ("other", "RS256"),
    ] {
        assert!(keys.find(name, algorithm).is_none(), "{name} {algorithm}");
    }
    let silent = with(ec(), json!({"alg": null, "use": null}));
    assert!(parse(&[silent]).unwrap().find("ec", "ES256").is_some());
}

#[test]
fn a_key_is_for_signatures_and_for_its_algorithm() {
    for members in [
        json!({"use": "enc"}),
        json!({"use": 1}),
        json!({"key_ops": ["encrypt"]}),
        json!({"key_ops": "verify"}),
    ] {
        assert_refused(with(ec(), members), KeyError::Use);
    }
    assert!(parse(&[with(ec(), json!({"key_ops": ["verify"]}))]).is_ok());
    for algorithm in [json!("RS256"), json!("none"), json!(1)] {
        let expected = KeyError::Algorithm { expected: "ES256" };
        assert_refused(with(ec(), json!({ "alg": algorithm })), expected);
    }
    let expected = KeyError::Algorithm { expected: "RS256" };
    assert_refused(with(rsa(2048), json!({"alg": "PS256"})), expected);
}

#[test]
fn private_and_symmetric_keys_are_refused() {
    assert_refused(with(ec(), json!({"d": "AQ"})), KeyError::Private);
    assert_refused(with(rsa(2048), json!({"p": "AQ"})), KeyError::Private);
    let symmetric = json!({"kid": "x", "kty": "oct", "k": "AQAB"});
    assert_refused(symmetric, KeyError::Private);
}

#[test]
fn other_types_and_curves_are_refused() {
    for members in [
        json!({"kty": "OKP", "crv": "Ed25519"}),
        json!({"kty": "ec"}),
        json!({"kty": null}),
        json!({"crv": "secp256k1"}),
        json!({"crv": null}),
    ] {
        assert_refused(with(ec(), members), KeyError::Type);
    }
}

#[test]
fn a_key_has_a_name() {
    let longest = "n".repeat(256);
    assert!(parse(&[with(ec(), json!({ "kid": longest }))]).is_ok());
    for name in [json!(null), json!(""), json!(7), json!("n".repeat(257))] {
        assert_refused(with(ec(), json!({ "kid": name })), KeyError::Name);
    }
}

#[test]
fn an_rsa_key_has_2048_to_8192_bits() {
    for bits in [2048, 2049, 4096, 8192] {
        assert!(parse(&[rsa(bits)]).is_ok(), "{bits}");
    }
    for bits in [1024, 2047, 8193] {
        assert_refused(rsa(bits), KeyError::RsaSize { bits });
    }
    let padded = URL_SAFE_NO_PAD.encode([[0; 1].as_slice(), &[0xff; 256]].concat());
    for modulus in [json!(null), json!(""), json!("AQ="), json!(padded)] {
        let key = with(rsa(2048), json!({ "n": modulus }));
        assert_refused(key, KeyError::Number { member: "n" });
    }
}

#[test]
fn an_rsa_exponent_is_odd_and_more_than_one() {
    let exponent = |bytes: &[u8]| {
        let e = URL_SAFE_NO_PAD.encode(bytes);
        with(rsa(2048), json!({ "e": e }))
    };
    for good in [[3].as_slice(), &[1, 0, 1], &[0xff, 0xff, 0xff, 0xff]] {
        assert!(parse(&[exponent(good)]).is_ok(), "{good:?}");
    }
    for bad in [
        [].as_slice(),
        &[0],
        &[1],
        &[2],
        &[1, 0, 0],
        &[0, 3],
        &[1, 0, 0, 0, 1],
    ] {
        assert_refused(exponent(bad), KeyError::Number { member: "e" });
    }
}

#[test]
fn a_point_lies_on_its_curve() {
    let other = json!({"x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV"});
    // Its last digit has bits left over: no canonical base64url.
    assert_refused(with(ec(), other), KeyError::Number { member: "x" });
    let beside = json!({"x": "e83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"});
    assert_refused(with(ec(), beside), KeyError::Invalid);
    let short = json!({"y": URL_SAFE_NO_PAD.encode([1; 31])});
    assert_refused(with(ec(), short), KeyError::Number { member: "y" });
    let another_curve = json!({"crv": "P-384", "alg": "ES384"});
    assert_refused(with(ec(), another_curve), KeyError::Number { member: "x" });
}

#[test]
fn a_set_has_1_to_16_keys_of_different_names() {
    let named = |number: usize| with(ec(), json!({"kid": number.to_string()}));
    let keys: Vec<_> = (0..17).map(named).collect();
    assert!(parse(&keys[..16]).is_ok());
    for count in [0, 17] {
        let refused = parse(&keys[..count]).unwrap_err();
        assert_eq!(refused, IssuerKeysError::Count { count });
    }
    let twice = parse(&[ec(), with(rsa(2048), json!({"kid": "ec"}))]).unwrap_err();
    let name = "ec".to_owned();
    assert_eq!(twice, IssuerKeysError::SameName { name });
}

#[test]
fn anything_but_a_key_set_is_refused() {
    let large = format!(r#"{{"keys":[{}],"x":"{}"}}"#, ec(), "x".repeat(64 * 1024));
    for text in [
        "",
        "{}",
        "[]",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[]} {}"#,
        &large,
    ] {
        let refused = IssuerKeys::from_jwks(text.as_bytes()).unwrap_err();
        assert_eq!(refused, IssuerKeysError::Form, "{text}");
    }
}

#[test]
fn keys_in_common_are_found_under_other_names() {
    let (ours, theirs) = (parse(&[rsa(2048), ec()]).unwrap(), parse(&[ec()]).unwrap());
    let renamed = parse(&[with(ec(), json!({"kid": "other"}))]).unwrap();
    let others = parse(&[rsa(3072)]).unwrap();
    assert!(ours.share_one(&theirs) && renamed.share_one(&ours));
    assert!(!others.share_one(&ours));
}
