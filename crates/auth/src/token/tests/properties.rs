//! Whatever text comes, it is refused unless it is byte by byte what was signed.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::p256("key"));
static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| verifier(&SIGNER));
static TOKEN: LazyLock<String> = LazyLock::new(|| SIGNER.token(&claims()));

fn is_invalid(token: &str) -> bool {
    matches!(VERIFIER.verify(token, at(0)), Err(TokenError::Invalid(_)))
}

proptest! {
    #[test]
    fn any_text_is_refused(text in ".*") {
        prop_assert!(is_invalid(&text));
    }

    #[test]
    fn anything_in_three_parts_is_refused(text in r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,90}") {
        prop_assert!(is_invalid(&text));
    }

    #[test]
    fn any_json_in_the_header_is_refused(
        header in r#"\{("(alg|kid|typ|crit|jwk)":("[A-Za-z0-9]{0,6}"|1|null|\[\]|\{\}),?){0,4}\}"#,
    ) {
        let token = SIGNER.sign(&header, &claims().to_string());
        prop_assume!(header != SIGNER.header());
        prop_assert!(is_invalid(&token));
    }

    #[test]
    fn one_other_character_and_it_is_refused(
        place in any::<prop::sample::Index>(),
        character in r"[A-Za-z0-9_.=+/ \n-]",
    ) {
        let place = place.index(TOKEN.len());
        let mut token = TOKEN.clone();
        token.replace_range(place..=place, &character);
        prop_assume!(token != *TOKEN);
        prop_assert!(is_invalid(&token));
    }

    #[test]
    fn one_character_more_and_it_is_refused(
        place in any::<prop::sample::Index>(),
        character in r"[A-Za-z0-9_.=+/ \n\x00-]",
    ) {
        let place = place.index(TOKEN.len() + 1);
        let mut token = TOKEN.clone();
        token.insert_str(place, &character);
        prop_assert!(is_invalid(&token));
    }

    #[test]
    fn cut_anywhere_it_is_refused(place in any::<prop::sample::Index>()) {
        let place = place.index(TOKEN.len());
        prop_assert!(is_invalid(&TOKEN[..place]));
        prop_assert!(place == 0 || is_invalid(&TOKEN[place..]));
    }
}

#[test]
fn the_token_that_these_tests_change_is_accepted() {
    let verified = VERIFIER.verify(&TOKEN, at(0));
    assert!(verified.is_ok(), "{verified:?}");
}

#[test]
fn nothing_longer_than_8_kib_is_looked_at() {
    let filled = |length: usize| {
        let mut claims = claims();
        claims["x"] = json!("");
        // Four characters for each three bytes: the first length from which on it is too long.
        claims["x"] = json!("x".repeat((length - SIGNER.token(&claims).len()) * 3 / 4));
        SIGNER.token(&claims)
    };
    let (fits, long) = (filled(TOKEN_BYTES_MAX), filled(TOKEN_BYTES_MAX + 4));
    assert!(fits.len() <= TOKEN_BYTES_MAX && long.len() > TOKEN_BYTES_MAX);
    assert!(VERIFIER.verify(&fits, at(0)).is_ok());
    let refused = VERIFIER.verify(&long, at(0));
    assert_eq!(refused, Err(InvalidToken::TooLong.into()));
}
