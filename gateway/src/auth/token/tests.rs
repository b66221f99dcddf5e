//! Forged, foreign and stale tokens.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::engine::general_purpose::STANDARD;
use booking::clock::ManualClock;
use serde_json::{Value, json};

use super::*;

const NOW: UnixMs = UnixMs(1_800_000_000_000);
const NOW_S: i64 = NOW.0 / 1000;

struct Issuer {
    key: SigningKey,
    clock: Arc<ManualClock>,
    tokens: Tokens,
}

fn issuer() -> Issuer {
    let key = SigningKey::generate().expect("a key");
    let clock = Arc::new(ManualClock::at(NOW));
    let tokens = Tokens::new(&key, &[], clock.clone()).expect("tokens");
    Issuer { key, clock, tokens }
}

fn issue(tokens: &Tokens) -> String {
    let patients = [PatientId::from(7), PatientId::from(9)];
    tokens.issue(AccountId::from(3), Role::Patient, &patients, NOW).expect("signed")
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "3", "exp": NOW_S + 60, "nbf": NOW_S, "iat": NOW_S,
        "jti": "x", "role": "admin", "patients": [],
    })
}

impl Issuer {
    /// Signs whatever it is told to, with the right key.
    fn sign(&self, claims: &Value) -> String {
        let kid = Some(kid_of(&self.key.public));
        let header = Header { kid, ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&self.key.private))
            .expect("signed")
    }

    /// Signs any text, with the right key.
    fn sign_text(&self, head: &str, claims: &str) -> String {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&self.key.private).expect("a key");
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes())))
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn an_issued_token_speaks_for_its_account() {
    let issuer = issuer();
    let identity = Identity {
        account: AccountId::from(3),
        role: Role::Patient,
        patients: [PatientId::from(7), PatientId::from(9)].into_iter().collect(),
    };
    let token = issue(&issuer.tokens);
    assert_eq!(issuer.tokens.verify(&token), Some(identity.clone()));
    assert_eq!(issuer.tokens.verify(&token), Some(identity), "remembered");
    assert!(token.len() < 600, "{}", token.len());
}

#[test]
fn a_token_ends_also_when_it_is_remembered() {
    let issuer = issuer();
    let token = issue(&issuer.tokens);
    assert!(issuer.tokens.verify(&token).is_some());
    issuer.clock.set(NOW.plus_ms((TTL_S + LEEWAY_S) * 1000 - 1));
    assert!(issuer.tokens.verify(&token).is_some());
    issuer.clock.set(NOW.plus_ms((TTL_S + LEEWAY_S) * 1000));
    assert!(issuer.tokens.verify(&token).is_none());
}

#[test]
fn a_token_signed_with_the_former_key_is_good_while_that_key_is_listed() {
    let old = issuer();
    let new = SigningKey::generate().expect("a key");
    let both = Tokens::new(&new, &[old.key.public], old.clock.clone()).expect("tokens");
    let alone = Tokens::new(&new, &[], old.clock.clone()).expect("tokens");
    let token = issue(&old.tokens);
    assert!(both.verify(&token).is_some());
    assert!(alone.verify(&token).is_none());
}

#[test]
fn the_algorithm_is_not_the_tokens_to_choose() {
    let issuer = issuer();
    let kid = kid_of(&issuer.key.public);
    let body = part(&claims());
    for none in ["none", "None", "NONE"] {
        let head = part(&json!({ "alg": none, "typ": "JWT", "kid": kid }));
        assert!(issuer.tokens.verify(&format!("{head}.{body}.")).is_none(), "{none}");
    }
    // The classic: a MAC keyed with the public key, which everybody may know, in whatever form.
    for secret in spellings(&issuer.key) {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { kid: Some(kid.clone()), ..Header::new(algorithm) };
            let key = EncodingKey::from_secret(&secret);
            let forged = jsonwebtoken::encode(&header, &claims(), &key).expect("signed");
            assert!(issuer.tokens.verify(&forged).is_none(), "{algorithm:?}");
        }
    }
    // Rightly signed, and yet not what it says it is.
    for other in ["none", "HS256", "RS256", "ES256", "eddsa", ""] {
        let head = json!({ "alg": other, "kid": kid });
        let forged = issuer.sign_text(&head.to_string(), &claims().to_string());
        assert!(issuer.tokens.verify(&forged).is_none(), "{other}");
    }
}

/// The keys as somebody might have found and copied them.
fn spellings(key: &SigningKey) -> Vec<Vec<u8>> {
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend(key.public);
    let base64 = STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----");
    let hex: Vec<_> = key.public.iter().map(|byte| format!("{byte:02x}")).collect();
    let texts = [
        format!("{pem}\n"),
        pem,
        base64,
        STANDARD.encode(key.public),
        URL_SAFE_NO_PAD.encode(key.public),
        hex.concat(),
        kid_of(&key.public),
        String::new(),
    ];
    let bytes = [key.public.to_vec(), der, key.private.clone()];
    texts.into_iter().map(String::into_bytes).chain(bytes).collect()
}

