//! RSA keys as OpenSSH keeps them: without two of the numbers that signing wants.

use ring::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};

use crate::ssh::wire::Reader;

/// Reads the numbers of a key; `None` where they are no key.
pub(super) fn read(from: &mut Reader<'_>) -> Option<KeyPair> {
    let (n, e, d) = (from.integer()?, from.integer()?, from.integer()?);
    let (q_inv, p, q) = (from.integer()?, from.integer()?, from.integer()?);
    let exponent = |prime: &[u8]| {
        let mut modulus = prime.to_vec();
        // Primes are odd.
        *modulus.last_mut()? &= !1;
        remainder(d, &modulus)
    };
    let (d_p, d_q) = (exponent(p)?, exponent(q)?);
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: d_p.as_slice(),
        dQ: d_q.as_slice(),
        qInv: q_inv,
    };
    KeyPair::from_components(&components).ok()
}

/// Returns `number` modulo `modulus`, as long as the latter, bit by bit: this is done once for each
/// key. `None` where the modulus is 0, or either has more than 8192 bits.
fn remainder(number: &[u8], modulus: &[u8]) -> Option<Vec<u8>> {
    const MAX_BYTES: usize = 1024;
    if modulus.iter().all(|byte| *byte == 0) || number.len().max(modulus.len()) > MAX_BYTES {
        return None;
    }
    // One byte more, as doubling may overflow before the modulus is taken off.
    let modulus = [&[0], modulus].concat();
    let mut rest = vec![0; modulus.len()];
    for byte in number {
        for bit in (0..8).rev() {
            let mut carry = (byte >> bit) & 1;
            for place in rest.iter_mut().rev() {
                let doubled = u16::from(*place) << 1 | u16::from(carry);
                [carry, *place] = doubled.to_be_bytes();
            }
            if rest >= modulus {
                subtract(&mut rest, &modulus);
            }
        }
    }
    rest.remove(0);
    Some(rest)
}

/// Takes `other`, which is as long and not greater, off `number`.
fn subtract(number: &mut [u8], other: &[u8]) {
    let mut borrow = false;
    for (place, other) in number.iter_mut().zip(other).rev() {
        let (less, first) = place.overflowing_sub(*other);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        *place = less;
        borrow = first || second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_are_those_of_whole_numbers() {
        for (number, modulus) in [
            (0_u64, 7_u64),
            (6, 7),
            (7, 7),
            (u64::MAX, 1),
            (u64::MAX, 2),
            (u64::MAX, u64::MAX - 1),
            (0x0123_4567_89ab_cdef, 0xfedc_ba98),
        ] {
            let bytes = remainder(&number.to_be_bytes(), &modulus.to_be_bytes()).unwrap();
            assert_eq!(bytes, (number % modulus).to_be_bytes());
        }
        assert_eq!(remainder(&[1], &[0, 0]), None);
        assert_eq!(remainder(&[1], &[]), None);
    }
}
