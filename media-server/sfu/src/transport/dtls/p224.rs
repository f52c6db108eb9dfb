//! Verifies ECDSA signatures on P-224 (FIPS 186-4 §6.4, D.1.2.2), the one curve of peers that aws-lc does not have.
//!
//! Key, message and signature are public, and there is no signing: nothing here is secret, and nothing needs constant
//! time. Numbers have four limbs, least significant first, and are multiplied in Montgomery form; points are Jacobian. The
//! RustCrypto crate would rebuild half of the dependency tree with other features, for one verification a session.

use x509_cert::der::asn1::{SequenceRef, UintRef};
use x509_cert::der::{Decode, Reader, SliceReader};

/// A number below 2^224.
type Number = [u64; 4];

/// Bytes of a coordinate, and of the part of a hash that is signed.
const BYTES: usize = 28;
const ONE: Number = [1, 0, 0, 0];

const P: Field = Field::new([1, 0xffff_ffff_0000_0000, 0xffff_ffff_ffff_ffff, 0xffff_ffff]);
const N: Field = Field::new([0x13dd_2945_5c5c_2a3d, 0xffff_16a2_e0b8_f03e, 0xffff_ffff_ffff_ffff, 0xffff_ffff]);
const B: Number = [0x270b_3943_2355_ffb4, 0x5044_b0b7_d7bf_d8ba, 0x0c04_b3ab_f541_3256, 0xb405_0a85];
const GENERATOR_X: Number = [0x3432_80d6_115c_1d21, 0x4a03_c1d3_56c2_1122, 0x6bb4_bf7f_3213_90b9, 0xb70e_0cbd];
const GENERATOR_Y: Number = [0x44d5_8199_8500_7e34, 0xcd43_75a0_5a07_4764, 0xb5f7_23fb_4c22_dfe6, 0xbd37_6388];

/// Verifies a signature in DER over a hash of at least 28 bytes. The key is an uncompressed point.
pub(super) fn verify(key: &[u8], hash: &[u8], signature: &[u8]) -> bool {
    let verified = || {
        let key = Point::from_bytes(key)?;
        let (r, s) = parse(signature)?;
        let inverse = N.invert(&N.enter(&s));
        let hash = N.enter(&reduce(number(hash.get(..BYTES)?)?, &N.modulus));
        let (u1, u2) = (N.leave(&N.multiply(&hash, &inverse)), N.leave(&N.multiply(&N.enter(&r), &inverse)));
        let x = Point::combine(&u1, &u2, &key).x()?;
        Some(reduce(x, &N.modulus) == r)
    };
    verified().unwrap_or(false)
}

/// The two numbers of a signature, both above 0 and below the order of the curve.
fn parse(signature: &[u8]) -> Option<(Number, Number)> {
    let sequence = <&SequenceRef>::from_der(signature).ok()?;
    let mut reader = SliceReader::new(sequence.as_bytes()).ok()?;
    let mut next = || {
        let value = number(UintRef::decode(&mut reader).ok()?.as_bytes())?;
        (value != [0; 4] && is_below(&value, &N.modulus)).then_some(value)
    };
    let numbers = (next()?, next()?);
    reader.is_finished().then_some(numbers)
}

/// A point of the curve: (x/z², y/z³) in Montgomery form; z is 0 at infinity.
#[derive(Clone, Copy)]
struct Point {
    x: Number,
    y: Number,
    z: Number,
}

impl Point {
    const INFINITY: Point = Point { x: ONE, y: ONE, z: [0; 4] };

    fn new(x: &Number, y: &Number) -> Point {
        Point { x: P.enter(x), y: P.enter(y), z: P.enter(&ONE) }
    }

    /// A point that is on the curve: y² = x³ - 3x + b.
    fn from_bytes(bytes: &[u8]) -> Option<Point> {
        let (x, y) = bytes.strip_prefix(&[4]).filter(|bytes| bytes.len() == 2 * BYTES)?.split_at(BYTES);
        let (x, y) = (number(x)?, number(y)?);
        let point = Point::new(&x, &y);
        let cube = P.multiply(&P.square(&point.x), &point.x);
        let right = P.add(&P.subtract(&cube, &P.times(3, &point.x)), &P.enter(&B));
        let is_valid = is_below(&x, &P.modulus) && is_below(&y, &P.modulus) && P.square(&point.y) == right;
        is_valid.then_some(point)
    }

    /// `u1` times the generator plus `u2` times `key`.
    fn combine(u1: &Number, u2: &Number, key: &Point) -> Point {
        let generator = Point::new(&GENERATOR_X, &GENERATOR_Y);
        let both = generator.add(key);
        (0..8 * BYTES).rev().fold(Point::INFINITY, |sum, bit| {
            let sum = sum.double();
            match (has_bit(u1, bit), has_bit(u2, bit)) {
                (true, true) => sum.add(&both),
                (true, false) => sum.add(&generator),
                (false, true) => sum.add(key),
                (false, false) => sum,
            }
        })
    }

