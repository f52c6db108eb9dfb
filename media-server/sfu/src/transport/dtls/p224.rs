//! Verifies ECDSA signatures on P-224, the one curve of peers that aws-lc does not have (`UnparsedPublicKey` has none for it).

use p224::ecdsa::signature::hazmat::PrehashVerifier;
use p224::ecdsa::{DerSignature, VerifyingKey};

/// Verifies a signature in DER over a hash of at least 28 bytes. The key is an uncompressed point.
pub(super) fn verify(key: &[u8], hash: &[u8], signature: &[u8]) -> bool {
    let key = VerifyingKey::from_sec1_bytes(key);
    let verified = key.and_then(|key| key.verify_prehash(hash, &DerSignature::from_bytes(signature)?));
    verified.is_ok()
}

/// Public keys and signatures for the peers of tests.
#[cfg(test)]
pub(in crate::transport) mod signing {
    use p224::ecdsa::signature::hazmat::PrehashSigner;
    use p224::ecdsa::{DerSignature, SigningKey};

    /// Returns the uncompressed public key of a secret of 28 bytes.
    pub(in crate::transport) fn public_key(secret: &[u8]) -> Vec<u8> {
        let key = SigningKey::from_slice(secret).unwrap();
        key.verifying_key().to_encoded_point(false).as_bytes().to_vec()
    }

    /// Returns the signature in DER over a hash.
    pub(in crate::transport) fn sign(secret: &[u8], hash: &[u8]) -> Vec<u8> {
        let signature: DerSignature = SigningKey::from_slice(secret).unwrap().sign_prehash(hash).unwrap();
        signature.as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn der(numbers: &[Vec<u8>]) -> Vec<u8> {
        let content: Vec<u8> = numbers
            .iter()
            .flat_map(|number| {
                let mut value = number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                if value.first().is_none_or(|first| first & 0x80 != 0) {
                    value.insert(0, 0);
                }
                [vec![2, value.len() as u8], value].concat()
            })
            .collect();
        [vec![0x30, content.len() as u8], content].concat()
    }

    const SECRET: &str = "F220266E1105BFE3083E03EC7A3A654651F45E37167E88600BF257C1";
    const KEY: &str = "0400CF08DA5AD719E42707FA431292DEA11244D64FC51610D94B130D6CEEAB6F3DEBE455E3DBF85416F7030CBD94F34F2D\
                       6F232C69F3C1385A";

    #[test]
    fn signatures_of_rfc_6979_a_2_4_are_verified() {
        let vectors = [
            (
                &SHA256,
                "61AA3DA010E8E8406C656BC477A7A7189895E7E840CDFE8FF42307BA",
                "BC814050DAB5D23770879494F9E0A680DC1AF7161991BDE692B10101",
            ),
            (
                &SHA384,
                "0B115E5E36F0F9EC81F1325A5952878D745E19D7BB3EABFABA77E953",
                "830F34CCDFE826CCFDC81EB4129772E20E122348A2BBD889A1B1AF1D",
            ),
            (
                &SHA512,
                "074BD1D979D5F32BF958DDC61E4FB4872ADCAFEB2256497CDAC30397",
                "A4CECA196C3D5A1FF31027B33185DC8EE43F288B21AB342E5D8EB084",
            ),
        ];
        assert_eq!(signing::public_key(&hex(SECRET)), hex(KEY));
        for (algorithm, r, s) in vectors {
            let hash = digest(algorithm, b"sample");
            let signature = der(&[hex(r), hex(s)]);
            assert!(verify(&hex(KEY), hash.as_ref(), &signature));
            assert!(!verify(&hex(KEY), digest(algorithm, b"test").as_ref(), &signature));
            for bit in (0..8 * signature.len()).step_by(7) {
                let mut forged = signature.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert!(!verify(&hex(KEY), hash.as_ref(), &forged), "bit {bit}");
            }
        }
    }

    #[test]
    fn own_signatures_are_verified_under_their_key_only() {
        for seed in 0..40_u8 {
            let secret = [seed.wrapping_mul(37) | 1; 28];
            let hash = digest(&SHA256, &[seed]);
            let signature = signing::sign(&secret, hash.as_ref());
            assert!(verify(&signing::public_key(&secret), hash.as_ref(), &signature), "{seed}");
            assert!(!verify(&hex(KEY), hash.as_ref(), &signature), "{seed}");
        }
    }

    #[test]
    fn malformed_keys_and_signatures_are_refused() {
        let hash = digest(&SHA256, b"sample");
        let good = signing::sign(&hex(SECRET), hash.as_ref());
        assert!(verify(&hex(KEY), hash.as_ref(), &good));
        let order = hex("FFFFFFFFFFFFFFFFFFFFFFFFFFFF16A2E0B8F03E13DD29455C5C2A3D");
        for bad in [
            der(&[vec![], vec![1]]),
            der(&[vec![1], vec![]]),
            der(&[order.clone(), vec![1]]),
            der(&[vec![1], order]),
            der(&[vec![1; 29], vec![1]]),
            der(&[vec![1]]),
            der(&[vec![1], vec![1], vec![1]]),
            vec![],
            [&good[..], &[0]].concat(),
        ] {
            assert!(!verify(&hex(KEY), hash.as_ref(), &bad), "{bad:x?}");
        }
        assert!(!verify(&hex(KEY), &[1; 27], &good));
        let mut off_curve = hex(KEY);
        off_curve[56] ^= 1;
        let mut above = hex(KEY);
        above[1..29].fill(0xff);
        for key in [off_curve, above, vec![4; 57], vec![0], vec![], hex(KEY)[..56].to_vec()] {
            assert!(!verify(&key, hash.as_ref(), &good));
        }
    }
}
