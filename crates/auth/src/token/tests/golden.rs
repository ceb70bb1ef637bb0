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
