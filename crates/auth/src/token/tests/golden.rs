//! Frozen texts that others signed.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

/// RFC 7515, appendix A.3: its key signed its text. The token itself has no key id, so that it is refused.
#[test]
fn the_example_of_the_standard_verifies_under_its_key() {
    let set = br#"{"keys":[{"kid":"rfc","kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    let keys = IssuerKeys::from_jwks(set).unwrap();
    let key = keys.find("rfc", "ES256").unwrap();
    let signed = concat!(
        "eyJhbGciOiJFUzI1NiJ9.",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    );
    let signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let decoded = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert!(key.signed(signed.as_bytes(), &decoded));
    assert!(!key.signed(&signed.as_bytes()[1..], &decoded));

    let cluster = Cluster {
        name: "rfc".parse().unwrap(),
        issuer: "joe".to_owned(),
        audience: AUDIENCE.to_owned(),
        keys,
    };
    let verifier = TokenVerifier::new(vec![cluster]).unwrap();
    let token = format!("{signed}.{signature}");
    let refused = verifier.verify(&token, UnixMillis::new(1_300_000_000_000));
    assert_eq!(refused, Err(InvalidToken::Header.into()));
}

/// Tokens of kube-apiserver v1.36.3 and v1.32.2 for a pod, asked for with 3600 seconds, and the key sets that it served.
/// They ended in November 2026, and so did their keys.
#[test]
fn tokens_of_api_servers_are_accepted_in_their_hour_with_what_they_say() {
    for (set, token, begins, expected) in [
        (
            include_str!("golden/rs256.jwks.json"),
            include_str!("golden/rs256.token"),
            1_795_350_392,
            "payments/api-7d4f9#eadba173-71e3-4dd2-a5f0-2e0b8ca72035,\
             account=api#c00c84b0-da18-4c84-9280-5ada10a5123a,\
             node=worker-1#7cf66ad0-eaed-4929-a3ca-ac36360d227f,\
             token=4d197aae-e82f-46a3-b092-734b99bff8cb",
        ),
        (
            include_str!("golden/es256.jwks.json"),
            include_str!("golden/es256.token"),
            1_795_350_400,
            "payments/api-7d4f9#e79200c6-3235-45a6-b029-4900ba7db0df,\
             account=api#5aaccb63-fef5-4179-aa0e-1f21fd37abc9,\
             node=worker-1#89b3a134-9f08-468d-81f0-91bc993ba6c2,\
             token=39a33be6-7cf7-4441-a09b-fb69b2080dbd",
        ),
        (
            include_str!("golden/es384-oldest.jwks.json"),
            include_str!("golden/es384-oldest.token"),
            1_795_350_566,
            "payments/api-7d4f9#1f458e5f-3de4-4a18-b707-021d369ca950,\
             account=api#0070ce74-144a-4c88-a320-8e4ff6269212,\
             node=worker-1#e8d2e772-42e0-4e15-8b40-6a2de3a4fc9c,\
             token=b281894b-39c7-4124-987c-71b374f90159",
        ),
    ] {
        let cluster = Cluster {
            name: "east".parse().unwrap(),
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            keys: IssuerKeys::from_jwks(set.as_bytes()).unwrap(),
        };
        let verifier = TokenVerifier::new(vec![cluster]).unwrap();
        let second = |second: i64| UnixMillis::new((begins + second) * 1000);
        let verified = verifier.verify(token, second(0)).unwrap();
        assert_eq!(verified.identity.to_string(), format!("east/{expected}"));
        assert_eq!(verified.expires, second(3600));
        let over = verifier.verify(token, second(3600));
        assert_eq!(over, Err(TokenError::Expired));
    }
}