#[test]
fn a_key_comes_from_the_list_and_not_from_the_token() {
    let (issuer, stranger) = (issuer(), issuer());
    let kid = kid_of(&issuer.key.public);
    let x = URL_SAFE_NO_PAD.encode(stranger.key.public);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1/keys")),
        ("x5u", json!("http://127.0.0.1/certificate")),
        ("x5c", json!([x])),
    ] {
        let mut head = json!({ "alg": "EdDSA", "kid": kid });
        head[name] = value;
        let forged = stranger.sign_text(&head.to_string(), &claims().to_string());
        assert!(issuer.tokens.verify(&forged).is_none(), "{name}");
    }
    let short = &kid[..kid.len() - 1];
    for bad in
        [json!("../../../dev/null"), json!(""), json!(short), json!(0), json!([kid]), json!(null)]
    {
        let head = json!({ "alg": "EdDSA", "kid": bad });
        let signed = issuer.sign_text(&head.to_string(), &claims().to_string());
        assert!(issuer.tokens.verify(&signed).is_none(), "{bad}");
    }
}

#[test]
fn a_signature_of_another_key_or_over_other_claims_is_worth_nothing() {
    let (issuer, stranger) = (issuer(), issuer());
    let forged = stranger.sign(&claims());
    assert!(issuer.tokens.verify(&forged).is_none(), "an unknown kid");
    let (_, rest) = forged.split_once('.').expect("three parts");
    let head = part(&json!({ "alg": "EdDSA", "kid": kid_of(&issuer.key.public) }));
    assert!(issuer.tokens.verify(&format!("{head}.{rest}")).is_none(), "a borrowed kid");
    let token = issuer.sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let other = part(&json!({ "sub": "1" }));
    let changed = format!("{}.{}.{}", parts[0], other, parts[2]);
    assert!(issuer.tokens.verify(&changed).is_none(), "other claims");
    let head = part(&json!({ "alg": "EdDSA" }));
    assert!(issuer.tokens.verify(&format!("{head}.{rest}")).is_none(), "no kid");
}

#[test]
fn every_claim_that_counts_is_checked() {
    let issuer = issuer();
    assert!(issuer.tokens.verify(&issuer.sign(&claims())).is_some());
    let wrong = [
        ("iss", json!("someone")),
        ("aud", json!("someone")),
        ("sub", json!("-3")),
        ("sub", json!(3)),
        ("exp", json!(NOW_S - LEEWAY_S)),
        ("iss", json!([ISSUER])),
        ("aud", json!([AUDIENCE, "someone"])),
        ("exp", json!((NOW_S + 60).to_string())),
        ("exp", json!(1_800_000_060.5)),
        ("exp", json!(null)),
        ("exp", json!(-1)),
        ("exp", json!(i64::MIN)),
        ("exp", json!(i64::MAX)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(1e300)),
        ("exp", json!(NOW_S + TTL_S + LEEWAY_S + 1)),
        ("nbf", json!(NOW_S + LEEWAY_S + 1)),
        ("nbf", json!(i64::MAX)),
        ("nbf", json!(NOW_S.to_string())),
        ("role", json!("root")),
        ("patients", json!("7")),
    ];
    for (name, value) in wrong {
        let mut claims = claims();
        claims[name] = value.clone();
        assert!(issuer.tokens.verify(&issuer.sign(&claims)).is_none(), "{name} = {value}");
    }
    for name in ["iss", "aud", "sub", "exp", "nbf", "role"] {
        let mut claims = claims();
        claims.as_object_mut().expect("an object").remove(name);
        assert!(issuer.tokens.verify(&issuer.sign(&claims)).is_none(), "no {name}");
    }
}

#[test]
fn a_claim_said_twice_is_no_claim() {
    let issuer = issuer();
    let head = json!({ "alg": "EdDSA", "kid": kid_of(&issuer.key.public) }).to_string();
    let once = claims().to_string();
    assert!(issuer.tokens.verify(&issuer.sign_text(&head, &once)).is_some());
    let twice = once.replacen('{', "{\"role\":\"patient\",", 1);
    assert!(issuer.tokens.verify(&issuer.sign_text(&head, &twice)).is_none());
}

#[test]
fn what_is_too_long_or_no_token_is_not_looked_at() {
    let issuer = issuer();
    let mut claims = claims();
    claims["jti"] = json!("x".repeat(TOKEN_BYTES_MAX));
    assert!(issuer.tokens.verify(&issuer.sign(&claims)).is_none());
    for bad in ["", ".", "..", "a.b.c", "é"] {
        assert!(issuer.tokens.verify(bad).is_none(), "{bad}");
    }
}
