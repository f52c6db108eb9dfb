//! Verifies one JSON Web Token and reads the claims that this server knows.
//!
//! Rules: RFC 7519 (claims), RFC 8725 (one pinned algorithm, issuer and audience checked when configured, `exp`
//! always). A claim of the wrong type is a refusal, not an absence.

use super::Secret;
use clap::ValueEnum;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Seconds by which clocks may differ for `exp` and `nbf`.
const LEEWAY: u64 = 30;

/// The longest token that is looked at, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scope {
    /// Send media.
    Publish,
    /// Receive media and recordings.
    Subscribe,
    /// Everything, in the rooms of the token.
    Admin,
}

impl Scope {
    /// The word in the `scope` claim.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Publish => "publish",
            Scope::Subscribe => "subscribe",
            Scope::Admin => "admin",
        }
    }

    fn parse(word: &str) -> Option<Scope> {
        [Scope::Publish, Scope::Subscribe, Scope::Admin].into_iter().find(|scope| scope.name() == word)
    }
}

/// Why a token proves nothing. Said to the client: nothing here helps to forge one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a bearer token.
    #[error("the Authorization header is not of the scheme Bearer")]
    Scheme,
    /// Another than the management token.
    #[error("it is not the management token")]
    NotManagement,
    /// Not a JWT, or a claim of a wrong type.
    #[error("it is malformed")]
    Malformed,
    /// `alg` is not HS256.
    #[error("it is not signed with HS256")]
    Algorithm,
    /// Signed by another key, or changed.
    #[error("its signature does not match")]
    Signature,
    /// `exp` has passed.
    #[error("it has expired")]
    Expired,
    /// There is no `exp`.
    #[error("it has no exp claim, so it would never expire")]
    NoExpiry,
    /// `nbf` has not come yet.
    #[error("it is not valid yet")]
    NotYet,
    /// Another audience, or none.
    #[error("it is for another audience")]
    Audience,
    /// Another issuer, or none.
    #[error("it is from another issuer")]
    Issuer,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`.
    pub subject: Option<String>,
    /// `account`.
    pub account: Option<String>,
    /// `scope`; words that this server does not know are dropped.
    pub scopes: BTreeSet<Scope>,
    /// `exp`, with the leeway added: seconds of Unix time from which it is refused.
    pub expires: u64,
    /// `room`; `None` when there is no such claim.
    rooms: Option<Vec<String>>,
}

impl Claims {
    /// True when the token is for this room, or with `None` for every room.
    pub fn grants_room(&self, room: Option<&str>) -> bool {
        match &self.rooms {
            None => self.scopes.contains(&Scope::Admin),
            Some(rooms) => rooms.iter().any(|granted| granted == "*" || Some(granted.as_str()) == room),
        }
    }
}

#[derive(Deserialize)]
struct RawClaims {
    /// A NumericDate may have a fraction (RFC 7519 §2). Whether it is one is the library's to judge.
    #[serde(default)]
    exp: serde_json::Value,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    scope: Option<OneOrMany>,
    #[serde(default)]
    room: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<RawClaims> for Claims {
    fn from(raw: RawClaims) -> Claims {
        let words: Vec<String> = match raw.scope {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
            Some(OneOrMany::Many(words)) => words,
        };
        Claims {
            subject: raw.sub.filter(|subject| !subject.is_empty()),
            account: raw.account.filter(|account| !account.is_empty()),
            // A cast of what is out of range gives the bound.
            expires: (raw.exp.as_f64().unwrap_or_default() as u64).saturating_add(LEEWAY),
            scopes: words.iter().filter_map(|word| Scope::parse(word)).collect(),
            rooms: raw.room.map(|rooms| match rooms {
                OneOrMany::One(room) => vec![room],
                OneOrMany::Many(rooms) => rooms,
            }),
        }
    }
}

/// Checks tokens against one key and one set of rules.
#[derive(Clone)]
pub struct Verifier {
    key: DecodingKey,
    rules: Validation,
    /// The same without the expiry.
    timeless: Validation,
}

impl Verifier {
    /// Rules: HS256, `exp` required, `nbf` honoured, `iss` and `aud` required when given here.
    pub fn new(secret: &Secret, issuer: Option<&str>, audience: Option<&str>) -> Verifier {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.leeway = LEEWAY;
        rules.validate_nbf = true;
        let mut required = vec!["exp"];
        if let Some(issuer) = issuer {
            rules.set_issuer(&[issuer]);
            required.push("iss");
        }
        match audience {
            Some(audience) => {
                rules.set_audience(&[audience]);
                required.push("aud");
            }
            // No audience is configured: a token for somebody else cannot be told from one for us.
            None => rules.validate_aud = false,
        }
        rules.set_required_spec_claims(&required);
        let mut timeless = rules.clone();
        timeless.validate_exp = false;
        Verifier { key: DecodingKey::from_secret(secret.expose()), rules, timeless }
    }

    /// Verifies signature first, claims after, so that only holders of a signed token learn about claims.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_by(&self.rules, token)
    }

    /// As [`Verifier::verify`], for a token that may have expired.
    pub fn verify_expired(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_by(&self.timeless, token)
    }

    fn verify_by(&self, rules: &Validation, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_LENGTH {
            return Err(TokenError::Malformed);
        }
        match jsonwebtoken::decode::<RawClaims>(token, &self.key, rules) {
            Ok(data) => Ok(data.claims.into()),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
                ErrorKind::InvalidSignature => TokenError::Signature,
                ErrorKind::ExpiredSignature => TokenError::Expired,
                ErrorKind::ImmatureSignature => TokenError::NotYet,
                ErrorKind::InvalidAudience => TokenError::Audience,
                ErrorKind::InvalidIssuer => TokenError::Issuer,
                ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
                    "exp" => TokenError::NoExpiry,
                    "aud" => TokenError::Audience,
                    "iss" => TokenError::Issuer,
                    _ => TokenError::Malformed,
                },
                _ => TokenError::Malformed,
            }),
        }
    }
}

/// Tokens for tests of this crate.
#[cfg(test)]
pub(crate) mod test_tokens {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::Value;

    /// 32 bytes, as HS256 asks for.
    pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

    /// Signed by HS256 with [`SECRET`].
    pub(crate) fn sign(claims: Value) -> String {
        sign_with(Algorithm::HS256, SECRET, claims)
    }

    /// Signed by another HMAC or another key.
    pub(crate) fn sign_with(algorithm: Algorithm, secret: &str, claims: Value) -> String {
        encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    /// Header and claims as given, and a signature of the bytes that are given.
    pub(crate) fn forge(header: &str, claims: &Value, signature: &str) -> String {
        format!("{}.{}.{signature}", base64url(header.as_bytes()), base64url(claims.to_string().as_bytes()))
    }

    fn base64url(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for index in 0..=chunk.len() {
                out.push(ALPHABET[(word >> (18 - 6 * index)) as usize & 63] as char);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::test_tokens::{SECRET, forge, sign, sign_with};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn verifier() -> Verifier {
        Verifier::new(&Secret::new(SECRET), Some("https://issuer"), Some("cams"))
    }

    fn good() -> Value {
        json!({"sub": "door", "iss": "https://issuer", "aud": "cams", "exp": 4_000_000_000u64,
               "scope": "publish", "room": "a", "account": "acme"})
    }

    fn changed(field: &str, value: Value) -> Value {
        let mut claims = good();
        claims[field] = value;
        claims
    }

    fn without(field: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(field);
        claims
    }

    #[test]
    fn a_good_token_gives_its_claims() {
        let claims = verifier().verify(&sign(good())).unwrap();
        assert_eq!(claims.subject.as_deref(), Some("door"));
        assert_eq!(claims.account.as_deref(), Some("acme"));
        assert!(claims.grants_room(Some("a")) && !claims.grants_room(Some("b")) && !claims.grants_room(None));
    }

    #[test]
    fn scope_may_be_an_array_and_unknown_words_are_dropped() {
        let claims = verifier().verify(&sign(changed("scope", json!(["subscribe", "fly", "admin"])))).unwrap();
        assert_eq!(claims.scopes.into_iter().collect::<Vec<_>>(), [Scope::Subscribe, Scope::Admin]);
    }

    #[test]
    fn time_issuer_and_audience_are_checked() {
        for (claims, expected) in [
            (changed("exp", json!(1_000_000_000)), TokenError::Expired),
            (without("exp"), TokenError::NoExpiry),
            (changed("exp", json!("soon")), TokenError::NoExpiry),
            (changed("nbf", json!(3_900_000_000u64)), TokenError::NotYet),
            (changed("aud", json!("others")), TokenError::Audience),
            (without("aud"), TokenError::Audience),
            (changed("iss", json!("https://evil")), TokenError::Issuer),
            (without("iss"), TokenError::Issuer),
            (changed("room", json!(7)), TokenError::Malformed),
            (changed("scope", json!({"publish": true})), TokenError::Malformed),
        ] {
            assert_eq!(verifier().verify(&sign(claims.clone())), Err(expected), "{claims}");
        }
    }

    #[test]
    fn another_key_another_algorithm_and_no_signature_are_refused() {
        let verifier = verifier();
        let other_key = sign_with(Algorithm::HS256, "another secret of thirty-two bytes", good());
        assert_eq!(verifier.verify(&other_key), Err(TokenError::Signature));
        assert_eq!(verifier.verify(&sign_with(Algorithm::HS512, SECRET, good())), Err(TokenError::Algorithm));
        for algorithm in ["none", "None", "nOnE", "RS256", "ES256", "EdDSA"] {
            let header = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#);
            for signature in ["", "AAAA"] {
                let got = verifier.verify(&forge(&header, &good(), signature));
                assert!(matches!(got, Err(TokenError::Algorithm | TokenError::Malformed)), "{algorithm}: {got:?}");
            }
        }
        let changed_claims = {
            let signature = sign(good()).rsplit('.').next().unwrap().to_owned();
            forge(r#"{"alg":"HS256","typ":"JWT"}"#, &changed("room", json!("*")), &signature)
        };
        assert_eq!(verifier.verify(&changed_claims), Err(TokenError::Signature));
    }

    #[test]
    fn a_key_in_the_header_is_not_used() {
        let header =
            format!(r#"{{"alg":"HS256","typ":"JWT","jwk":{{"kty":"oct","k":"{SECRET}"}},"kid":"../../dev/null"}}"#);
        assert!(verifier().verify(&forge(&header, &good(), "AAAA")).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(token in "[ -~]{0,200}") {
            prop_assert!(verifier().verify(&token).is_err());
        }

        #[test]
        fn dotted_garbage_is_refused_and_never_panics(a in "[A-Za-z0-9_-]{0,40}", b in "[A-Za-z0-9_-]{0,40}", c in "[A-Za-z0-9_-]{0,60}") {
            let token = format!("{a}.{b}.{c}");
            prop_assert!(verifier().verify(&token).is_err());
        }
    }
}
