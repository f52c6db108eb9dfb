//! dimpl's crypto provider, with the peer certificates of [`certificate`] and, for the server, the CertificateRequest of
//! [`request`] in the transcript.
//!
//! [`certificate`]: super::certificate
//! [`request`]: super::request

use super::certificate::PublicKey;
use super::request::widen_transcript;
use dimpl::CryptoError;
use dimpl::crypto::{
    Buf, CryptoProvider, HashAlgorithm, HashContext, HashProvider, SignatureAlgorithm, SignatureVerifier, aws_lc_rs,
};

/// Returns the provider of DTLS servers.
pub(super) fn server() -> CryptoProvider {
    CryptoProvider {
        hash_provider: &ServerTranscripts,
        signature_verification: &ServerVerifier,
        ..aws_lc_rs::default_provider()
    }
}

/// Returns the provider of DTLS clients: the CertificateRequest in their transcripts is the peer's.
pub(super) fn client() -> CryptoProvider {
    CryptoProvider { signature_verification: &Verifier, ..aws_lc_rs::default_provider() }
}

#[derive(Debug)]
struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let key = PublicKey::from_certificate(certificate).map_err(|_| CryptoError::UnsupportedPublicKeyAlgorithm)?;
        // The two bytes are one scheme since RFC 8446: PSS and Ed25519 have no hash and algorithm of their own.
        key.verify(u16::from_be_bytes([hash.as_u8(), algorithm.as_u8()]), data, signature)
    }
}

/// Verifies a CertificateVerify: the data is the transcript.
#[derive(Debug)]
struct ServerVerifier;

impl SignatureVerifier for ServerVerifier {
    fn verify_signature(
        &self,
        certificate: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        Verifier.verify_signature(certificate, &widen_transcript(data), signature, hash, algorithm)
    }
}

/// Hashes transcripts; dimpl hashes nothing else, and each transcript in one piece.
#[derive(Debug)]
struct ServerTranscripts;

impl HashProvider for ServerTranscripts {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(ServerTranscript(aws_lc_rs::default_provider().hash_provider.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct ServerTranscript(Box<dyn HashContext>);

impl HashContext for ServerTranscript {
    fn update(&mut self, data: &[u8]) {
        self.0.update(&widen_transcript(data));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}
