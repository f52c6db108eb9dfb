//! Keys of peer certificates: which kinds are accepted, and the signatures that they make.
//!
//! Trust is by fingerprint, so nothing of a certificate matters but its public key (RFC 8827 §6.5). Accepted are RSA of
//! 2,048 to 8,192 bits (PKCS #1 and PSS), ECDSA on P-224, P-256, P-384 and P-521, and Ed25519. Browsers use P-256,
//! GStreamer before 1.28 RSA, and GnuTLS builds of FFmpeg P-224.

use super::p224;
use aws_lc_rs::digest;
use aws_lc_rs::signature as algorithms;
use aws_lc_rs::signature::{UnparsedPublicKey, VerificationAlgorithm};
use dimpl::CryptoError;
use x509_cert::Certificate;
use x509_cert::der::asn1::{SequenceRef, UintRef};
use x509_cert::der::{Decode, SliceReader, referenced::OwnedToRef};
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P224: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.33");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// Bits of the smallest and the largest RSA key.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Signature schemes that [`PublicKey::verify`] knows (RFC 8446 §4.2.3, RFC 8422 §5.1.3), best first.
pub(super) const SCHEMES: [u16; 10] = [0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601];

/// Kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P224,
    P256,
    P384,
    P521,
    Ed25519,
}

/// The public key of a certificate, of an accepted kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    kind: Kind,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Takes the key out of a certificate in DER. The error names the kind of key that is not accepted.
    pub(super) fn from_certificate(der: &[u8]) -> Result<PublicKey, String> {
        let certificate = Certificate::from_der(der).map_err(|error| format!("no valid X.509 structure ({error})"))?;
        let info = certificate.tbs_certificate().subject_public_key_info().owned_to_ref();
        let kind = kind(&info)?;
        let bytes = info.subject_public_key.as_bytes().ok_or("a malformed key")?.to_vec();
        Ok(PublicKey { kind, bytes })
    }

    /// Verifies `signature` over `data` by a scheme of [`SCHEMES`].
    pub(super) fn verify(&self, scheme: u16, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if self.kind == Kind::P224 {
            let hash = match scheme {
                0x0403 => &digest::SHA256,
                0x0503 => &digest::SHA384,
                0x0603 => &digest::SHA512,
                _ => return Err(CryptoError::UnsupportedPublicKeyAlgorithm),
            };
            let verified = p224::verify(&self.bytes, digest::digest(hash, data).as_ref(), signature);
            return if verified { Ok(()) } else { Err(REFUSED) };
        }
        let algorithm = algorithm(self.kind, scheme).ok_or(CryptoError::UnsupportedPublicKeyAlgorithm)?;
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(data, signature).map_err(|_| REFUSED)
    }
}

/// The error for dimpl when a signature is not valid.
const REFUSED: CryptoError = CryptoError::OperationFailed(dimpl::CryptoOperation::VerifySignature);

fn kind(info: &SubjectPublicKeyInfoRef<'_>) -> Result<Kind, String> {
    match info.algorithm.oid {
        RSA => {
            let bits = rsa_bits(info.subject_public_key.as_bytes().unwrap_or_default());
            if RSA_BITS.contains(&bits) { Ok(Kind::Rsa) } else { Err(format!("RSA of {bits} bits")) }
        }
        ED25519 => Ok(Kind::Ed25519),
        EC => match info.algorithm.parameters_oid() {
            Ok(P224) => Ok(Kind::P224),
            Ok(P256) => Ok(Kind::P256),
            Ok(P384) => Ok(Kind::P384),
            Ok(P521) => Ok(Kind::P521),
            Ok(other) => Err(format!("ECDSA on curve {other}")),
            Err(_) => Err("ECDSA without a named curve".to_owned()),
        },
        other => Err(format!("a key of algorithm {other}")),
    }
}

/// Bits of the modulus of a PKCS #1 public key; 0 when it is none.
fn rsa_bits(key: &[u8]) -> usize {
    let modulus = <&SequenceRef>::from_der(key).and_then(|key| UintRef::decode(&mut SliceReader::new(key.as_bytes())?));
    let Ok(modulus) = modulus else { return 0 };
    let bytes = modulus.as_bytes();
    8 * bytes.len() - bytes.first().map_or(0, |first| first.leading_zeros() as usize)
}

/// The verification algorithm of a scheme for this kind of key. DTLS 1.2 binds no hash to a curve.
fn algorithm(kind: Kind, scheme: u16) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (kind, scheme) {
        (Kind::P256, 0x0403) => &algorithms::ECDSA_P256_SHA256_ASN1,
        (Kind::P256, 0x0503) => &algorithms::ECDSA_P256_SHA384_ASN1,
        (Kind::P256, 0x0603) => &algorithms::ECDSA_P256_SHA512_ASN1,
        (Kind::P384, 0x0403) => &algorithms::ECDSA_P384_SHA256_ASN1,
        (Kind::P384, 0x0503) => &algorithms::ECDSA_P384_SHA384_ASN1,
        (Kind::P384, 0x0603) => &algorithms::ECDSA_P384_SHA512_ASN1,
        (Kind::P521, 0x0403) => &algorithms::ECDSA_P521_SHA256_ASN1,
        (Kind::P521, 0x0503) => &algorithms::ECDSA_P521_SHA384_ASN1,
        (Kind::P521, 0x0603) => &algorithms::ECDSA_P521_SHA512_ASN1,
        (Kind::Ed25519, 0x0807) => &algorithms::ED25519,
        (Kind::Rsa, 0x0401) => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        (Kind::Rsa, 0x0501) => &algorithms::RSA_PKCS1_2048_8192_SHA384,
        (Kind::Rsa, 0x0601) => &algorithms::RSA_PKCS1_2048_8192_SHA512,
        (Kind::Rsa, 0x0804) => &algorithms::RSA_PSS_2048_8192_SHA256,
        (Kind::Rsa, 0x0805) => &algorithms::RSA_PSS_2048_8192_SHA384,
        (Kind::Rsa, 0x0806) => &algorithms::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