    fn double(&self) -> Point {
        let (delta, gamma) = (P.square(&self.z), P.square(&self.y));
        let beta = P.multiply(&self.x, &gamma);
        let slope = P.multiply(&P.subtract(&self.x, &delta), &P.add(&self.x, &delta));
        let alpha = P.times(3, &slope);
        let x = P.subtract(&P.square(&alpha), &P.times(8, &beta));
        let sum = P.square(&P.add(&self.y, &self.z));
        let z = P.subtract(&P.subtract(&sum, &gamma), &delta);
        let y = P.multiply(&alpha, &P.subtract(&P.times(4, &beta), &x));
        Point { x, y: P.subtract(&y, &P.times(8, &P.square(&gamma))), z }
    }

    fn add(&self, other: &Point) -> Point {
        if self.z == [0; 4] {
            return *other;
        }
        if other.z == [0; 4] {
            return *self;
        }
        let (z1, z2) = (P.square(&self.z), P.square(&other.z));
        let (u1, u2) = (P.multiply(&self.x, &z2), P.multiply(&other.x, &z1));
        let s1 = P.multiply(&self.y, &P.multiply(&other.z, &z2));
        let s2 = P.multiply(&other.y, &P.multiply(&self.z, &z1));
        let (h, r) = (P.subtract(&u2, &u1), P.subtract(&s2, &s1));
        if h == [0; 4] {
            return if r == [0; 4] { self.double() } else { Point::INFINITY };
        }
        let h2 = P.square(&h);
        let (h3, v) = (P.multiply(&h, &h2), P.multiply(&u1, &h2));
        let x = P.subtract(&P.subtract(&P.square(&r), &h3), &P.times(2, &v));
        let y = P.subtract(&P.multiply(&r, &P.subtract(&v, &x)), &P.multiply(&s1, &h3));
        Point { x, y, z: P.multiply(&h, &P.multiply(&self.z, &other.z)) }
    }

    /// The affine x; `None` at infinity.
    fn x(&self) -> Option<Number> {
        (self.z != [0; 4]).then(|| P.leave(&P.multiply(&self.x, &P.square(&P.invert(&self.z)))))
    }
}

/// Arithmetic modulo an odd prime below 2^224, in Montgomery form with R = 2^256.
struct Field {
    modulus: Number,
    /// -1/modulus mod 2^64.
    negated_inverse: u64,
    /// R² mod modulus.
    r2: Number,
}

impl Field {
    const fn new(modulus: Number) -> Field {
        let (mut inverse, mut r2) = (1_u64, ONE);
        let mut step = 0;
        while step < 512 {
            if step < 6 {
                // Newton: each step doubles the number of right bits.
                inverse = inverse.wrapping_mul(2_u64.wrapping_sub(modulus[0].wrapping_mul(inverse)));
            }
            r2 = reduce(sum(&r2, &r2), &modulus);
            step += 1;
        }
        Field { modulus, negated_inverse: inverse.wrapping_neg(), r2 }
    }

    fn enter(&self, value: &Number) -> Number {
        self.multiply(value, &self.r2)
    }

    fn leave(&self, value: &Number) -> Number {
        self.multiply(value, &ONE)
    }

    fn add(&self, a: &Number, b: &Number) -> Number {
        reduce(sum(a, b), &self.modulus)
    }

    fn subtract(&self, a: &Number, b: &Number) -> Number {
        if is_below(a, b) { difference(&sum(a, &self.modulus), b) } else { difference(a, b) }
    }

    fn times(&self, factor: usize, value: &Number) -> Number {
        (1..factor).fold(*value, |sum, _| self.add(&sum, value))
    }

    fn square(&self, value: &Number) -> Number {
        self.multiply(value, value)
    }

    /// a·b/R.
    fn multiply(&self, a: &Number, b: &Number) -> Number {
        let mut total = [0_u64; 5];
        for limb in a {
            let mut carry = 0_u128;
            for (total, b) in total.iter_mut().zip(b) {
                carry += u128::from(*total) + u128::from(*limb) * u128::from(*b);
                *total = carry as u64;
                carry >>= 64;
            }
            // Stays below 2^64, as the modulus is below 2^224.
            total[4] += carry as u64;
            let factor = total[0].wrapping_mul(self.negated_inverse);
            let mut carry = 0_u128;
            for (total, modulus) in total.iter_mut().zip(&self.modulus) {
                carry += u128::from(*total) + u128::from(factor) * u128::from(*modulus);
                *total = carry as u64;
                carry >>= 64;
            }
            // The lowest limb is 0 now.
            total = [total[1], total[2], total[3], total[4] + carry as u64, 0];
        }
        reduce([total[0], total[1], total[2], total[3]], &self.modulus)
    }

