//! What a client shows: `tg_<id>_<secret>`. The id finds the key; the secret is 192 random bits, so a plain SHA-256 of
//! the text is as good as a slow password hash, and costs nothing on the path.

use std::fmt;

use sha2::{Digest, Sha256};

/// How every key begins, so that people and secret scanners know one when they see it.
pub const PREFIX: &str = "tg_";

/// Hex digits of an id.
const ID_DIGITS: usize = 12;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 24;

/// Length of every key in bytes.
const LENGTH: usize = PREFIX.len() + ID_DIGITS + 1 + 2 * SECRET_BYTES;

/// A whole key, as it is told to a person once. It prints as a mask; see [`Self::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

/// The system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers ({0})")]
pub struct NoRandomness(getrandom::Error);

impl KeyText {
    /// Makes a secret for a key with this id.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn new(id: &str) -> Result<Self, NoRandomness> {
        let secret: [u8; SECRET_BYTES] = random()?;
        Ok(Self(format!("{PREFIX}{id}_{}", hex(&secret))))
    }

    /// The key itself, for the one place that tells it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub(super) fn sha256(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(***)")
    }
}

/// Makes an id.
pub(super) fn new_id() -> Result<String, NoRandomness> {
    let id: [u8; ID_DIGITS / 2] = random()?;
    Ok(hex(&id))
}

/// The id in what a client shows; `None` if that cannot be a tollgate key.
pub(super) fn id_in(shown: &[u8]) -> Option<&str> {
    if shown.len() != LENGTH {
        return None;
    }
    let text = std::str::from_utf8(shown).ok()?;
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    (is_id(id) && secret.bytes().all(is_hex)).then_some(id)
}

/// Whether a text can be a key's id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(is_hex)
}

/// What is stored of a key.
pub(super) fn sha256(shown: &[u8]) -> [u8; 32] {
    Sha256::digest(shown).into()
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Reads lower-case hex digits.
pub(super) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(is_hex) {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

fn random<const COUNT: usize>() -> Result<[u8; COUNT], NoRandomness> {
    let mut bytes = [0; COUNT];
    getrandom::getrandom(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_carries_its_id_and_192_random_bits() {
        let id = new_id().expect("random numbers");
        let (one, other) = (
            KeyText::new(&id).expect("random numbers"),
            KeyText::new(&id).expect("random numbers"),
        );
        assert_ne!(one, other);
        assert_ne!(one.sha256(), other.sha256());
        assert_eq!(id_in(one.reveal().as_bytes()), Some(id.as_str()));
        let secret = one.reveal().rsplit('_').next().expect("a last part");
        assert_eq!(secret.len() * 4, 192);
        assert!(!format!("{one:?}").contains(secret));
    }

    #[test]
    fn what_is_no_tollgate_key_has_no_id() {
        let key = format!("tg_0123456789ab_{}", "0".repeat(48));
        assert_eq!(id_in(key.as_bytes()), Some("0123456789ab"));
        for other in [
            "",
            "tg_",
            "sk-ant-api03-x",
            &key[1..],
            &format!("{key}0"),
            &key.replace("tg_", "tq_"),
            &key.replace('a', "A"),
            &format!("tg_0123456789ab0{}", "0".repeat(48)),
        ] {
            assert_eq!(id_in(other.as_bytes()), None, "{other}");
        }
        assert_eq!(id_in(&[0xff; LENGTH]), None);
    }

    #[test]
    fn hashes_read_back_from_their_digits() {
        let hash = sha256(b"abc");
        assert!(hex(&hash).starts_with("ba7816bf8f01cfea"));
        assert_eq!(from_hex(&hex(&hash)), Some(hash));
        assert_eq!(from_hex("ba78"), None);
        assert_eq!(from_hex(&"é".repeat(32)), None);
    }
}