    /// The inverse by Fermat; 0 of 0.
    fn invert(&self, value: &Number) -> Number {
        let exponent = difference(&self.modulus, &[2, 0, 0, 0]);
        (0..8 * BYTES).rev().fold(self.enter(&ONE), |power, bit| {
            let power = self.square(&power);
            if has_bit(&exponent, bit) { self.multiply(&power, value) } else { power }
        })
    }
}

/// At most 28 bytes, most significant first.
fn number(bytes: &[u8]) -> Option<Number> {
    let mut padded = [0; 32];
    padded[32_usize.checked_sub(bytes.len()).filter(|start| *start >= 32 - BYTES)?..].copy_from_slice(bytes);
    let mut number = [0; 4];
    for (limb, bytes) in number.iter_mut().rev().zip(padded.chunks_exact(8)) {
        *limb = bytes.iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    Some(number)
}

fn has_bit(number: &Number, bit: usize) -> bool {
    number[bit / 64] >> (bit % 64) & 1 == 1
}

/// `value`, which is below twice the modulus, less the modulus where it is not below it.
const fn reduce(value: Number, modulus: &Number) -> Number {
    if is_below(&value, modulus) { value } else { difference(&value, modulus) }
}

const fn is_below(a: &Number, b: &Number) -> bool {
    let mut limb = 4;
    while limb > 0 {
        limb -= 1;
        if a[limb] != b[limb] {
            return a[limb] < b[limb];
        }
    }
    false
}

const fn sum(a: &Number, b: &Number) -> Number {
    let (mut total, mut carry, mut limb) = ([0; 4], 0_u128, 0);
    while limb < 4 {
        carry += a[limb] as u128 + b[limb] as u128;
        total[limb] = carry as u64;
        carry >>= 64;
        limb += 1;
    }
    total
}

const fn difference(a: &Number, b: &Number) -> Number {
    let (mut total, mut borrow, mut limb) = ([0; 4], false, 0);
    while limb < 4 {
        let (first, under) = a[limb].overflowing_sub(b[limb]);
        let (second, under_again) = first.overflowing_sub(borrow as u64);
        (total[limb], borrow) = (second, under || under_again);
        limb += 1;
    }
    total
}

/// Public keys and signatures for the peers of tests.
#[cfg(test)]
pub(in crate::transport) mod signing {
    use super::*;

    fn bytes(number: &Number) -> Vec<u8> {
        number.iter().rev().flat_map(|limb| limb.to_be_bytes()).skip(4).collect()
    }

    /// The uncompressed public key of a secret of 28 bytes.
    pub(in crate::transport) fn public_key(secret: &[u8]) -> Vec<u8> {
        let point = Point::combine(&number(secret).unwrap(), &[0; 4], &Point::INFINITY);
        let inverse = P.invert(&point.z);
        let y = P.leave(&P.multiply(&point.y, &P.multiply(&P.square(&inverse), &inverse)));
        [&[4][..], &bytes(&point.x().unwrap()), &bytes(&y)].concat()
    }

    /// The two numbers of a signature, with a nonce of 28 bytes.
    pub(in crate::transport) fn sign(secret: &[u8], hash: &[u8], nonce: &[u8]) -> [Vec<u8>; 2] {
        let nonce = number(nonce).unwrap();
        let r = reduce(Point::combine(&nonce, &[0; 4], &Point::INFINITY).x().unwrap(), &N.modulus);
        let hash = N.enter(&reduce(number(&hash[..BYTES]).unwrap(), &N.modulus));
        let product = N.multiply(&N.enter(&r), &N.enter(&number(secret).unwrap()));
        let s = N.leave(&N.multiply(&N.invert(&N.enter(&nonce)), &N.add(&hash, &product)));
        [bytes(&r), bytes(&s)]
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
            let (secret, nonce) = ([seed.wrapping_mul(37) | 1; 28], [seed.wrapping_mul(91) ^ 0x5a; 28]);
            let hash = digest(&SHA256, &[seed]);
            let signature = der(&signing::sign(&secret, hash.as_ref(), &nonce));
            assert!(verify(&signing::public_key(&secret), hash.as_ref(), &signature), "{seed}");
            assert!(!verify(&hex(KEY), hash.as_ref(), &signature), "{seed}");
        }
    }

    #[test]
    fn malformed_keys_and_signatures_are_refused() {
        let hash = digest(&SHA256, b"sample");
        let good = der(&signing::sign(&hex(SECRET), hash.as_ref(), &[7; 28]));
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
